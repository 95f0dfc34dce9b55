//! The pods behind a Service's port, whether it is redirected or not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::api::{ServiceApi, ServiceName};
use super::notices::Notices;
use super::observed::Observed;
use super::port::{PortRef, api_ports};
use super::slices;
use crate::backoff::ApiBackoff;

/// The shortest time between two looks at a Service whose pods change all the time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at a Service without a selector: nothing of it is watched.
const LOOK: Duration = Duration::from_secs(3);

/// Says where connections of a Service's port go when nobody intercepts it, as that changes: the
/// addresses of ready pods, with the port that each of them serves it on. Empty without any, or
/// without the Service. Ends when nobody listens; it may be dropped at any point.
pub async fn follow_backends(
    client: &Client,
    service: &ServiceName,
    port: &PortRef,
    backends: watch::Sender<Option<Arc<[SocketAddr]>>>,
) {
    let api = ServiceApi::new(client, service.clone());
    let mut delays = ApiBackoff::new();
    let mut notices: Option<Notices> = None;
    while !backends.is_closed() {
        let next = Instant::now() + SHORTEST_PAUSE;
        let again = match api.observe().await {
            Ok(read) => {
                delays = ApiBackoff::new();
                let found: Arc<[SocketAddr]> = behind(&read.observed, port).into();
                backends.send_if_modified(|known| {
                    let changed = known.as_ref() != Some(&found);
                    *known = Some(found);
                    changed
                });
                match read.observed.selector() {
                    Some(selector) => {
                        if !notices.as_ref().is_some_and(|one| one.are_of(&selector)) {
                            notices = Some(Notices::watch(client, service, &selector));
                        }
                        None
                    }
                    None => {
                        notices = None;
                        Some(LOOK)
                    }
                }
            }
            // Those that are known may do.
            Err(error) => {
                tracing::debug!(%service, %error, "can't look for pods");
                Some(delays.delay())
            }
        };
        tokio::select! {
            () = Notices::next(&mut notices) => sleep_until(next).await,
            () = after(again) => {}
            () = backends.closed() => return,
        }
        if let Some(notices) = &mut notices {
            notices.take_all();
        }
    }
}

async fn after(pause: Option<Duration>) {
    match pause {
        Some(pause) => sleep(pause).await,
        None => futures::future::pending().await,
    }
}

fn behind(observed: &Observed, port: &PortRef) -> Vec<SocketAddr> {
    let Some(found) = &observed.service else {
        return Vec::new();
    };
    // Its name may have been changed since.
    let Some(port) = api_ports(found).iter().find(|current| port.is(current)) else {
        return Vec::new();
    };
    let wanted = slices::wanted(found, &observed.pods, &BTreeMap::new(), &observed.zones());
    slices::destinations(&wanted, &PortRef::of(port))
}
