//! The client's question as the cluster is asked, and the cluster's answer as the client is told.

use hickory_proto::op::{Edns as Opt, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use crate::lookup::BadAnswer;
use crate::reply;
use crate::request::Request;

/// The query for the cluster: the client's question by the name `ask`. What the client says to us
/// alone (payload size, cookies, padding) stays here.
pub(crate) fn cluster_query(request: &Request, ask: &Name, id: u16) -> Message {
    let mut query = Message::new(id, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.metadata.checking_disabled = request.metadata.checking_disabled;
    query.add_query(cluster_question(request, ask));
    let mut opt = Opt::new();
    opt.set_max_payload(reply::OUR_PAYLOAD)
        .set_dnssec_ok(request.dnssec_ok());
    query.set_edns(opt);
    query
}

fn cluster_question(request: &Request, ask: &Name) -> Query {
    let mut question = request.question.clone();
    question.set_name(ask.clone());
    question
}

/// Reads what came for `query`.
///
/// # Errors
///
/// When it can't be read, or answers something else.
pub(crate) fn read_answer(bytes: &[u8], query: &Message) -> Result<Message, BadAnswer> {
    let answer = Message::from_vec(bytes).map_err(BadAnswer::Unreadable)?;
    let answers = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == query.metadata.id
        && answer.queries == query.queries;
    if answers {
        Ok(answer)
    } else {
        Err(BadAnswer::Mismatch)
    }
}

/// The cluster's answer as one to the client's own question: records of the name that was asked
/// become records of the name that the client asked; everything else stays, also the names inside
/// the records (an SRV record's target resolves by its full name) and all times to live.
pub(crate) fn client_answer(answer: Message, request: &Request, ask: &Name) -> Message {
    let code = match answer.metadata.response_code {
        // An extended code is about the EDNS between us and the cluster.
        code if code.high() > 0 => ResponseCode::ServFail,
        code => code,
    };
    let mut told = reply::empty(request, code);
    told.metadata.authoritative = answer.metadata.authoritative;
    told.metadata.truncation = answer.metadata.truncation;
    told.answers = answer.answers;
    told.authorities = answer.authorities;
    told.additionals = answer.additionals;

    let asked = &request.question.name;
    for record in &mut told.answers {
        if record.name == *ask {
            record.name = asked.clone();
        }
    }
    // A resolver may disregard an SOA that isn't above its question (RFC 2308 section 5).
    for record in &mut told.authorities {
        let above = record.name.zone_of(ask) && !record.name.zone_of(asked);
        if record.record_type() == RecordType::SOA && above {
            record.name = asked.clone();
        }
    }
    told
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
