//! Asking name servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers are tests"
)]

mod support;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::RecordType;
use kdev_names::{ForwardError, Timing, Upstream, Via};
use support::*;
use tokio::net::{TcpListener, UdpSocket};

fn quick() -> Timing {
    Timing {
        per_server: Duration::from_millis(300),
        overall: Duration::from_millis(2000),
        silence: Duration::from_secs(60),
    }
}

fn upstream(servers: &[&NameServer]) -> Upstream {
    Upstream::new(servers.iter().map(|server| server.address), quick())
}

fn known() -> Zone {
    Zone::new().a("www.example.", [192, 0, 2, 1])
}

async fn ask(upstream: &Upstream, via: Via) -> Result<Message, ForwardError> {
    let query = query("www.example.", RecordType::A);
    let answer = soon(upstream.ask(&query.to_vec().unwrap(), via)).await?;
    Ok(checked(&query, &answer))
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    let socket = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    socket.local_addr().unwrap()
}

#[tokio::test]
async fn the_first_server_is_asked_alone_when_it_answers() {
    let (first, second) = (NameServer::of(known()).await, NameServer::of(known()).await);
    let upstream = upstream(&[&first, &second]);
    assert_eq!(
        data(&ask(&upstream, Via::Udp).await.unwrap()),
        ["192.0.2.1"]
    );
    assert_eq!((first.seen().len(), second.seen().len()), (1, 0));
}

#[tokio::test]
async fn no_such_name_is_an_answer_and_no_reason_to_ask_the_next_one() {
    let (first, second) = (
        NameServer::of(Zone::new()).await,
        NameServer::of(known()).await,
    );
    let answer = ask(&upstream(&[&first, &second]), Via::Udp).await.unwrap();
    assert_eq!(code(&answer), ResponseCode::NXDomain);
    assert!(second.seen().is_empty());
}

#[tokio::test]
async fn a_server_that_fails_or_refuses_gives_way_to_the_next_one() {
    for failing in [
        ResponseCode::ServFail,
        ResponseCode::NotImp,
        ResponseCode::Refused,
    ] {
        let (first, second) = (
            NameServer::of(Zone::failing(failing)).await,
            NameServer::of(known()).await,
        );
        let answer = ask(&upstream(&[&first, &second]), Via::Udp).await.unwrap();
        assert_eq!(data(&answer), ["192.0.2.1"], "{failing}");
    }
}

#[tokio::test]
async fn the_first_poor_answer_is_given_when_none_does_better() {
    let (first, second) = (
        NameServer::of(Zone::failing(ResponseCode::Refused)).await,
        NameServer::of(Zone::failing(ResponseCode::ServFail)).await,
    );
    let start = Instant::now();
    let answer = ask(&upstream(&[&first, &second]), Via::Udp).await.unwrap();
    assert_eq!(code(&answer), ResponseCode::Refused);
    assert!(start.elapsed() < quick().overall);
}

#[tokio::test]
async fn a_silent_server_gives_way_in_time_and_is_asked_last_afterwards() {
    let (silent, second) = (NameServer::silent().await, NameServer::of(known()).await);
    let upstream = upstream(&[&silent, &second]);
    assert_eq!(
        data(&ask(&upstream, Via::Udp).await.unwrap()),
        ["192.0.2.1"]
    );
    assert_eq!((silent.seen().len(), second.seen().len()), (1, 1));

    assert_eq!(
        data(&ask(&upstream, Via::Udp).await.unwrap()),
        ["192.0.2.1"]
    );
    assert_eq!((silent.seen().len(), second.seen().len()), (1, 2));
}

