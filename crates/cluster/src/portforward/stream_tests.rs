use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::test_peer::{forward, pattern};
use super::super::{PodErrorKind, ProtocolError};
use super::*;

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn bytes_go_both_ways_at_once() {
    let (forward, mut peer) = forward().await;
    let (mut reader, mut writer) = tokio::io::split(forward.into_stream());
    let data = pattern(2 * MIB);

    let sent = data.clone();
    let writer = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.flush().await.unwrap();
        writer
    });
    assert!(peer.receive(data.len()).await == data);

    let wanted = data.clone();
    let reader = tokio::spawn(async move {
        let mut received = vec![0; wanted.len()];
        reader.read_exact(&mut received).await.unwrap();
        assert!(received == wanted);
        reader
    });
    for part in data.chunks(70_000) {
        peer.send_data(part).await;
    }
    drop((reader.await.unwrap(), writer.await.unwrap()));
}

#[tokio::test]
async fn a_message_is_read_in_as_many_pieces_as_the_reader_likes() {
    let (forward, mut peer) = forward().await;
    let mut stream = forward.into_stream();
    peer.send_data(b"hello").await;
    let mut piece = [0; 2];
    stream.read_exact(&mut piece).await.unwrap();
    assert_eq!(&piece, b"he");
    let mut rest = [0; 3];
    stream.read_exact(&mut rest).await.unwrap();
    assert_eq!(&rest, b"llo");
}

#[tokio::test]
async fn shutting_down_says_goodbye_after_what_was_written() {
    let (forward, mut peer) = forward().await;
    let mut stream = forward.into_stream();
    stream.write_all(b"bye").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(peer.receive(3).await, b"bye");
    assert_eq!(peer.next().await, None);
}

#[tokio::test]
async fn the_pods_goodbye_is_the_end_of_the_stream() {
    let (forward, mut peer) = forward().await;
    let mut stream = forward.into_stream();
    peer.send_data(b"bye").await;
    peer.0.close(None).await.unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"bye");
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_refused_port_is_a_refused_connection() {
    let (forward, mut peer) = forward().await;
    let mut stream = forward.into_stream();
    peer.send(b"\x01connect: connection refused").await;
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<ForwardError>());
    assert!(
        matches!(inner, Some(ForwardError::Pod(error)) if error.kind == PodErrorKind::Refused),
        "{error}"
    );
}

#[tokio::test]
async fn a_broken_protocol_is_invalid_data() {
    let (forward, mut peer) = forward().await;
    let mut stream = forward.into_stream();
    peer.send(b"\x09").await;
    let error = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let text = ForwardError::from(ProtocolError::UnknownChannel(9)).to_string();
    assert_eq!(error.to_string(), text);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_read_stops_the_writer() {
    let (forward, peer) = forward().await;
    let mut stream = forward.into_stream();
    let mut written = 0;
    while let Ok(result) =
        tokio::time::timeout(Duration::from_secs(60), stream.write(&[7; 50_000])).await
    {
        written += result.unwrap();
        assert!(written < 512 * 1024, "{written} bytes were taken");
    }
    drop(peer);
}
