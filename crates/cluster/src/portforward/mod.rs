//! Port-forwards through the API server, made to carry much.
//!
//! One forward is one connection to the API server, which hands the bytes to the pod's kubelet: SPDY/3.1
//! where that is spoken, as it costs everyone on the way least, else a WebSocket (`v4.channel.k8s.io`).
//! Opening one costs tens of milliseconds: open ahead of need.

mod channel;
mod error;
mod forward;
#[cfg(fuzzing)]
pub mod fuzzing;
mod pump;
mod spdy;
mod stream;

use std::fmt;
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::core::Request;
use kube::{Client, Resource};
use tokio_tungstenite::WebSocketStream;

pub use self::channel::{PodError, PodErrorKind, ProtocolError};
pub use self::error::{ForwardError, OpenError};
pub use self::forward::{Forward, ForwardIo};
pub use self::pump::End;
pub use self::spdy::{SpdyError, SpdyStream};
pub use self::stream::ForwardStream;

use crate::client::{ApiError, ApiFailure, timed_out};

/// How long opening a forward may take.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// The connection to the API server, after the upgrade.
pub type Transport = TokioIo<Upgraded>;

/// A forward that the API server has accepted. Whether the port answers shows with the first bytes.
pub struct OpenedForward<S = Transport> {
    socket: WebSocketStream<S>,
    port: u16,
}

impl<S> fmt::Debug for OpenedForward<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedForward")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Opens a forward to a port of a pod, for at most [`OPEN_TIMEOUT`].
///
/// Returns once the API server has switched to SPDY or WebSocket. The kubelet dials the pod's port
/// afterwards, on its loopback: a port where nobody listens shows as
/// [`PodErrorKind::Refused`] when the forward is used.
///
/// Needs `get` on `pods/portforward` (a WebSocket begins as a GET), from Kubernetes 1.35 on
/// `create` as well.
pub async fn open(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
) -> Result<Forward, OpenError> {
    let spdy = tokio::time::timeout(OPEN_TIMEOUT, spdy::open(client, namespace, pod, port));
    if let Ok(Some(stream)) = spdy.await {
        return Ok(Forward::Spdy(Box::new(stream)));
    }
    let request = Request::new(Pod::url_path(&(), Some(namespace)))
        .portforward(pod, &[port])
        .map_err(kube::Error::BuildRequest);
    let opened = async { client.connect(request?).await };
    let failed = match tokio::time::timeout(OPEN_TIMEOUT, opened).await {
        Ok(Ok(connection)) => {
            return Ok(Forward::WebSocket(Box::new(OpenedForward {
                socket: connection.into_stream(),
                port,
            })));
        }
        Ok(Err(source)) => Some(source),
        Err(_) => None,
    };
    let doing = format!("open a port-forward to pod {namespace}/{pod}");
    Err(match failed {
        Some(source) => open_error(format!("{namespace}/{pod}"), doing, source),
        None => OpenError::Api(ApiError {
            doing,
            failure: timed_out(OPEN_TIMEOUT),
            source: None,
        }),
    })
}

fn open_error(pod: String, doing: String, source: kube::Error) -> OpenError {
    if matches!(source, kube::Error::UpgradeConnection(_)) {
        let message = source.to_string();
        return OpenError::NoWebSocket {
            pod,
            message,
            source: Box::new(source),
        };
    }
    let error = ApiError::new(doing, source);
    match &error.failure {
        ApiFailure::Forbidden(forbidden) => OpenError::Forbidden {
            pod,
            forbidden: forbidden.clone(),
            source: Box::new(error),
        },
        ApiFailure::NotFound { .. } => OpenError::NoPod {
            pod,
            source: Box::new(error),
        },
        _ => OpenError::Api(error),
    }
}

#[cfg(test)]
mod test_peer;
