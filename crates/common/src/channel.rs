//! gRPC's client side of a connection that is there already.
//!
//! tonic's own channel has a task and a queue in front of the connection, so that it can be made again; one
//! that was handed over never is, and every call would wait for another task's turn.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::http::uri::{Authority, Scheme};
use tonic::codegen::http::{Request, Response, Uri};
use tower::Service;

use crate::transport::{CONNECTION_WINDOW, FRAME, STREAM_WINDOW};

/// Resets of ours that the other side may not have heard of yet: a burst of flows that end is work.
const RESETS: usize = 4096;

/// Calls over one connection. A clone calls over the same, which is closed with the last one.
#[derive(Debug, Clone)]
pub struct Channel {
    calls: SendRequest<Body>,
    closed: CancellationToken,
}

impl Channel {
    /// Calls over a connected stream. When it ends, every call fails, and whoever made it makes another.
    ///
    /// # Errors
    ///
    /// When nothing can be said over it.
    pub async fn over<S>(stream: S) -> Result<Self, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (calls, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .adaptive_window(false)
            .max_concurrent_reset_streams(RESETS)
            .handshake(TokioIo::new(stream))
            .await?;
        let closed = CancellationToken::new();
        let ended = closed.clone().drop_guard();
        // It ends with the last clone, or with the stream.
        tokio::spawn(async move {
            let _ended = ended;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to another process ended");
            }
        });
        Ok(Self { calls, closed })
    }

    /// Waits until the connection has ended, as far as this process's kernel knows. Cancel safe.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    /// Always: a connection that has ended is told by the call, as clients lose the cause of what is told here.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // HTTP/2 has to name a host (RFC 9113 8.3.1); here there is only one to ask.
        let mut uri = request.uri().clone().into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(Authority::from_static("kdev.invalid"));
        if let Ok(uri) = Uri::from_parts(uri) {
            *request.uri_mut() = uri;
        }
        Box::pin(self.calls.send_request(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;
    use tower::ServiceExt as _;

    #[tokio::test]
    async fn who_calls_over_a_connection_that_has_ended_hears_of_it_with_its_cause() {
        let (near, far) = tokio::io::duplex(1 << 10);
        let mut channel = Channel::over(near).await.unwrap();
        drop(far);
        channel.closed().await;
        let ready = channel.ready().await.unwrap();
        let failed = ready.call(Request::new(Body::empty())).await.unwrap_err();
        let status = tonic::Status::from_error(failed.into());
        assert!(status.source().is_some(), "{status:?}");
    }
}
