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

/// Answers `/livez` and `/readyz` until cancelled, on the first of `addresses` that there is: a
/// kernel without IPv6 has no address for both families.
///
/// # Errors
///
/// When none can be bound.
pub async fn serve(
    addresses: [SocketAddr; 2],
    ready: Ready,
    cancelled: CancellationToken,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(&addresses[..]).await?;
    let router = Router::new()
        .route("/livez", get(|| async { StatusCode::OK }))
        .route("/readyz", get(move || async move { ready.status() }));
    axum::serve(listener, router)
        .with_graceful_shutdown(cancelled.cancelled_owned())
        .await
}
