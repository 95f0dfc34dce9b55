//! Where requests go, as this crate asks for it.

use std::hash::Hash;

use kdev_rules::Head;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::DialError;

/// Where requests go, and how to get there.
pub trait Ways: Send + Sync + 'static {
    /// A connection to a destination. It is shut down when it ends in order, and only dropped otherwise.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// A destination that is not the pods: whose intercept it is.
    type Key: Clone + Eq + Hash + Send + Sync + 'static;

    /// Whose a request is; none is the pods'. Asked for each request, as rules change while connections live.
    fn route(&self, head: &Head<'_>) -> Option<Self::Key>;

    /// Connects to a destination, or to the pods. Takes no longer than a client may wait.
    ///
    /// # Errors
    ///
    /// What clients are told, where the destination isn't the pods.
    fn dial(
        &self,
        to: Option<&Self::Key>,
    ) -> impl Future<Output = Result<Self::Stream, DialError>> + Send;
}
