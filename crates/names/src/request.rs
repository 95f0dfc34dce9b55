//! What a client asks, as far as it must be understood.

use hickory_proto::op::{Message, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::wire::{self, CLASSIC_UDP, Head};

/// Most bytes in a UDP datagram over IPv4.
const MAX_DATAGRAM: usize = 65_507;

/// A packet that came in.
#[derive(Debug)]
pub(crate) enum Received {
    /// A question.
    Request(Request),
    /// Nothing that can be asked of anybody; this answers it.
    Answered(Vec<u8>),
    /// Nothing that may be answered.
    Ignored,
}

/// One question with what its answer depends on.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) metadata: Metadata,
    pub(crate) question: Query,
    pub(crate) edns: Edns,
}

/// What the client says by EDNS, RFC 6891.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edns {
    Absent,
    Present {
        payload: u16,
        version: u8,
        dnssec_ok: bool,
    },
    /// What follows the question can't be read. Others may know better: such a query is forwarded,
    /// but never rewritten.
    Unreadable,
}

impl Received {
    /// Reads a packet. Total: every sequence of bytes is one of the three.
    pub(crate) fn read(packet: &[u8]) -> Self {
        let (Some(id), Some(&flags)) = (wire::id(packet), packet.get(2)) else {
            return Self::Ignored;
        };
        if flags & 0x80 != 0 {
            // Answering answers would let two servers talk for ever.
            return Self::Ignored;
        }
        let refuse = |code: ResponseCode| Self::Answered(wire::bare_answer(id, flags, code.low()));
        if OpCode::from_u8((flags & 0x78) >> 3) != OpCode::Query {
            return refuse(ResponseCode::NotImp);
        }
        let Ok(head) = Head::read(packet) else {
            return refuse(ResponseCode::FormErr);
        };
        let Some(question) = head.question else {
            return refuse(ResponseCode::FormErr);
        };
        if matches!(question.query_type, RecordType::AXFR | RecordType::IXFR) {
            // A zone transfer is many messages, and no resolver's work.
            return refuse(ResponseCode::Refused);
        }
        Self::Request(Request {
            metadata: head.header.metadata,
            question,
            edns: Edns::read(packet),
        })
    }
}

impl Edns {
    fn read(packet: &[u8]) -> Self {
        match Message::from_vec(packet) {
            Ok(message) => message.edns.map_or(Self::Absent, |edns| Self::Present {
                payload: edns.max_payload(),
                version: edns.version(),
                dnssec_ok: edns.flags().dnssec_ok,
            }),
            Err(_) => Self::Unreadable,
        }
    }
}

impl Request {
    /// Most bytes that the client takes in a datagram.
    pub(crate) fn datagram_limit(&self) -> usize {
        match self.edns {
            Edns::Present { payload, .. } => usize::from(payload).clamp(CLASSIC_UDP, MAX_DATAGRAM),
            Edns::Absent | Edns::Unreadable => CLASSIC_UDP,
        }
    }

    /// Whether the client wants DNSSEC records, RFC 3225.
    pub(crate) fn dnssec_ok(&self) -> bool {
        matches!(
            self.edns,
            Edns::Present {
                dnssec_ok: true,
                ..
            }
        )
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
