//! Messages for tests.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, MX, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;

use crate::request::{Received, Request};

pub(crate) fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

pub(crate) fn query(asked: &str, kind: RecordType) -> Message {
    let mut query = Message::new(0x1234, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name(asked), kind));
    query
}

pub(crate) fn with_edns(mut query: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    query.set_edns(edns);
    query
}

pub(crate) fn request(query: &Message) -> Request {
    match Received::read(&query.to_vec().unwrap()) {
        Received::Request(request) => request,
        other => panic!("not a request: {other:?}"),
    }
}

/// An answer to `query` without records.
pub(crate) fn answer_to(query: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.metadata.response_code = code;
    answer.add_queries(query.queries.iter().cloned());
    answer
}

pub(crate) fn a(owner: &str, ttl: u32, last: u8) -> Record {
    Record::from_rdata(
        name(owner),
        ttl,
        RData::A(A(Ipv4Addr::new(10, 96, 0, last))),
    )
}

pub(crate) fn soa(owner: &str, ttl: u32, minimum: u32) -> Record {
    let soa = SOA::new(name("ns."), name("root."), 1, 7200, 1800, 86400, minimum);
    Record::from_rdata(name(owner), ttl, RData::SOA(soa))
}

pub(crate) fn txt(owner: &str, text: &str) -> Record {
    let text = TXT::new(vec![text.to_owned()]);
    Record::from_rdata(name(owner), 30, RData::TXT(text))
}

/// Records of the types that a cluster has, with few names, so that they meet.
pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    let owner = prop::sample::select(vec![
        "web.dev.svc.cluster.local.",
        "Web.dev.svc.cluster.local.",
        "web.",
        "api.dev.svc.cluster.local.",
        "cluster.local.",
        "host.example.",
    ]);
    let target = owner.clone();
    let data = prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| RData::A(A(octets.into()))),
        target.clone().prop_map(|to| RData::CNAME(CNAME(name(to)))),
        (any::<u16>(), target.clone()).prop_map(|(port, to)| RData::SRV(SRV::new(
            0,
            100,
            port,
            name(to)
        ))),
        (any::<u16>(), target).prop_map(|(order, to)| RData::MX(MX::new(order, name(to)))),
        "[ -~]{0,200}".prop_map(|text| RData::TXT(TXT::new(vec![text]))),
    ];
    (owner, any::<u32>(), data)
        .prop_map(|(owner, ttl, data)| Record::from_rdata(name(owner), ttl, data))
}