#[tokio::test]
async fn a_server_that_is_not_there_gives_way_at_once() {
    let second = NameServer::of(known()).await;
    for via in [Via::Udp, Via::Tcp, Via::UdpThenTcp] {
        let timing = Timing {
            per_server: DEADLINE,
            overall: DEADLINE,
            ..quick()
        };
        let upstream = Upstream::new([nobody().await, second.address], timing);
        assert_eq!(data(&ask(&upstream, via).await.unwrap()), ["192.0.2.1"]);
    }
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    let times = Arc::new(AtomicUsize::new(0));
    let server = NameServer::scripted(move |seen| {
        if times.fetch_add(1, Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let query = Message::from_vec(&seen.bytes).unwrap();
        vec![known().answer(&query).to_vec().unwrap()]
    })
    .await;
    let answer = ask(&upstream(&[&server]), Via::Udp).await.unwrap();
    assert_eq!(data(&answer), ["192.0.2.1"]);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_late_answer_is_an_answer() {
    // The first server answers when the second has been asked.
    let first = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let second = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let servers = [first.local_addr().unwrap(), second.local_addr().unwrap()];
    let upstream = Upstream::new(servers, quick());
    let late = async {
        let mut buffer = [0; 512];
        let (length, client) = first.recv_from(&mut buffer).await.unwrap();
        second.recv(&mut [0; 512]).await.unwrap();
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let answer = known().answer(&query).to_vec().unwrap();
        first.send_to(&answer, client).await.unwrap();
    };
    let (answer, ()) = tokio::join!(ask(&upstream, Via::Udp), late);
    assert_eq!(data(&answer.unwrap()), ["192.0.2.1"]);
}

#[tokio::test]
async fn when_nobody_answers_the_error_says_so_in_time() {
    let silent = NameServer::silent().await;
    let start = Instant::now();
    let error = ask(&upstream(&[&silent]), Via::Udp).await.unwrap_err();
    assert!(matches!(error, ForwardError::Silent(_)), "{error}");
    assert_eq!(error.to_string(), "no name server answered within 2000 ms");
    assert!(start.elapsed() < quick().overall * 2);

    let gone = nobody().await;
    let error = ask(&Upstream::new([gone], quick()), Via::Udp)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ForwardError::Failed { server, .. } if server == gone),
        "{error}"
    );

    let error = ask(&Upstream::new([], quick()), Via::Udp)
        .await
        .unwrap_err();
    assert!(matches!(error, ForwardError::NoServers), "{error}");
}

