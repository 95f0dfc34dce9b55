//! How queries and answers travel: sizes, TCP, bounds, and what isn't a query.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers are tests"
)]

mod support;

use std::time::{Duration, Instant};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::EdnsOption;
use kdev_names::{BindError, DnsServer, Limits};
use support::*;
use tokio::io::AsyncReadExt as _;

/// A name with `records` TXT records of about 100 bytes each.
fn big(owner: &str, records: usize) -> Zone {
    (0..records).fold(Zone::new(), |zone, number| {
        zone.txt(owner, &format!("{number:03}{}", "x".repeat(85)))
    })
}

/// A name server whose UDP answers are cut to 512 bytes.
async fn cutting(zone: Zone) -> NameServer {
    NameServer::scripted(move |seen| {
        let mut answer = zone.answer(&Message::from_vec(&seen.bytes).unwrap());
        if seen.by == By::Udp && answer.to_vec().unwrap().len() > 512 {
            answer = answer.truncate();
        }
        vec![answer.to_vec().unwrap()]
    })
    .await
}

#[tokio::test]
async fn what_goes_outside_and_comes_back_is_changed_in_nothing_but_the_id() {
    // No DNS library would make this: reserved bits, an unknown option, an unknown type, bytes
    // behind the message.
    let reply = |id: u16, query: &[u8]| {
        let mut answer = query.to_vec();
        answer[..2].copy_from_slice(&id.to_be_bytes());
        answer[2] |= 0x80;
        answer[3] |= 0xf0;
        answer.extend_from_slice(b"behind the message");
        answer
    };
    let outside = NameServer::scripted(move |seen| {
        let id = u16::from_be_bytes([seen.bytes[0], seen.bytes[1]]);
        vec![reply(id, &seen.bytes)]
    })
    .await;
    let split = Split::new(outside, Cluster::Away, Limits::default()).await;

    let mut asked = query_with_edns("WwW.eXample.", RecordType::Unknown(65_280), 4096);
    asked.metadata.checking_disabled = true;
    asked.metadata.authentic_data = true;
    let edns = asked.edns.as_mut().unwrap();
    edns.set_dnssec_ok(true);
    edns.options_mut()
        .insert(EdnsOption::Unknown(65_001, b"unknown".to_vec()));
    let asked = asked.to_vec().unwrap();
    let answer = split.send_raw(&asked).await;

    let seen = split.outside.seen().remove(0);
    assert_eq!(seen.bytes[2..], asked[2..]);
    let id = u16::from_be_bytes([asked[0], asked[1]]);
    assert_eq!(answer, reply(id, &asked));
}

#[tokio::test]
async fn a_query_with_rubbish_behind_its_question_is_the_outsides_to_judge() {
    let split = Split::of(Zone::new(), Zone::new()).await;
    let outside = NameServer::scripted(|seen| {
        let mut answer = seen.bytes[..12].to_vec();
        answer[2] |= 0x80;
        answer[3] = 1;
        answer[4..12].fill(0);
        vec![answer]
    })
    .await;
    split.handle.set_upstreams([outside.address]);
    let rubbish = |asked: &str| {
        let mut packet = query(asked, RecordType::A).to_vec().unwrap();
        packet[11] = 1;
        packet.extend_from_slice(&[0xff; 5]);
        packet
    };
    for asked in ["www.example.", "web.", "web.dev.svc."] {
        let answer = Message::from_vec(&split.send_raw(&rubbish(asked)).await).unwrap();
        assert_eq!(code(&answer), ResponseCode::FormErr, "{asked}");
    }
    assert_eq!(outside.seen().len(), 2);
    assert!(split.cluster.seen().is_empty());
}

#[tokio::test]
async fn a_big_answer_of_the_cluster_is_truncated_by_udp_and_whole_by_tcp() {
    let zone = big("web.dev.svc.cluster.local.", 30);
    let split = Split::of(Zone::new(), zone).await;
    let asked = query("web.dev.svc.", RecordType::TXT);
    let bytes = split.send_raw(&asked.to_vec().unwrap()).await;
    assert!(bytes.len() <= 512);
    let part = checked(&asked, &bytes);
    assert!(part.metadata.truncation);
    assert!(!part.answers.is_empty());

    let whole = split.ask_by_tcp(&asked).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 30);
}

#[tokio::test]
async fn a_big_answer_of_the_cluster_is_whole_by_udp_when_the_client_takes_it() {
    let split = Split::of(Zone::new(), big("web.dev.svc.cluster.local.", 30)).await;
    let asked = query_with_edns("web.dev.svc.", RecordType::TXT, 4096);
    let whole = split.send(&asked).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 30);

    let asked = query_with_edns("web.dev.svc.", RecordType::TXT, 1232);
    let bytes = split.send_raw(&asked.to_vec().unwrap()).await;
    assert!(bytes.len() <= 1232);
    assert!(checked(&asked, &bytes).metadata.truncation);
}

