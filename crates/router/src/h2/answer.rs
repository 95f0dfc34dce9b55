//! What streams are answered from here.

use bytes::Bytes;
use h2::server::SendResponse;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What a gRPC message may not have, besides what isn't ASCII.
const UNPRINTABLE: &AsciiSet = &CONTROLS.add(b'%');

/// What an answer depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    grpc: bool,
    head: bool,
}

impl Asked {
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        Self {
            grpc: kind.is_some_and(|kind| kind.starts_with(b"application/grpc")),
            head: method == Method::HEAD,
        }
    }

    /// Answers that the destination can't be reached: 502, or gRPC's UNAVAILABLE.
    pub(crate) fn unreachable(self, respond: &mut SendResponse<Bytes>, text: &str) {
        if !self.grpc {
            return self.say(respond, StatusCode::BAD_GATEWAY, text);
        }
        // Fails only where the client has gone.
        let _ = self.unavailable(respond, text);
    }

    pub(crate) fn is_grpc(self) -> bool {
        self.grpc
    }

    /// Answers UNAVAILABLE in gRPC's words; false when there is an answer already.
    pub(crate) fn unavailable(self, respond: &mut SendResponse<Bytes>, text: &str) -> bool {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static("14"));
        let message = utf8_percent_encode(text, UNPRINTABLE).to_string();
        if let Ok(message) = HeaderValue::from_str(&message) {
            headers.insert("grpc-message", message);
        }
        respond.send_response(response, true).is_ok()
    }

    /// Answers with a text.
    pub(crate) fn say(self, respond: &mut SendResponse<Bytes>, status: StatusCode, text: &str) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(CONTENT_TYPE, plain);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
        let ends = self.head || text.is_empty();
        if let (Ok(mut body), false) = (respond.send_response(response, ends), ends) {
            let _ = body.send_data(Bytes::copy_from_slice(text.as_bytes()), true);
        }
    }
}
