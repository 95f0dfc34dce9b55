//! Port-forwards as SPDY/3.1: what the API server hands through to the node byte for byte, and what
//! the node reads fastest. A WebSocket is translated or unmasked on the way.

mod frame;
mod stream;

use http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use http::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::client::Body;
use kube::{Client, Resource};

pub use self::frame::SpdyError;
pub use self::stream::SpdyStream;

use super::Transport;

const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: HeaderValue = HeaderValue::from_static("SPDY/3.1");

/// Opens a forward; `None` when somebody on the way doesn't speak SPDY, or refuses for whatever reason:
/// a WebSocket will do, or tell why not.
pub(super) async fn open(
    client: &Client,
    namespace: &str,
    pod: &str,
    port: u16,
) -> Option<SpdyStream<Transport>> {
    let url = Pod::url_path(&(), Some(namespace));
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{url}/{pod}/portforward"))
        .header(CONNECTION, HeaderValue::from_static("Upgrade"))
        .header(UPGRADE, SPDY)
        .header(PROTOCOL, HeaderValue::from_static("portforward.k8s.io"))
        .body(Body::empty())
        .ok()?;
    let response = client.send(request).await.ok()?;
    let speaks = response.headers().get(UPGRADE);
    let agreed = response.status() == StatusCode::SWITCHING_PROTOCOLS
        && speaks.is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(SPDY.as_bytes()));
    if !agreed {
        tracing::debug!(status = %response.status(), "no port-forward over SPDY");
        return None;
    }
    let upgraded = hyper::upgrade::on(response).await.ok()?;
    Some(SpdyStream::new(TokioIo::new(upgraded), port))
}
