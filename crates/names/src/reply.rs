//! Answers that are made here, and how they fit into what the client takes.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns as Opt, Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

use crate::request::{Edns, Request};
use crate::wire;

/// What we would take by UDP ourselves: what passes every path unfragmented.
pub(crate) const OUR_PAYLOAD: u16 = 1232;

/// The addresses of `localhost` don't change.
const LOCALHOST_TTL: u32 = 3600;

/// An answer without records.
pub(crate) fn empty(request: &Request, code: ResponseCode) -> Message {
    let mut answer = Message::response(request.metadata.id, OpCode::Query);
    answer.metadata.recursion_desired = request.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.checking_disabled = request.metadata.checking_disabled;
    answer.metadata.response_code = code;
    answer.add_query(request.question.clone());
    if let Edns::Present { dnssec_ok, .. } = request.edns {
        let mut opt = Opt::new();
        opt.set_max_payload(OUR_PAYLOAD).set_dnssec_ok(dnssec_ok);
        answer.set_edns(opt);
    }
    answer
}

/// The answer for `localhost` and all below it, RFC 6761 section 6.3: the loopback addresses, and no
/// data of any other type.
pub(crate) fn localhost(request: &Request) -> Message {
    let mut answer = empty(request, ResponseCode::NoError);
    answer.metadata.authoritative = true;
    let data = match (request.question.query_class, request.question.query_type) {
        (DNSClass::IN, RecordType::A) => RData::A(A(Ipv4Addr::LOCALHOST)),
        (DNSClass::IN, RecordType::AAAA) => RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)),
        _ => return answer,
    };
    let name = request.question.name.clone();
    answer.add_answer(Record::from_rdata(name, LOCALHOST_TTL, data));
    answer
}

/// Writes an answer in at most `limit` bytes. Additional records are left out silently (RFC 2181
/// section 9); when that isn't enough, the answer is marked as truncated and has as many records
/// as fit.
///
/// What can't be written at all becomes a server failure.
pub(crate) fn write(answer: Message, limit: usize) -> Vec<u8> {
    let (id, recursion_desired) = (answer.metadata.id, answer.metadata.recursion_desired);
    fit(answer, limit).unwrap_or_else(|error| {
        tracing::debug!(%error, "an answer couldn't be written");
        wire::bare_answer(
            id,
            u8::from(recursion_desired),
            ResponseCode::ServFail.low(),
        )
    })
}

fn fit(mut answer: Message, limit: usize) -> Result<Vec<u8>, ProtoError> {
    let whole = answer.to_vec()?;
    // A message beyond the protocol's own limit comes back marked as truncated.
    if whole.len() <= limit && (answer.metadata.truncation || !wire::is_truncated(&whole)) {
        return Ok(whole);
    }
    answer.additionals.clear();
    let without = answer.to_vec()?;
    if without.len() <= limit && (answer.metadata.truncation || !wire::is_truncated(&without)) {
        return Ok(without);
    }
    answer.metadata.truncation = true;
    answer.authorities.clear();
    let records = std::mem::take(&mut answer.answers);
    // The length grows with the number of records: find the most that fit by halving.
    let (mut fits, mut too_many) = (0, records.len() + 1);
    while too_many - fits > 1 {
        let middle = fits + (too_many - fits) / 2;
        answer.answers = records[..middle].to_vec();
        if answer.to_vec()?.len() <= limit {
            fits = middle;
        } else {
            too_many = middle;
        }
    }
    answer.answers = records[..fits].to_vec();
    answer.to_vec()
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
