//! What a flow can do to the carrier that it runs over.

use std::fmt::Display;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::budget::Budget;

/// A handle to a carrier. A clone is the same.
#[derive(Debug, Clone)]
pub struct Carrier {
    close: CancellationToken,
    share: Option<Arc<Budget>>,
    datagrams: Arc<Budget>,
}

/// Most bytes of datagrams that wait for one carrier's other side, where nobody says otherwise.
const DATAGRAMS: u64 = 16 << 20;

impl Default for Carrier {
    fn default() -> Self {
        Self::new(CancellationToken::new())
    }
}

impl Carrier {
    /// The carrier that ends when `close` is cancelled.
    pub fn new(close: CancellationToken) -> Self {
        Self {
            close,
            share: None,
            datagrams: Arc::new(Budget::new(DATAGRAMS)),
        }
    }

    /// Its flows hold no more together than `share`, and its datagrams no more than `datagrams`, whatever
    /// the process has.
    #[must_use]
    pub fn within(self, share: Arc<Budget>, datagrams: Arc<Budget>) -> Self {
        Self {
            share: Some(share),
            datagrams,
            ..self
        }
    }

    pub(crate) fn datagrams(&self) -> Arc<Budget> {
        Arc::clone(&self.datagrams)
    }

    pub(crate) fn share(&self) -> Option<Arc<Budget>> {
        self.share.clone()
    }

    /// The other side breaks the protocol: nothing that comes over the carrier can be trusted any more.
    /// Its other flows go on over another one.
    pub fn close_for(&self, violation: &dyn Display) {
        tracing::warn!(%violation, "the other side breaks the flow protocol; its carrier is closed");
        self.close.cancel();
    }
}
