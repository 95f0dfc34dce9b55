//! The two bodies of a call: frames that go out, and frames that come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use kdev_proto::v1::FlowFrame;
use tonic::{Code, Status};

use super::read::{Broken, Reader};
use super::write::write;

/// Bytes after which frames that are ready make a piece.
const ENOUGH: usize = 16 << 10;

/// Frames as a body.
pub(super) struct Outgoing<S> {
    frames: S,
    /// The payload of the last message, which follows it.
    payload: Option<Bytes>,
    has_ended: bool,
    /// What a server says at the end; a client just ends.
    trailers: Option<HeaderMap>,
}

impl<S> Outgoing<S>
where
    S: Stream<Item = FlowFrame> + Send + Unpin + 'static,
{
    /// A request's body.
    pub(super) fn of_request(frames: S) -> tonic::body::Body {
        Self::body(frames, None)
    }

    /// An answer's body, which says at its end that all went well: what didn't is said by frames.
    pub(super) fn of_answer(frames: S) -> tonic::body::Body {
        let well = HeaderValue::from_static("0");
        let trailers = HeaderMap::from_iter([(Status::GRPC_STATUS, well)]);
        Self::body(frames, Some(trailers))
    }

    fn body(frames: S, trailers: Option<HeaderMap>) -> tonic::body::Body {
        tonic::body::Body::new(Self {
            frames,
            payload: None,
            has_ended: false,
            trailers,
        })
    }
}

impl<S> Body for Outgoing<S>
where
    S: Stream<Item = FlowFrame> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(payload) = self.payload.take() {
            return Poll::Ready(Some(Ok(Frame::data(payload))));
        }
        let mut piece = BytesMut::new();
        while !self.has_ended && self.payload.is_none() && piece.len() < ENOUGH {
            match Pin::new(&mut self.frames).poll_next(cx) {
                Poll::Ready(Some(frame)) => self.payload = write(&frame, &mut piece),
                Poll::Ready(None) => self.has_ended = true,
                Poll::Pending if piece.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(if piece.is_empty() {
            self.trailers.take().map(|last| Ok(Frame::trailers(last)))
        } else {
            Some(Ok(Frame::data(piece.freeze())))
        })
    }
}

/// The frames of a body.
#[derive(Debug)]
pub struct Incoming {
    body: tonic::body::Body,
    reader: Reader,
    /// What has come and wasn't read.
    piece: Bytes,
    has_ended: bool,
}

impl Incoming {
    pub(crate) fn new(body: tonic::body::Body) -> Self {
        Self {
            body,
            reader: Reader::default(),
            piece: Bytes::new(),
            has_ended: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<FlowFrame, Broken>>> {
        loop {
            if !self.piece.is_empty()
                && let Some(frame) = self.reader.next(&mut self.piece)?
            {
                return Poll::Ready(Some(Ok(frame)));
            }
            // It is given back now, not with the next one.
            self.piece = Bytes::new();
            let Some(next) = ready!(Pin::new(&mut self.body).poll_frame(cx)?) else {
                return Poll::Ready(self.reader.is_amid().then(|| Err(cut_short())));
            };
            match next.into_data() {
                Ok(piece) => self.piece = piece,
                Err(next) => {
                    let trailers = next.into_trailers().unwrap_or_default();
                    return Poll::Ready(said_at_the_end(&trailers).map(Err));
                }
            }
        }
    }
}

impl Stream for Incoming {
    type Item = Result<FlowFrame, Broken>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<FlowFrame, Broken>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.poll(cx));
        // After an error nothing makes sense.
        self.has_ended = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }
}

fn cut_short() -> Broken {
    Status::unavailable("the stream ended within a message").into()
}

/// What a server says at the end, unless all went well.
pub(super) fn said_at_the_end(trailers: &HeaderMap) -> Option<Broken> {
    let status = Status::from_header_map(trailers)?;
    (status.code() != Code::Ok).then(|| status.into())
}
