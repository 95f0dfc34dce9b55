//! What the kubelet asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Whether the manager serves; set once everything it needs is there.
#[derive(Debug, Clone, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// Says so.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn status(&self) -> StatusCode {
        if self.0.load(Ordering::Acquire) {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// Answers `/livez` and `/readyz` until cancelled.
///
/// # Errors
///
/// When the port can't be bound.
pub async fn serve(
    address: SocketAddr,
    ready: Ready,
    cancelled: CancellationToken,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let router = Router::new()
        .route("/livez", get(|| async { StatusCode::OK }))
        .route("/readyz", get(move || async move { ready.status() }));
    axum::serve(listener, router)
        .with_graceful_shutdown(cancelled.cancelled_owned())
        .await
}
