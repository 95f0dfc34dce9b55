//! The side that is called.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use futures::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Extensions, Request, Response};
use kdev_proto::v1::FlowFrame;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::body::{Incoming, Outgoing};
use super::{ACCEPT, FLOW, SERVICE};

/// One call.
#[derive(Debug)]
pub struct Call {
    /// What is known of the connection that it came over.
    pub extensions: Extensions,
    /// Frames from the other side.
    pub incoming: Incoming,
}

/// What is done with the calls.
pub trait Flows: Send + Sync + 'static {
    /// Frames to the other side.
    type Answer: Stream<Item = FlowFrame> + Send + Unpin + 'static;

    /// One flow from the machine.
    ///
    /// # Errors
    ///
    /// When the caller may not.
    fn flow(&self, call: Call) -> impl Future<Output = Result<Self::Answer, Status>> + Send;

    /// One flow to the machine, opened ahead of need.
    ///
    /// # Errors
    ///
    /// When the caller may not.
    fn accept(&self, call: Call) -> impl Future<Output = Result<Self::Answer, Status>> + Send;
}

/// The service, to be added to a server of tonic's.
#[derive(Debug)]
pub struct FlowsServer<F>(Arc<F>);

impl<F> FlowsServer<F> {
    /// A service that does this with calls.
    pub fn new(flows: F) -> Self {
        Self(Arc::new(flows))
    }
}

impl<F> Clone for FlowsServer<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> NamedService for FlowsServer<F> {
    const NAME: &'static str = SERVICE;
}

impl<F: Flows> Service<Request<Body>> for FlowsServer<F> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let flows = Arc::clone(&self.0);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let call = Call {
                extensions: head.extensions,
                incoming: Incoming::new(body),
            };
            let answered = match head.uri.path() {
                FLOW => flows.flow(call).await,
                ACCEPT => flows.accept(call).await,
                other => Err(Status::unimplemented(format!("there is no {other}"))),
            };
            Ok(match answered {
                Ok(frames) => answer(frames),
                Err(refused) => refused.into_http(),
            })
        })
    }
}

fn answer(frames: impl Stream<Item = FlowFrame> + Send + Unpin + 'static) -> Response<Body> {
    let mut answer = Response::new(Outgoing::of_answer(frames));
    let kind = HeaderValue::from_static(super::CONTENT_TYPE);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}