#[tokio::test]
async fn a_truncated_answer_from_outside_is_given_as_it_is_and_tcp_goes_outside_by_tcp() {
    let outside = cutting(big("www.example.", 30)).await;
    let split = Split::new(outside, Cluster::Away, Limits::default()).await;
    let asked = query("www.example.", RecordType::TXT);
    assert!(split.send(&asked).await.metadata.truncation);
    assert_eq!(split.ask_by_tcp(&asked).await.answers.len(), 30);
    let by: Vec<By> = split.outside.seen().iter().map(|seen| seen.by).collect();
    assert_eq!(by, [By::Udp, By::Tcp]);
}

#[tokio::test]
async fn an_answer_from_outside_that_is_bigger_than_the_client_takes_is_truncated() {
    let split = Split::of(big("www.example.", 30), Zone::new()).await;
    let answer = split.ask("www.example.", RecordType::TXT).await;
    assert!(answer.metadata.truncation);
    assert!(answer.answers.is_empty());
}

#[tokio::test]
async fn a_big_answer_from_outside_is_whole_by_udp_when_the_client_takes_it() {
    let split = Split::of(big("www.example.", 30), Zone::new()).await;
    let asked = query_with_edns("www.example.", RecordType::TXT, 4096);
    assert_eq!(split.send(&asked).await.answers.len(), 30);
}

#[tokio::test]
async fn one_connection_carries_many_queries_and_none_waits_for_another() {
    let split = Split::new(
        NameServer::of(Zone::new()).await,
        Cluster::Hanging,
        Limits::default(),
    )
    .await;
    let mut stream = split.connect().await;
    let slow = query("slow.dev.svc.", RecordType::A);
    write_framed(&mut stream, &slow.to_vec().unwrap()).await;
    soon(split.cluster.asked(1)).await;
    split.cluster.becomes(Cluster::Zone(
        Zone::new().a("web.dev.svc.cluster.local.", [10, 96, 0, 1]),
    ));
    for _ in 0..5 {
        let quick = query("web.dev.svc.", RecordType::A);
        write_framed(&mut stream, &quick.to_vec().unwrap()).await;
        let answer = soon(read_framed(&mut stream)).await.unwrap();
        assert_eq!(data(&checked(&quick, &answer)), ["10.96.0.1"]);
    }
    let answer = soon(read_framed(&mut stream)).await.unwrap();
    assert_eq!(code(&checked(&slow, &answer)), ResponseCode::ServFail);
}

#[tokio::test]
async fn a_query_that_comes_in_pieces_is_one_query() {
    use tokio::io::AsyncWriteExt as _;

    let split = Split::of(Zone::new().a("www.example.", [192, 0, 2, 1]), Zone::new()).await;
    let asked = query("www.example.", RecordType::A);
    let message = asked.to_vec().unwrap();
    let mut framed = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    framed.extend(message);
    let mut stream = split.connect().await;
    stream.set_nodelay(true).unwrap();
    for byte in framed {
        stream.write_all(&[byte]).await.unwrap();
    }
    let answer = soon(read_framed(&mut stream)).await.unwrap();
    assert_eq!(data(&checked(&asked, &answer)), ["192.0.2.1"]);
}

