//! Why a forward can't be opened, and why one ended.

use std::io;

use thiserror::Error;
use tokio_tungstenite::tungstenite;

use super::channel::{PodError, PodErrorKind, ProtocolError};
use super::spdy::SpdyError;
use crate::client::{ApiError, Forbidden};

/// Why a port-forward couldn't be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The user may not forward ports there.
    #[error(
        "can't open a port-forward to pod {pod}: {forbidden}. Ask the cluster's administrator for get and create on pods/portforward"
    )]
    Forbidden {
        /// Namespace and name of the pod.
        pod: String,
        /// The missing right.
        forbidden: Box<Forbidden>,
        /// The failed call.
        source: Box<ApiError>,
    },
    /// There is no such pod.
    #[error("can't open a port-forward: there is no pod {pod}")]
    NoPod {
        /// Namespace and name of the pod.
        pod: String,
        /// The failed call.
        source: Box<ApiError>,
    },
    /// Something on the way doesn't speak WebSocket.
    #[error(
        "can't open a port-forward to pod {pod}: {message}. A proxy or gateway in front of the API server may not let WebSocket through"
    )]
    NoWebSocket {
        /// Namespace and name of the pod.
        pod: String,
        /// What the server answered.
        message: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// Any other failure: the API server or the pod's kubelet can't be reached, the credentials
    /// aren't accepted, ...
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Why a forward ended that nobody ended on purpose.
#[derive(Debug, Error)]
pub enum ForwardError {
    /// The far end reports an error.
    #[error("the port-forward ended: {0}")]
    Pod(#[from] PodError),
    /// The connection to the API server broke.
    #[error("the connection to the API server broke: {0}")]
    Lost(#[source] Box<tungstenite::Error>),
    /// The far end breaks the protocol.
    #[error("the API server's port-forward makes no sense: {0}")]
    Protocol(#[from] ProtocolError),
    /// The same, over SPDY.
    #[error("the API server's port-forward makes no sense: {0}")]
    Spdy(#[from] SpdyError),
    /// The local end can't be read or written.
    #[error("the local end of the port-forward broke: {0}")]
    Local(#[source] io::Error),
}

impl From<tungstenite::Error> for ForwardError {
    fn from(error: tungstenite::Error) -> Self {
        Self::Lost(Box::new(error))
    }
}

impl From<ForwardError> for io::Error {
    fn from(error: ForwardError) -> Self {
        let kind = match &error {
            ForwardError::Pod(PodError {
                kind: PodErrorKind::Refused,
                ..
            }) => io::ErrorKind::ConnectionRefused,
            ForwardError::Pod(_) | ForwardError::Lost(_) => io::ErrorKind::ConnectionReset,
            ForwardError::Protocol(_) | ForwardError::Spdy(_) => io::ErrorKind::InvalidData,
            ForwardError::Local(source) => source.kind(),
        };
        io::Error::new(kind, error)
    }
}
