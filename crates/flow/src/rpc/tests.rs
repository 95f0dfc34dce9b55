//! Both ends of a call over a connection, and how frames become bytes and bytes frames.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _};
use http_body::Body as _;
use kdev_common::channel::Channel;
use kdev_common::transport;
use kdev_proto::v1::FlowFrame;
use proptest::prelude::*;
use prost::Message as _;
use tonic::{Code, Status};

use super::body::{Incoming, Outgoing};
use super::client::FlowsClient;
use super::read::{Broken, NoFrame, Reader};
use super::server::{Call, Flows, FlowsServer};
use super::write::write;
use crate::CHUNK;
use crate::datagram::MAX_DATAGRAM;
use crate::frame::{self, Failed};
use crate::outgoing::{Frames, outgoing};
use crate::testing::{soon, stream_of};

/// As the other end of gRPC would write it.
fn by_the_book(frame: &FlowFrame) -> Vec<u8> {
    let message = frame.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], &message].concat()
}

fn frames() -> impl Strategy<Value = FlowFrame> {
    let sizes = prop_oneof![
        0..40_usize,
        1000..1100_usize,
        Just(CHUNK),
        Just(MAX_DATAGRAM)
    ];
    let data = (sizes, any::<u8>()).prop_map(|(size, byte)| frame::data(vec![byte; size].into()));
    let ack = (any::<u64>(), any::<u64>()).prop_map(|(told, window)| frame::ack(told, window));
    prop_oneof![3 => data, 2 => ack, 1 => Just(frame::end()), 1 => Just(FlowFrame { kind: None })]
}

fn read_all(bytes: &[u8], piece: usize) -> Result<Vec<FlowFrame>, NoFrame> {
    let (mut reader, mut frames) = (Reader::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        let mut piece = Bytes::copy_from_slice(piece);
        while !piece.is_empty() {
            frames.extend(reader.next(&mut piece)?);
        }
    }
    assert!(!reader.is_amid(), "a message that isn't whole");
    Ok(frames)
}

proptest! {
    #[test]
    fn what_is_written_is_what_grpc_has_and_is_read_again_however_it_is_cut(
        frames in prop::collection::vec(frames(), 0..8),
        piece in prop_oneof![1..20_usize, 1..200_000_usize],
    ) {
        let mut bytes = BytesMut::new();
        for frame in &frames {
            let payload = write(frame, &mut bytes);
            bytes.extend_from_slice(&payload.unwrap_or_default());
        }
        let expected: Vec<u8> = frames.iter().flat_map(by_the_book).collect();
        prop_assert!(bytes == expected);
        prop_assert!(read_all(&bytes, piece).unwrap() == frames);
    }
}

#[test]
fn a_large_payload_isnt_copied_and_what_is_read_has_a_buffer_of_its_size() {
    let payload = Bytes::from(vec![7; CHUNK]);
    let mut bytes = BytesMut::new();
    let last = write(&frame::data(payload.clone()), &mut bytes).unwrap();
    assert_eq!(last.as_ptr(), payload.as_ptr());
    assert!(
        bytes.capacity() < 64,
        "{} bytes for a head",
        bytes.capacity()
    );

    let mut reader = Reader::default();
    assert_eq!(reader.next(&mut bytes.freeze()), Ok(None));
    assert!(reader.is_amid());
    assert!(reader.next(&mut last.clone()).unwrap().is_some());
    let idle = format!("{reader:?}");
    assert!(
        idle.contains("message: b\"\"") && !reader.is_amid(),
        "{idle}"
    );
}

#[test]
fn bytes_that_are_no_frame_are_named() {
    let refused = |bytes: &[u8]| read_all(bytes, usize::MAX).unwrap_err();
    assert_eq!(refused(b"\x01\0\0\0\x02hi"), NoFrame::Compressed);
    assert_eq!(refused(b"\0\xff\0\0\0"), NoFrame::TooLong(0xff00_0000));
    assert_eq!(refused(b"\0\0\x02\0\x01"), NoFrame::TooLong(0x2_0001));
    // A wire type that there isn't, a field that is cut off, a number too long.
    for nonsense in [&b"\x07"[..], b"\x22\x05hi", b"\x3a\x02\x08\x7f\x7f"] {
        let length = u8::try_from(nonsense.len()).unwrap();
        let bytes = [&[0, 0, 0, 0, length], nonsense].concat();
        assert!(
            matches!(refused(&bytes), NoFrame::Undecodable(_)),
            "{nonsense:?}"
        );
    }
}

