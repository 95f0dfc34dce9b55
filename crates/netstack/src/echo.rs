//! Echo requests and replies: ping (RFC 792, RFC 4443 section 4).

use std::net::IpAddr;

use smoltcp::wire::IpProtocol;
use smoltcp::wire::checksum::{combine, data};

use crate::fragments::fragments;
use crate::ip::{self, IpPacket};

/// Type, code, checksum, identifier and sequence number.
const HEADER: usize = 8;
const CHECKSUM_AT: usize = 2;
/// The largest payload of an echo, in bytes: what IPv4 can carry; IPv6 is held to it too.
pub const MAX_ECHO: usize = 65_507;

/// An echo request as it came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Echo<'a> {
    pub(crate) identifier: u16,
    pub(crate) sequence: u16,
    pub(crate) payload: &'a [u8],
}

/// The message types of a family's requests and replies.
fn types(address: IpAddr) -> (u8, u8) {
    match address {
        IpAddr::V4(_) => (8, 0),
        IpAddr::V6(_) => (128, 129),
    }
}

fn protocol(address: IpAddr) -> IpProtocol {
    match address {
        IpAddr::V4(_) => IpProtocol::Icmp,
        IpAddr::V6(_) => IpProtocol::Icmpv6,
    }
}

/// Reads an echo request; `None` for every other message, and for one that is damaged.
pub(crate) fn parse<'a>(packet: &IpPacket<'a>) -> Option<Echo<'a>> {
    let message = packet.payload;
    let (request, _) = types(packet.target);
    let payload = message.get(HEADER..)?;
    let field = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let is_whole = sum(packet.source, packet.target, message) == !0;
    (packet.protocol == protocol(packet.target) && message[..2] == [request, 0] && is_whole).then(
        || Echo {
            identifier: field(4),
            sequence: field(6),
            payload,
        },
    )
}

/// The sum that the checksum is made of; over IPv6 the addresses count as well.
fn sum(from: IpAddr, to: IpAddr, message: &[u8]) -> u16 {
    let pseudo = match from {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => ip::pseudo_sum(from, to, IpProtocol::Icmpv6, message.len()),
    };
    combine(&[pseudo, data(message)])
}

/// Returns the packets that a reply from `target` to `client` is: one, or its fragments.
pub(crate) fn reply(
    target: IpAddr,
    client: IpAddr,
    echo: &Echo<'_>,
    mtu: usize,
    id: u32,
) -> Vec<Vec<u8>> {
    let (_, reply) = types(client);
    let mut message = Vec::with_capacity(HEADER + echo.payload.len());
    message.extend_from_slice(&[reply, 0, 0, 0]);
    message.extend_from_slice(&echo.identifier.to_be_bytes());
    message.extend_from_slice(&echo.sequence.to_be_bytes());
    message.extend_from_slice(echo.payload);
    let checksum = !sum(target, client, &message);
    message[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum.to_be_bytes());
    if ip::header_len(client) + message.len() <= mtu {
        return vec![ip::compose(target, client, protocol(client), &message)];
    }
    fragments(target, client, protocol(client), &message, mtu, id)
}
