//! What a flow can do to the carrier that it runs over.

use std::fmt::Display;

use tokio_util::sync::CancellationToken;

/// A handle to a carrier. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Carrier(CancellationToken);

impl Carrier {
    /// The carrier that ends when `close` is cancelled.
    pub fn new(close: CancellationToken) -> Self {
        Self(close)
    }

    /// The other side breaks the protocol: nothing that comes over the carrier can be trusted any more.
    /// Its other flows go on over another one.
    pub fn close_for(&self, violation: &dyn Display) {
        tracing::warn!(%violation, "the other side breaks the flow protocol; its carrier is closed");
        self.0.cancel();
    }
}
