//! The side that calls.

use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Version};
use kdev_common::channel::Channel;
use tonic::Status;
use tonic::body::Body;
use tower::{Service as _, ServiceExt as _};

use super::body::{Incoming, Outgoing, said_at_the_end};
use super::read::Broken;
use super::{ACCEPT, FLOW};
use crate::outgoing::Frames;

/// Calls the other side of a connection. A clone calls the same.
#[derive(Debug, Clone)]
pub struct FlowsClient(Channel);

impl FlowsClient {
    /// A client over a channel.
    pub fn new(channel: Channel) -> Self {
        Self(channel)
    }

    /// One flow from the machine. Cancel safe: dropping the future takes the call back.
    ///
    /// # Errors
    ///
    /// When the call doesn't get through, or the other side refuses it.
    pub async fn flow(&mut self, frames: Frames) -> Result<Incoming, Broken> {
        self.call(FLOW, frames).await
    }

    /// One flow to the machine, opened ahead of need. Cancel safe as [`flow`](Self::flow) is.
    ///
    /// # Errors
    ///
    /// When the call doesn't get through, or the other side refuses it.
    pub async fn accept(&mut self, frames: Frames) -> Result<Incoming, Broken> {
        self.call(ACCEPT, frames).await
    }

    async fn call(&mut self, path: &'static str, frames: Frames) -> Result<Incoming, Broken> {
        let failed = |error: hyper::Error| Status::from_error(error.into());
        let mut request = Request::new(Outgoing::of_request(frames));
        *request.method_mut() = Method::POST;
        // The channel knows of which host.
        *request.uri_mut() = PathAndQuery::from_static(path).into();
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(super::CONTENT_TYPE));
        let channel = self.0.ready().await.map_err(failed)?;
        let answer = channel.call(request).await.map_err(failed)?;
        let (head, body) = answer.into_parts();
        if let Some(refused) = said_at_the_end(&head.headers) {
            return Err(refused);
        }
        if head.status != StatusCode::OK {
            let status = head.status;
            return Err(Status::unknown(format!("the answer to a call is HTTP's {status}")).into());
        }
        Ok(Incoming::new(Body::new(body)))
    }
}
