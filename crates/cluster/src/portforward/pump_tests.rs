use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Bytes;

use super::super::test_peer::{PIPE, Peer, forward, pattern};
use super::super::{PodError, PodErrorKind, ProtocolError};
use super::*;

const MIB: usize = 1024 * 1024;

/// What is in flight when nobody reads: pipes, WebSocket buffers and the message in hand.
const IN_FLIGHT: usize = 512 * 1024;

struct Pumped {
    local: DuplexStream,
    peer: Peer,
    cancel: CancellationToken,
    ended: JoinHandle<Result<End, ForwardError>>,
}

async fn pumped() -> Pumped {
    let (forward, peer) = forward().await;
    let (local, pumped) = tokio::io::duplex(PIPE);
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    let ended = tokio::spawn(async move { forward.pump(pumped, &token).await });
    Pumped {
        local,
        peer,
        cancel,
        ended,
    }
}

#[tokio::test]
async fn bytes_arrive_unchanged_in_messages_of_64_kib_at_most() {
    let Pumped {
        mut local,
        mut peer,
        ..
    } = pumped().await;
    let data = pattern(3 * MIB);
    let sent = data.clone();
    let writer = tokio::spawn(async move {
        local.write_all(&sent).await.unwrap();
        local
    });
    assert!(peer.receive(data.len()).await == data);
    let mut local = writer.await.unwrap();

    let sent = data.clone();
    let sender = tokio::spawn(async move {
        for part in sent.chunks(100_000) {
            peer.send_data(part).await;
        }
        peer
    });
    let mut received = vec![0; data.len()];
    local.read_exact(&mut received).await.unwrap();
    assert!(received == data);
    drop(sender.await.unwrap());
}

#[tokio::test]
async fn a_few_bytes_do_not_wait_for_more() {
    let Pumped {
        mut local,
        mut peer,
        ..
    } = pumped().await;
    for part in ["a", "bc", "def"] {
        local.write_all(part.as_bytes()).await.unwrap();
        assert_eq!(peer.receive(1).await, part.as_bytes());
    }
}

#[tokio::test]
async fn a_ping_is_answered_while_nobody_sends_anything() {
    let Pumped {
        mut peer, local, ..
    } = pumped().await;
    peer.0
        .send(Message::Ping(Bytes::from_static(b"42")))
        .await
        .unwrap();
    let answer = peer.0.next().await;
    assert!(
        matches!(&answer, Some(Ok(Message::Pong(data))) if data == "42"),
        "the answer is {answer:?}"
    );
    drop(local);
}

#[tokio::test]
async fn a_ping_is_answered_while_the_machine_sends_all_the_time() {
    let Pumped {
        mut local,
        mut peer,
        ..
    } = pumped().await;
    let writer = tokio::spawn(async move { while local.write_all(&[7; 4096]).await.is_ok() {} });
    peer.0
        .send(Message::Ping(Bytes::from_static(b"42")))
        .await
        .unwrap();
    loop {
        match peer.0.next().await {
            Some(Ok(Message::Pong(_))) => break,
            Some(Ok(Message::Binary(_))) => {}
            other => panic!("the peer got {other:?}"),
        }
    }
    writer.abort();
}

#[tokio::test]
async fn cancelling_says_goodbye_and_ends() {
    let Pumped {
        mut local,
        mut peer,
        cancel,
        ended,
    } = pumped().await;
    cancel.cancel();
    assert_eq!(peer.next().await, None);
    assert_eq!(ended.await.unwrap().unwrap(), End::Cancelled);
    assert_eq!(local.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_even_when_the_connection_is_stuck() {
    let Pumped {
        mut local,
        cancel,
        ended,
        peer,
    } = pumped().await;
    let stuck = tokio::time::timeout(Duration::from_secs(60), local.write_all(&pattern(MIB))).await;
    assert!(stuck.is_err(), "the peer doesn't read");
    cancel.cancel();
    assert_eq!(ended.await.unwrap().unwrap(), End::Cancelled);
    drop(peer);
}

#[tokio::test]
async fn what_was_written_arrives_before_the_goodbye() {
    let Pumped {
        mut local,
        mut peer,
        ended,
        ..
    } = pumped().await;
    let data = pattern(20_000);
    local.write_all(&data).await.unwrap();
    drop(local);
    assert!(peer.receive(data.len()).await == data);
    assert_eq!(peer.next().await, None);
    assert_eq!(ended.await.unwrap().unwrap(), End::LocalClosed);
}

#[tokio::test]
async fn what_the_pod_wrote_arrives_before_the_end() {
    let Pumped {
        mut local,
        mut peer,
        ended,
        ..
    } = pumped().await;
    let data = pattern(20_000);
    peer.send_data(&data).await;
    peer.0.close(None).await.unwrap();
    let mut received = Vec::new();
    local.read_to_end(&mut received).await.unwrap();
    assert!(received == data);
    assert_eq!(ended.await.unwrap().unwrap(), End::PodClosed);
}

#[tokio::test]
async fn an_error_of_the_far_end_is_typed() {
    let Pumped {
        mut peer,
        ended,
        local,
        ..
    } = pumped().await;
    peer.send(b"\x01dial tcp4 127.0.0.1:8080: connect: connection refused")
        .await;
    let error = ended.await.unwrap().unwrap_err();
    assert!(
        matches!(
            &error,
            ForwardError::Pod(PodError {
                kind: PodErrorKind::Refused,
                ..
            })
        ),
        "{error}"
    );
    drop(local);
}

#[tokio::test]
async fn a_connection_that_breaks_is_an_error() {
    let Pumped {
        peer, ended, local, ..
    } = pumped().await;
    drop(peer);
    let error = ended.await.unwrap().unwrap_err();
    assert!(matches!(error, ForwardError::Lost(_)), "{error}");
    drop(local);
}

#[tokio::test]
async fn a_message_that_breaks_the_protocol_is_an_error() {
    let Pumped {
        mut peer,
        ended,
        local,
        ..
    } = pumped().await;
    peer.send(b"\x07x").await;
    let error = ended.await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            ForwardError::Protocol(ProtocolError::UnknownChannel(7))
        ),
        "{error}"
    );
    drop(local);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_read_stops_the_machines_writing_but_not_its_reading() {
    let Pumped {
        mut local,
        mut peer,
        ended,
        ..
    } = pumped().await;
    let data = pattern(8 * MIB);
    let mut written = 0;
    while let Ok(result) =
        tokio::time::timeout(Duration::from_secs(60), local.write(&data[written..])).await
    {
        written += result.unwrap();
    }
    assert!(written < IN_FLIGHT, "{written} bytes were taken");

    peer.send_data(b"still here").await;
    let mut received = [0; 10];
    local.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"still here");

    assert!(peer.receive(written).await == data[..written]);
    ended.abort();
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_read_stops_the_pods_writing_but_not_its_reading() {
    let Pumped {
        mut local,
        mut peer,
        ended,
        ..
    } = pumped().await;
    let part = pattern(10_000);
    let mut sent = 0;
    loop {
        let message = Message::Binary([&[0], &part[..]].concat().into());
        match tokio::time::timeout(Duration::from_secs(60), peer.0.send(message)).await {
            Ok(result) => {
                result.unwrap();
                sent += part.len();
            }
            Err(_) => break,
        }
        assert!(sent < IN_FLIGHT, "{sent} bytes were taken");
    }

    local.write_all(b"still here").await.unwrap();
    assert_eq!(peer.receive(10).await, b"still here");
    ended.abort();
}
