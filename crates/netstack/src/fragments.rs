//! What doesn't fit into one packet, in pieces (RFC 791 section 3.2, RFC 8200 section 4.5).

use std::net::IpAddr;

use smoltcp::wire::{IpProtocol, Ipv4Packet};

use crate::ip;

const V6_FRAGMENT_HEADER: usize = 8;

/// Returns the packets that carry `whole`, each of at most `mtu` bytes; the pieces of one have the same
/// `id`.
pub(crate) fn fragments(
    from: IpAddr,
    to: IpAddr,
    protocol: IpProtocol,
    whole: &[u8],
    mtu: usize,
    id: u32,
) -> Vec<Vec<u8>> {
    if from.is_ipv4() {
        v4(from, to, protocol, whole, mtu, id as u16)
    } else {
        v6(from, to, protocol, whole, mtu, id)
    }
}

fn v4(
    from: IpAddr,
    to: IpAddr,
    protocol: IpProtocol,
    whole: &[u8],
    mtu: usize,
    id: u16,
) -> Vec<Vec<u8>> {
    let step = (mtu - ip::header_len(from)) & !7;
    let pieces = whole.chunks(step).enumerate().map(|(index, piece)| {
        let mut bytes = ip::compose(from, to, protocol, piece);
        let mut header = Ipv4Packet::new_unchecked(&mut bytes[..]);
        header.set_ident(id);
        header.set_dont_frag(false);
        header.set_frag_offset((index * step) as u16);
        header.set_more_frags(index * step + piece.len() < whole.len());
        header.fill_checksum();
        bytes
    });
    pieces.collect()
}

fn v6(
    from: IpAddr,
    to: IpAddr,
    protocol: IpProtocol,
    whole: &[u8],
    mtu: usize,
    id: u32,
) -> Vec<Vec<u8>> {
    let step = (mtu - ip::header_len(from) - V6_FRAGMENT_HEADER) & !7;
    let pieces = whole.chunks(step).enumerate().map(|(index, piece)| {
        let more = index * step + piece.len() < whole.len();
        let place = (index * step) as u16 | u16::from(more);
        let mut body = Vec::with_capacity(V6_FRAGMENT_HEADER + piece.len());
        body.extend_from_slice(&[u8::from(protocol), 0]);
        body.extend_from_slice(&place.to_be_bytes());
        body.extend_from_slice(&id.to_be_bytes());
        body.extend_from_slice(piece);
        ip::compose(from, to, IpProtocol::Ipv6Frag, &body)
    });
    pieces.collect()
}