#[tokio::test]
async fn the_answers_under_way_still_come_when_the_client_has_closed_its_side() {
    use tokio::io::AsyncWriteExt as _;

    let split = Split::of(Zone::new().a("www.example.", [192, 0, 2, 1]), Zone::new()).await;
    let asked = query("www.example.", RecordType::A);
    let mut stream = split.connect().await;
    write_framed(&mut stream, &asked.to_vec().unwrap()).await;
    stream.shutdown().await.unwrap();
    let answer = soon(read_framed(&mut stream)).await.unwrap();
    assert_eq!(data(&checked(&asked, &answer)), ["192.0.2.1"]);
    assert_eq!(soon(read_framed(&mut stream)).await, None);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let limits = Limits {
        idle: Duration::from_millis(100),
        ..Limits::default()
    };
    let split = Split::new(NameServer::of(Zone::new()).await, Cluster::Away, limits).await;
    let mut stream = split.connect().await;
    assert_eq!(soon(stream.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn the_oldest_connection_is_closed_when_there_are_too_many() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let zone = Zone::new().a("www.example.", [192, 0, 2, 1]);
    let split = Split::new(NameServer::of(zone).await, Cluster::Away, limits).await;
    let mut oldest = split.connect().await;
    let mut others = [split.connect().await, split.connect().await];
    assert_eq!(soon(oldest.read(&mut [0; 1])).await.unwrap(), 0);
    for stream in &mut others {
        let asked = query("www.example.", RecordType::A);
        write_framed(stream, &asked.to_vec().unwrap()).await;
        let answer = soon(read_framed(stream)).await.unwrap();
        assert_eq!(data(&checked(&asked, &answer)), ["192.0.2.1"]);
    }
}

#[tokio::test]
async fn the_oldest_query_is_refused_when_too_many_are_under_way() {
    let limits = Limits {
        in_flight: 2,
        ..Limits::default()
    };
    let split = Split::new(NameServer::silent().await, Cluster::Away, limits).await;
    let start = Instant::now();
    let socket = split.socket().await;
    let queries: Vec<Message> = (0..3)
        .map(|_| query("www.example.", RecordType::A))
        .collect();
    for query in &queries {
        socket.send(&query.to_vec().unwrap()).await.unwrap();
    }
    let answer = receive(&socket).await;
    assert_eq!(code(&checked(&queries[0], &answer)), ResponseCode::ServFail);
    assert!(start.elapsed().as_secs() < 4, "{:?}", start.elapsed());
}

#[tokio::test]
async fn what_is_no_query_is_refused_or_dropped_and_the_next_query_is_served() {
    let split = Split::of(Zone::new().a("www.example.", [192, 0, 2, 1]), Zone::new()).await;
    let good = query("www.example.", RecordType::A);
    let socket = split.socket().await;
    let mut answer = good.to_vec().unwrap();
    answer[2] |= 0x80;
    for dropped in [&b""[..], b"\x12", b"\x12\x34", &answer] {
        socket.send(dropped).await.unwrap();
    }
    socket.send(&good.to_vec().unwrap()).await.unwrap();
    assert_eq!(
        data(&checked(&good, &receive(&socket).await)),
        ["192.0.2.1"]
    );

    let mut two = query("www.example.", RecordType::A);
    two.add_query(two.queries[0].clone());
    let mut update = query("www.example.", RecordType::SOA);
    update.metadata.op_code = OpCode::Update;
    let transfer = query("example.", RecordType::AXFR);
    let cut = &good.to_vec().unwrap()[..14];
    for (packet, expected) in [
        (&two.to_vec().unwrap()[..], ResponseCode::FormErr),
        (cut, ResponseCode::FormErr),
        (&update.to_vec().unwrap(), ResponseCode::NotImp),
        (&transfer.to_vec().unwrap(), ResponseCode::Refused),
    ] {
        let answer = Message::from_vec(&split.send_raw(packet).await).unwrap();
        assert_eq!(code(&answer), expected);
        assert_eq!(answer.metadata.id.to_be_bytes(), packet[..2]);
    }
    assert_eq!(split.outside.seen().len(), 1);
}

#[tokio::test]
async fn the_server_never_asks_itself() {
    let split = Split::of(Zone::new(), Zone::new()).await;
    split.handle.set_upstreams([split.address()]);
    let answer = split.ask("www.example.", RecordType::A).await;
    assert_eq!(code(&answer), ResponseCode::ServFail);
    assert_eq!(split.handle.stats().queries, 1);
}

#[tokio::test]
async fn the_address_is_free_when_the_server_has_ended() {
    let mut split = Split::new(
        NameServer::silent().await,
        Cluster::Hanging,
        Limits::default(),
    )
    .await;
    let socket = split.socket().await;
    let mut stream = split.connect().await;
    for asked in ["www.example.", "web.", "web.dev.svc."] {
        let asked = query(asked, RecordType::A).to_vec().unwrap();
        socket.send(&asked).await.unwrap();
        write_framed(&mut stream, &asked).await;
    }
    // Of each the cluster is asked at once, but for the name that is the outside's.
    soon(split.cluster.asked(4)).await;
    split.cancel.cancel();
    soon(&mut split.running).await.unwrap().unwrap();
    while soon(read_framed(&mut stream)).await.is_some() {}
    let again = DnsServer::bind(LOOPBACK, split.address().port(), Limits::default()).await;
    assert!(again.is_ok(), "{again:?}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_a_clear_error() {
    let split = Split::of(Zone::new(), Zone::new()).await;
    let refused = DnsServer::bind(LOOPBACK, split.address().port(), Limits::default())
        .await
        .unwrap_err();
    assert!(matches!(refused, BindError::Udp { .. }));
    let text = refused.to_string();
    assert!(text.contains(&split.address().to_string()), "{text}");
}