#[tokio::test]
async fn after_bytes_that_are_no_frame_nothing_comes() {
    let mut whole = stream_of("\x22\x02hi");
    assert_eq!(
        whole.try_next().await.unwrap(),
        Some(frame::data("hi".into()))
    );
    assert_eq!(whole.try_next().await.unwrap(), None);
    let mut broken = stream_of("\x07");
    let first = broken.next().await.unwrap();
    assert!(matches!(first, Err(Broken::NoFrame(_))), "{first:?}");
    assert!(broken.next().await.is_none());
}

#[tokio::test]
async fn a_message_that_is_cut_short_is_the_carriers_fault() {
    for begun in ["\0", "\0\0\0\0\u{2}h"] {
        let mut incoming = Incoming::new(tonic::body::Body::new(begun.to_owned()));
        let said = incoming.next().await.unwrap();
        assert!(matches!(said, Err(Broken::Carrier(_))), "{said:?}");
    }
}

#[test]
fn small_frames_that_wait_leave_together_and_a_body_keeps_nothing() {
    let (sender, frames) = outgoing();
    let mut body = Outgoing::of_answer(frames);
    let mut next = || {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        Pin::new(&mut body).poll_frame(&mut cx)
    };
    assert!(next().is_pending());
    let large = Bytes::from(vec![7; CHUNK]);
    let said = [
        frame::ack(1, 2),
        frame::data("hi".into()),
        frame::data(large.clone()),
    ];
    assert!(said.clone().into_iter().all(|frame| sender.try_send(frame)));
    let mut data = || match next() {
        Poll::Ready(Some(Ok(piece))) => piece.into_data().unwrap(),
        other => panic!("{other:?}"),
    };
    let (head, payload) = (data(), data());
    assert!([head, payload.clone()].concat() == said.map(|frame| by_the_book(&frame)).concat());
    assert_eq!(payload.as_ptr(), large.as_ptr());
    drop(large);
    assert!(next().is_pending());
    assert!(payload.is_unique(), "it is kept");
    drop(sender);
    let Poll::Ready(Some(Ok(last))) = next() else {
        panic!("no trailers");
    };
    assert_eq!(last.into_trailers().unwrap()["grpc-status"], "0");
    assert!(matches!(next(), Poll::Ready(None)));
}

/// Sends back what comes, and refuses who accepts.
struct Echo;

impl Flows for Echo {
    type Answer = Frames;

    async fn flow(&self, mut call: Call) -> Result<Frames, Status> {
        let (outgoing, frames) = outgoing();
        tokio::spawn(async move {
            while let Some(Ok(frame)) = call.incoming.next().await {
                if outgoing.send(frame).await.is_err() {
                    return;
                }
            }
            // Trailers follow.
            let _ = outgoing.send(frame::end()).await;
        });
        Ok(frames)
    }

    async fn accept(&self, _: Call) -> Result<Frames, Status> {
        Err(Status::permission_denied("not you"))
    }
}

async fn called() -> FlowsClient {
    let (near, far) = tokio::io::duplex(1 << 20);
    let coming = futures::stream::iter([Ok::<_, std::io::Error>(far)]);
    tokio::spawn(
        transport::server()
            .add_service(FlowsServer::new(Echo))
            .serve_with_incoming(coming.chain(futures::stream::pending())),
    );
    FlowsClient::new(Channel::over(near).await.unwrap())
}

#[tokio::test]
async fn frames_go_both_ways_until_both_sides_have_ended() {
    let mut client = called().await;
    let (outgoing, frames) = outgoing();
    let mut incoming = client.flow(frames).await.unwrap();
    let large = vec![7; MAX_DATAGRAM];
    for said in [
        frame::data("hi".into()),
        frame::data(large.into()),
        frame::ack(7, 8),
        frame::failed(&Failed::new(Default::default(), "no")),
    ] {
        outgoing.send(said.clone()).await.unwrap();
        assert!(soon(incoming.try_next()).await.unwrap() == Some(said));
    }
    drop(outgoing);
    assert_eq!(soon(incoming.try_next()).await.unwrap(), Some(frame::end()));
    assert_eq!(soon(incoming.try_next()).await.unwrap(), None);
}

#[tokio::test]
async fn a_refusal_is_heard_with_its_reason() {
    let mut client = called().await;
    let refused = client.accept(outgoing().1).await.unwrap_err();
    let Broken::Carrier(status) = refused else {
        panic!("{refused}");
    };
    assert_eq!(
        (status.code(), status.message()),
        (Code::PermissionDenied, "not you")
    );
}
