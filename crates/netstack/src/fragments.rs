//! What doesn't fit into one packet, in pieces (RFC 791 section 3.2, RFC 8200 section 4.5).

use std::net::IpAddr;

use smoltcp::wire::{IpProtocol, Ipv4Packet};

use crate::ip;

const V6_FRAGMENT_HEADER: usize = 8;

/// Where a piece belongs.
struct Place {
    id: u32,
    offset: u16,
    more: bool,
}

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
    let extension = if from.is_ipv4() {
        0
    } else {
        V6_FRAGMENT_HEADER
    };
    let step = (mtu - ip::header_len(from) - extension) & !7;
    let pieces = whole.chunks(step).enumerate().map(|(index, piece)| {
        let place = Place {
            id,
            offset: (index * step) as u16,
            more: index * step + piece.len() < whole.len(),
        };
        if from.is_ipv4() {
            v4(ip::compose(from, to, protocol, piece), &place)
        } else {
            let body = v6(protocol, piece, &place);
            ip::compose(from, to, IpProtocol::Ipv6Frag, &body)
        }
    });
    pieces.collect()
}

/// Writes the place into the header of a packet.
fn v4(mut packet: Vec<u8>, place: &Place) -> Vec<u8> {
    let mut header = Ipv4Packet::new_unchecked(&mut packet[..]);
    header.set_ident(place.id as u16);
    header.set_dont_frag(false);
    header.set_frag_offset(place.offset);
    header.set_more_frags(place.more);
    header.fill_checksum();
    packet
}

/// Puts a header with the place in front of a piece.
fn v6(protocol: IpProtocol, piece: &[u8], place: &Place) -> Vec<u8> {
    let mut body = Vec::with_capacity(V6_FRAGMENT_HEADER + piece.len());
    body.extend_from_slice(&[u8::from(protocol), 0]);
    body.extend_from_slice(&(place.offset | u16::from(place.more)).to_be_bytes());
    body.extend_from_slice(&place.id.to_be_bytes());
    body.extend_from_slice(piece);
    body
}
