//! Where requests go, as this crate asks for it.

use std::hash::Hash;
use std::sync::Arc;

use kdev_rules::Head;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::DialError;
use crate::limits::Limit;
use crate::tap::Tapped;

/// What will be written first on a connection, as far as that is known.
#[derive(Debug, Clone, Copy)]
pub struct First<'a> {
    /// It.
    pub bytes: &'a [u8],
    /// A destination that hears it twice does no more than one that hears it once.
    pub repeatable: bool,
}

impl First<'_> {
    /// Nothing is known.
    pub const NOTHING: Self = Self {
        bytes: &[],
        repeatable: true,
    };
}

/// Where requests go, and how to get there.
pub trait Ways: Send + Sync + 'static {
    /// A connection to a destination. It is shut down when it ends in order, and only dropped otherwise.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// A destination that is not the pods: whose intercept it is.
    type Key: Clone + Eq + Hash + Send + Sync + 'static;
    /// The client speaks to somebody else, and is only overheard: it keeps to what that one allows it.
    const OVERHEARD: bool = false;

    /// Whose a request is; none is the pods'. Asked for each request, as rules change while connections live.
    fn route(&self, head: &Head<'_>) -> Option<Self::Key>;

    /// Waits until all that clients have should come to an end, in their own time. Cancel safe.
    fn ending(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// A client has reached a limit.
    fn handle_limit(&self, limit: Limit) {
        let _ = limit;
    }

    /// A destination was asked in HTTP/2, and didn't answer so; what clients are told.
    fn not_http2(&self, to: &Self::Key) -> DialError {
        let _ = to;
        DialError::new("kdev: the destination doesn't speak HTTP/2\n")
    }

    /// Who gets a copy of a request as well, and doesn't answer it; of what isn't HTTP there is no head.
    fn copies(&self, head: Option<&Head<'_>>) -> Vec<Self::Key> {
        let _ = head;
        Vec::new()
    }

    /// Serves a copy of what a client says, in a task of its own, by [`Tapped::serve`]. Its end isn't this
    /// connection's.
    fn spawn_copy(self: &Arc<Self>, copy: Tapped, to: Self::Key) {
        drop((copy, to));
    }

    /// Runs a task that has to do with copies for `to`, as long as there may be any. It outlives this connection.
    fn spawn(&self, to: &Self::Key, task: impl Future<Output = ()> + Send + 'static) {
        drop((to, task));
    }

    /// Connects to a destination, or to the pods. Takes no longer than a client may wait. What is written `first` may travel
    /// with the question; it is written all the same.
    ///
    /// # Errors
    ///
    /// What clients are told, where the destination isn't the pods. One that may have heard what isn't repeatable isn't the
    /// pods' either.
    fn dial(
        &self,
        to: Option<&Self::Key>,
        first: First<'_>,
    ) -> impl Future<Output = Result<Self::Stream, DialError>> + Send;
}
