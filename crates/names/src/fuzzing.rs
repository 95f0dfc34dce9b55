//! What has to be true of any bytes that somebody calls a DNS message: for the fuzzer (`fuzz/`), which
//! has nothing else to hold on to inside this crate.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures::FutureExt as _;
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{Record, RecordType};

use crate::cache::{Cache, Key};
use crate::request::{Received, Request};
use crate::wire::{self, CLASSIC_UDP, HEADER, Head, MAX_MESSAGE};
use crate::{Name, Policy, Route, classify, frame, reply, rewrite};

/// The most that [`answer`] lets a record live.
const TTL: u32 = 30;

/// Reads a client's packet, and makes of it whatever is made of a question.
pub fn request(packet: &[u8]) {
    match Received::read(packet) {
        Received::Ignored => {}
        Received::Answered(answer) => {
            assert_eq!(answer.len(), HEADER);
            assert_eq!(wire::id(&answer), wire::id(packet));
            let head = Head::read(&answer).expect("our own answer");
            assert!(head.is_response() && head.question.is_none());
        }
        Received::Request(request) => asked(&request, packet),
    }
}

fn asked(request: &Request, packet: &[u8]) {
    let limit = request.datagram_limit();
    assert!(limit >= CLASSIC_UDP);
    for answer in [
        reply::empty(request, ResponseCode::ServFail),
        reply::localhost(request),
    ] {
        let written = reply::write(answer, limit);
        assert!(written.len() <= limit);
        assert_eq!(wire::id(&written), wire::id(packet));
        let head = Head::read(&written).expect("our own answer");
        assert!(head.is_response());
        assert_eq!(head.question.as_ref(), Some(&request.question));
    }
    let other = wire::with_type(packet, RecordType::TXT).expect("it has one question");
    assert_eq!(other.len(), packet.len());
    let question = Head::read(&other).ok().and_then(|head| head.question);
    let mut expected = request.question.clone();
    expected.set_query_type(RecordType::TXT);
    assert_eq!(question, Some(expected));
    let policy = Policy::new("cluster.local", "dev", ["dev", "shop"], []).expect("a domain");
    if let Route::Cluster(ask) | Route::OutsideFirst(ask) | Route::OutsideThenCluster(ask) =
        classify(&policy, &request.question.name)
    {
        let query = rewrite::cluster_query(request, &ask, 7);
        let written = query.to_vec().expect("a name that was read can be written");
        let read = Message::from_vec(&written).expect("our own query");
        assert_eq!((read.metadata.id, &read.queries), (7, &query.queries));
    }
}

/// Reads what should be an answer, and does with it all that is done with answers.
pub fn answer(bytes: &[u8]) {
    capped(bytes);
    cut(bytes);
    let Ok(message) = Message::from_vec(bytes) else {
        return;
    };
    let [question] = &message.queries[..] else {
        return;
    };
    let mut query = Message::query();
    query.metadata.id = message.metadata.id;
    query.add_query(question.clone());
    let read = rewrite::read_answer(bytes, &query);
    let is_response = message.metadata.message_type == MessageType::Response;
    assert_eq!(read.is_ok(), is_response);
    let (Ok(answer), Ok(packet)) = (read, query.to_vec()) else {
        return;
    };
    let Received::Request(request) = Received::read(&packet) else {
        // A zone transfer is answered, not asked.
        return;
    };
    remembered(&request, &answer, bytes.len());
    // The client asked by a shorter name.
    let mut request = request;
    let asked = Name::from_ascii("web.").expect("a name");
    request.question.set_name(asked.clone());
    let told = rewrite::client_answer(answer, &request, &question.name);
    let is_left = |record: &Record| record.name == question.name && record.name != asked;
    assert!(!told.answers.iter().any(is_left));
    assert_eq!(told.metadata.id, request.metadata.id);
    assert_eq!(told.queries, [request.question.clone()]);
    for limit in [CLASSIC_UDP, 1_232, MAX_MESSAGE] {
        let written = reply::write(told.clone(), limit);
        assert!(written.len() <= limit, "{} of {limit}", written.len());
        let head = Head::read(&written).expect("our own answer");
        assert!(head.is_response());
        assert_eq!(head.header.id, request.metadata.id);
    }
}

