//! Opening a flow over whichever carrier works.

use kdev_flow::open::{OpenError, Opened, open};
use kdev_proto::v1::FlowOpen;
use kdev_proto::v1::flow_failed::Reason;
use tokio::time::{Duration, Instant, timeout, timeout_at};

use crate::carriers::{Carriers, Place};

/// How long a new flow may be opened again and again while carriers break under it, or there is none.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts, unless a carrier comes or goes before.
pub const BETWEEN: Duration = Duration::from_millis(100);

/// Opens a flow, for as long as `patience`: while all carriers are being made again it waits, it
/// doesn't fail. Each attempt makes its own `request`.
///
/// # Errors
///
/// What the far end said; [`Reason::HostUnreachable`] when no carrier worked in time.
pub async fn open_flow(
    mut request: impl FnMut() -> FlowOpen,
    carriers: &Carriers,
    patience: Duration,
) -> Result<(Place, Opened), Reason> {
    let end = Instant::now() + patience;
    let mut changes = carriers.changes();
    while Instant::now() < end {
        let Ok(place) = timeout_at(end, carriers.place()).await else {
            break;
        };
        let mut calls = place.calls();
        match open(request(), |frames| calls.flow(frames)).await {
            Ok(opened) => return Ok((place, opened)),
            Err(OpenError::Failed(failed)) => {
                tracing::debug!(reason = %failed, "flow not opened");
                return Err(failed.reason);
            }
            Err(OpenError::Violation) => place.carrier().close_for(&OpenError::Violation),
            // Nothing was sent yet: another carrier is as good, once the pool has noticed.
            Err(OpenError::Carrier(status)) => {
                tracing::debug!(error = status.message(), "carrier broke under a new flow");
                carriers.doubt(&place);
                changes.mark_unchanged();
                let _ = timeout(BETWEEN, changes.changed()).await;
            }
        }
    }
    Err(Reason::HostUnreachable)
}
