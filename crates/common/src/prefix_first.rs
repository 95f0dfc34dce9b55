//! Bodies whose gRPC prefix comes in a piece of its own, so that a message has a buffer of its size.
//!
//! tonic makes room for a message when it has read the length before it. If the message is there by then,
//! as it came in the same HTTP/2 frame, that room comes on top: twice the memory, for as long as somebody
//! holds the message's bytes, and all of them are copied once more.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;
use tonic::codegen::http::{Request, Response};
use tonic::transport::Channel;
use tower::util::{MapRequestLayer, MapResponse, ServiceExt as _};

/// A byte for compression and four for the length, see gRPC's "Length-Prefixed-Message".
const PREFIX: usize = 5;

type OnRequest = fn(Request<tonic::body::Body>) -> Request<tonic::body::Body>;
type OnResponse = fn(Response<tonic::body::Body>) -> Response<tonic::body::Body>;

/// A channel for the answers of which this is so.
pub type FlowChannel = MapResponse<Channel, OnResponse>;

/// Makes it so for what comes over a channel.
pub fn channel(channel: Channel) -> FlowChannel {
    channel.map_response(|response| response.map(prefix_first))
}

/// Makes it so for what comes to a server.
pub fn layer() -> MapRequestLayer<OnRequest> {
    MapRequestLayer::new(|request: Request<_>| request.map(prefix_first))
}

fn prefix_first(body: tonic::body::Body) -> tonic::body::Body {
    let later = Bytes::new();
    tonic::body::Body::new(PrefixFirst { body, later })
}

/// Hands each piece on in two. Where one doesn't begin with a message, that does no harm.
struct PrefixFirst<B> {
    body: B,
    later: Bytes,
}

impl<B> Body for PrefixFirst<B>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.later.is_empty() {
            let later = std::mem::take(&mut self.later);
            return Poll::Ready(Some(Ok(Frame::data(later))));
        }
        let next = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let next = next.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|mut data| {
                    self.later = data.split_off(PREFIX.min(data.len()));
                    data
                })
            })
        });
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.later.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, later) = (self.body.size_hint(), self.later.len() as u64);
        let mut with_later = SizeHint::new();
        with_later.set_lower(hint.lower() + later);
        if let Some(upper) = hint.upper() {
            with_later.set_upper(upper + later);
        }
        with_later
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    struct Pieces(VecDeque<Frame<Bytes>>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    #[test]
    fn the_prefix_comes_first_and_nothing_is_lost_or_changed() {
        let data = |data: &'static str| Frame::data(Bytes::from_static(data.as_bytes()));
        let trailers = Frame::trailers(Default::default());
        let frames = [
            data("12345678"),
            data("12345"),
            data("1"),
            data(""),
            trailers,
        ];
        let mut body = PrefixFirst {
            body: Pieces(frames.into()),
            later: Bytes::new(),
        };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut heard = Vec::new();
        while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut cx) {
            assert_eq!(
                body.is_end_stream(),
                frame.as_ref().is_ok_and(Frame::is_trailers)
            );
            heard.push(frame.unwrap().into_data().ok());
        }
        let trailers = None;
        let pieces = ["12345", "678", "12345", "1", ""].map(|piece| Some(piece.into()));
        assert!(heard.into_iter().eq(pieces.into_iter().chain([trailers])));
    }
}
