//! What goes wrong, and where.

use std::io;
use std::sync::Arc;

/// A destination that can't be reached.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{body}")]
pub struct DialError {
    body: Arc<str>,
    to_pods: bool,
}

impl DialError {
    /// One that tells clients this text: who it is that answers instead, what failed, and whom to ask.
    pub fn new(body: impl Into<Arc<str>>) -> Self {
        Self {
            body: body.into(),
            to_pods: false,
        }
    }

    /// The same, where the pods take what the destination doesn't.
    #[must_use]
    pub fn pass_to_pods(self) -> Self {
        Self {
            to_pods: true,
            ..self
        }
    }

    /// Whether the pods take it.
    pub(crate) fn is_for_pods(&self) -> bool {
        self.to_pods
    }

    /// What clients are told.
    pub fn body(&self) -> &str {
        &self.body
    }
}

/// Why a client's connection didn't end in order; it should be reset.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// The client's connection broke.
    #[error("the client's connection broke")]
    Client(#[source] io::Error),
    /// The connection to a destination broke.
    #[error("the connection to the destination broke")]
    Upstream(#[source] io::Error),
    /// One side of a connection that is passed on as it is broke.
    #[error("a connection that is passed on as it is broke")]
    Raw(#[source] io::Error),
    /// The destination of a connection that can't be told so can't be reached.
    #[error("the destination can't be reached")]
    Destination(#[source] DialError),
    /// The pods can't be reached.
    #[error("the pods can't be reached")]
    Pods(#[source] DialError),
    /// The client's HTTP/2 connection broke, or broke the protocol.
    #[error("the client's HTTP/2 connection broke")]
    Http2(#[source] h2::Error),
}