#[tokio::test]
async fn only_a_query_with_one_question_is_forwarded() {
    let server = NameServer::of(known()).await;
    let upstream = upstream(&[&server]);
    let good = query("www.example.", RecordType::A);
    let mut answer = good.clone();
    answer.metadata.message_type = MessageType::Response;
    let mut two = good.clone();
    two.add_query(two.queries[0].clone());
    for message in [answer.to_vec().unwrap(), two.to_vec().unwrap(), vec![0; 5]] {
        let error = upstream.ask(&message, Via::Udp).await.unwrap_err();
        assert!(matches!(error, ForwardError::NotAQuery), "{error}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn forged_answers_are_ignored_until_the_real_one_comes() {
    let server = NameServer::scripted(|seen| {
        let query = Message::from_vec(&seen.bytes).unwrap();
        let real = known().answer(&query);
        let forged = |change: &dyn Fn(&mut Message)| {
            let zone = Zone::new().a("www.example.", [203, 0, 113, 66]);
            let mut answer = zone.answer(&query);
            change(&mut answer);
            answer.to_vec().unwrap()
        };
        vec![
            forged(&|answer| answer.metadata.id ^= 1),
            forged(&|answer| answer.metadata.message_type = MessageType::Query),
            forged(&|answer| answer.queries[0].name = name("other.example.")),
            forged(&|answer| answer.queries[0].query_type = RecordType::AAAA),
            forged(&|answer| answer.queries.clear()),
            b"rubbish".to_vec(),
            Vec::new(),
            real.to_vec().unwrap(),
        ]
    })
    .await;
    let answer = ask(&upstream(&[&server]), Via::Udp).await.unwrap();
    assert_eq!(data(&answer), ["192.0.2.1"]);
}

#[tokio::test]
async fn an_answer_from_elsewhere_is_ignored() {
    let server = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let elsewhere = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let upstream = Upstream::new([server.local_addr().unwrap()], quick());
    let script = async {
        let mut buffer = [0; 512];
        let (length, client) = server.recv_from(&mut buffer).await.unwrap();
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let forged = Zone::new()
            .a("www.example.", [203, 0, 113, 66])
            .answer(&query);
        elsewhere
            .send_to(&forged.to_vec().unwrap(), client)
            .await
            .unwrap();
        let real = known().answer(&query).to_vec().unwrap();
        server.send_to(&real, client).await.unwrap();
    };
    let (answer, ()) = tokio::join!(ask(&upstream, Via::Udp), script);
    assert_eq!(data(&answer.unwrap()), ["192.0.2.1"]);
}

#[tokio::test]
async fn a_server_that_makes_nothing_of_the_query_may_leave_the_question_out() {
    let server = NameServer::scripted(|seen| {
        let mut answer = seen.bytes[..12].to_vec();
        answer[2] |= 0x80;
        answer[3] = 1;
        answer[4..12].fill(0);
        vec![answer]
    })
    .await;
    let asked = query("www.example.", RecordType::A).to_vec().unwrap();
    let answer = soon(upstream(&[&server]).ask(&asked, Via::Udp))
        .await
        .unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(code(&answer), ResponseCode::FormErr);
    assert_eq!(answer.metadata.id.to_be_bytes(), asked[..2]);
}

#[tokio::test]
async fn every_query_has_an_id_and_a_port_of_its_own() {
    let server = NameServer::of(known()).await;
    let upstream = upstream(&[&server]);
    let asked = query("www.example.", RecordType::A).to_vec().unwrap();
    for _ in 0..32 {
        soon(upstream.ask(&asked, Via::Udp)).await.unwrap();
    }
    let seen = server.seen();
    let ids: HashSet<_> = seen.iter().map(|seen| seen.bytes[..2].to_vec()).collect();
    let ports: HashSet<_> = seen.iter().map(|seen| seen.from.port()).collect();
    // Some may meet by chance.
    assert!(ids.len() > 24, "{ids:?}");
    assert!(ports.len() > 24, "{ports:?}");
}

/// A server that has room for the answer by TCP only.
async fn truncating(by_tcp: bool) -> NameServer {
    NameServer::scripted(move |seen| {
        let answer = known().answer(&Message::from_vec(&seen.bytes).unwrap());
        match seen.by {
            By::Udp => vec![answer.truncate().to_vec().unwrap()],
            By::Tcp if by_tcp => vec![answer.to_vec().unwrap()],
            By::Tcp => Vec::new(),
        }
    })
    .await
}

#[tokio::test]
async fn a_truncated_answer_is_asked_again_by_tcp_only_when_wanted() {
    let server = truncating(true).await;
    let answer = ask(&upstream(&[&server]), Via::UdpThenTcp).await.unwrap();
    assert!(!answer.metadata.truncation);
    assert_eq!(data(&answer), ["192.0.2.1"]);

    let answer = ask(&upstream(&[&server]), Via::Udp).await.unwrap();
    assert!(answer.metadata.truncation);
    let by: Vec<By> = server.seen().iter().map(|seen| seen.by).collect();
    assert_eq!(by, [By::Udp, By::Tcp, By::Udp]);
}

#[tokio::test]
async fn a_truncated_answer_is_better_than_none_when_tcp_does_not_work() {
    let server = truncating(false).await;
    let answer = ask(&upstream(&[&server]), Via::UdpThenTcp).await.unwrap();
    assert!(answer.metadata.truncation);
}

#[tokio::test]
async fn a_truncated_answer_is_better_than_none_when_tcp_hangs() {
    // Nobody accepts: the kernel makes the connection, and that is all that happens.
    let tcp = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    let serve = async {
        let mut buffer = [0; 512];
        let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let answer = known().answer(&query).truncate().to_vec().unwrap();
        udp.send_to(&answer, client).await.unwrap();
    };
    let upstream = Upstream::new([address], quick());
    let (answer, ()) = tokio::join!(ask(&upstream, Via::UdpThenTcp), serve);
    assert!(answer.unwrap().metadata.truncation);
}

#[tokio::test]
async fn by_tcp_a_server_that_hangs_up_gives_way_to_the_next_one() {
    let (first, second) = (NameServer::silent().await, NameServer::of(known()).await);
    let answer = ask(&upstream(&[&first, &second]), Via::Tcp).await.unwrap();
    assert_eq!(data(&answer), ["192.0.2.1"]);
    assert_eq!(second.seen()[0].by, By::Tcp);
}

#[tokio::test]
async fn a_server_with_an_ipv6_address_is_asked_as_well() {
    let socket = UdpSocket::bind("[::1]:0").await.unwrap();
    let upstream = Upstream::new([socket.local_addr().unwrap()], quick());
    let serve = async {
        let mut buffer = [0; 512];
        let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let answer = known().answer(&query).to_vec().unwrap();
        socket.send_to(&answer, client).await.unwrap();
    };
    let (answer, ()) = tokio::join!(ask(&upstream, Via::Udp), serve);
    assert_eq!(data(&answer.unwrap()), ["192.0.2.1"]);
}
