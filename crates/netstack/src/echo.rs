//! Echo requests and replies: ping (RFC 792, RFC 4443 section 4).

use std::net::IpAddr;

use smoltcp::wire::IpProtocol;
use smoltcp::wire::checksum::{combine, data};

use crate::fragments::fragments;
use crate::ip::{self, IpPacket};

/// Type, code, checksum, identifier and sequence number.
const HEADER: usize = 8;
const CHECKSUM_AT: usize = 2;
const IDENTIFIER_AT: usize = 4;
/// The largest echo message over IPv4, in bytes.
pub const MAX_ECHO: usize = 65_515;

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

/// Whether a message is a whole one of this type.
fn is_of(message: &[u8], kind: u8) -> bool {
    message.len() >= HEADER && message[..2] == [kind, 0]
}

/// Returns the identifier of an echo request; `None` for every other packet, and for one that is
/// damaged.
pub(crate) fn request(packet: &IpPacket<'_>) -> Option<u16> {
    let message = packet.payload;
    let (request, _) = types(packet.target);
    let is_request = packet.protocol == protocol(packet.target)
        && is_of(message, request)
        && sum(packet.source, packet.target, message) == !0;
    is_request.then(|| u16::from_be_bytes([message[IDENTIFIER_AT], message[IDENTIFIER_AT + 1]]))
}

/// The sum that the checksum is made of; over IPv6 the addresses count as well.
fn sum(from: IpAddr, to: IpAddr, message: &[u8]) -> u16 {
    let pseudo = match from {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => ip::pseudo_sum(from, to, IpProtocol::Icmpv6, message.len()),
    };
    combine(&[pseudo, data(message)])
}

/// Whether a message is an echo reply to `client`.
pub(crate) fn is_reply(client: IpAddr, message: &[u8]) -> bool {
    is_of(message, types(client).1)
}

/// Returns as much of a request's packet as an ICMP error has to quote for its sender to know it; `None` where
/// `request` doesn't begin with a whole header.
pub(crate) fn quote(client: IpAddr, target: IpAddr, request: &[u8]) -> Option<Vec<u8>> {
    let header = request.get(..HEADER)?;
    Some(ip::compose(client, target, protocol(target), header))
}

/// Returns the packets that a reply is, with the identifier that `client` knows: one, or its fragments.
pub(crate) fn reply(
    target: IpAddr,
    client: IpAddr,
    identifier: u16,
    message: &[u8],
    mtu: usize,
    id: u32,
) -> Vec<Vec<u8>> {
    let mut message = message.to_vec();
    message[IDENTIFIER_AT..IDENTIFIER_AT + 2].copy_from_slice(&identifier.to_be_bytes());
    message[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
    let checksum = !sum(target, client, &message);
    message[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum.to_be_bytes());
    if ip::header_len(client) + message.len() <= mtu {
        return vec![ip::compose(target, client, protocol(client), &message)];
    }
    fragments(target, client, protocol(client), &message, mtu, id)
}