/// No record lives longer than it may, and nothing else is changed; nothing at all, where that would change more.
fn capped(bytes: &[u8]) {
    let mut lowered = bytes.to_vec();
    wire::cap_ttls(&mut lowered, TTL);
    assert_eq!(lowered.len(), bytes.len());
    let mut forced = bytes.to_vec();
    wire::lower_ttls(&mut forced, TTL);
    if lowered != forced {
        assert!(lowered == bytes && !wire::says_the_same(bytes, &forced));
        return;
    }
    let (Ok(before), Ok(after)) = (Message::from_vec(bytes), Message::from_vec(&lowered)) else {
        return;
    };
    assert_eq!(before.metadata, after.metadata);
    assert_eq!(before.queries, after.queries);
    for (before, after) in records(&before).zip(records(&after)) {
        assert_eq!(after.ttl, before.ttl.min(TTL));
        assert_eq!((&before.name, &before.data), (&after.name, &after.data));
    }
    assert_eq!(records(&before).count(), records(&after).count());
}

fn records(message: &Message) -> impl Iterator<Item = &Record> {
    message
        .answers
        .iter()
        .chain(&message.authorities)
        .chain(&message.additionals)
}

/// An answer without its records is one still.
fn cut(bytes: &[u8]) {
    let Some(cut) = wire::truncated(bytes) else {
        return;
    };
    assert!(cut.len() <= bytes.len() && wire::is_truncated(&cut));
    assert_eq!(wire::answers(&cut), 0);
    assert_eq!(wire::response_code(&cut), wire::response_code(bytes));
    let (before, after) = (Head::read(bytes), Head::read(&cut));
    let question = |head: Result<Head, _>| head.ok().map(|head| head.question);
    assert_eq!(question(before), question(after));
}

/// What is remembered is what was put in, for a while, and never lives longer.
fn remembered(request: &Request, answer: &Message, size: usize) {
    let now = Instant::now();
    let key = Key {
        question: request.question.clone(),
        dnssec_ok: request.dnssec_ok(),
        checking_disabled: request.metadata.checking_disabled,
    };
    let mut cache = Cache::new(2, 4_096);
    let epoch = cache.epoch();
    cache.insert(key.clone(), answer, size, epoch, now);
    if let Some(found) = cache.get(&key, now + Duration::from_secs(1)) {
        assert!(size <= 4_096 && !answer.metadata.truncation);
        assert_eq!(found.metadata, answer.metadata);
        for (found, put) in records(&found).zip(records(answer)) {
            assert!(found.ttl <= put.ttl);
            assert_eq!((&found.name, &found.data), (&put.name, &put.data));
        }
    }
    assert!(cache.get(&key, now + Duration::from_secs(5)).is_none());
}

/// Reads a TCP stream to its end: what comes out is what was put in, message by message.
pub fn stream(bytes: &[u8]) {
    let (mut left, mut buffer) = (bytes, BytesMut::new());
    let mut read = Vec::new();
    loop {
        let next = frame::read(&mut left, &mut buffer);
        match next.now_or_never().expect("nothing to wait for") {
            Ok(Some(message)) => read.push(message),
            Ok(None) => break,
            Err(_) => {
                assert!(!buffer.is_empty(), "an unfinished message is an error");
                break;
            }
        }
    }
    let mut written = Vec::new();
    for message in &read {
        let write = frame::write(&mut written, message);
        assert!(write.now_or_never().is_some_and(|written| written.is_ok()));
    }
    written.extend_from_slice(&buffer);
    assert!(written == bytes, "bytes were lost or made up");
}

/// Takes a text for the cluster's domain, or for a name outside of it.
pub fn domain(text: &str) {
    if let Ok(policy) = Policy::new(text, "dev", ["dev", "shop"], []) {
        let policy = policy.with_outside([text]);
        for name in [text, "web", "web.shop", "web.shop.svc"] {
            if let Ok(name) = Name::from_ascii(name) {
                let _ = classify(&policy, &name);
            }
        }
    }
}
