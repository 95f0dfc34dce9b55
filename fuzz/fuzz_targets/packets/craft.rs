//! Packets made by hand, near to those that mean something.

use std::collections::HashMap;
use std::net::SocketAddr;

use arbitrary::Arbitrary;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::checksum::{combine, data, pseudo_header};
use smoltcp::wire::{
    IpAddress, IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, TcpPacket, TcpSeqNumber,
};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

/// A client and a target: few, so that they meet again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
pub struct Endpoints {
    v6: bool,
    client: u8,
    target: u8,
}

impl Endpoints {
    const CLIENTS: u8 = 6;

    /// One that no step means.
    pub fn last(v6: bool) -> Self {
        Self {
            v6,
            client: Self::CLIENTS,
            target: 0,
        }
    }

    fn near(self) -> Self {
        Self {
            v6: self.v6,
            client: self.client % Self::CLIENTS,
            target: self.target % 2,
        }
    }

    pub fn addresses(self) -> (SocketAddr, SocketAddr) {
        let (client, target) = (
            5_000 + u16::from(self.client),
            80 + u16::from(self.target % 2),
        );
        if self.v6 {
            let at = |last| [0xfd00, 0, 0, 0, 0, 0, 0, last];
            ((at(1), client).into(), (at(7), target).into())
        } else {
            (
                ([10, 0, 0, 1], client).into(),
                ([10, 96, 0, 7], target).into(),
            )
        }
    }
}

/// A segment with numbers near those that count.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct Segment {
    ends: Endpoints,
    flags: u8,
    seq: i16,
    ack: i16,
    window: u16,
    length: u16,
    urgent: bool,
}

/// What a client and the stack have said to each other.
#[derive(Default)]
pub struct Talk {
    /// What comes next of the client's, and of the stack's.
    next: HashMap<(SocketAddr, SocketAddr), (u32, u32)>,
}

impl Talk {
    /// Makes a packet of a segment, and takes note of what it says.
    pub fn packet(&mut self, segment: &Segment) -> Vec<u8> {
        let (client, target) = segment.ends.near().addresses();
        let next = self.next.entry((client, target)).or_insert((1_000, 0));
        let seq = next.0.wrapping_add_signed(segment.seq.into());
        let ack = next.1.wrapping_add_signed(segment.ack.into());
        let length = usize::from(segment.length) % 3_000;
        let flags = segment.flags & 0x1f | u8::from(segment.urgent) << 5;
        if segment.seq == 0 {
            let control = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
            next.0 = next.0.wrapping_add(length as u32 + control);
        }
        let payload = vec![0x5a; length];
        tcp(client, target, seq, ack, flags, segment.window, &payload)
    }

    /// Hears a packet of the stack's.
    pub fn hear(&mut self, packet: &[u8]) {
        let Some((source, target, segment)) = read_tcp(packet) else {
            return;
        };
        let next = self.next.entry((target, source)).or_insert((1_000, 0));
        next.1 = segment;
    }

    /// What the client that no step means acknowledges.
    pub fn heard_from(&self, v6: bool) -> Option<u32> {
        self.next
            .get(&Endpoints::last(v6).addresses())
            .map(|next| next.1)
    }
}

/// Source, target, and the number behind the segment; `None` for another packet.
fn read_tcp(packet: &[u8]) -> Option<(SocketAddr, SocketAddr, u32)> {
    let (source, target, protocol, transport) = if packet[0] >> 4 == 4 {
        let ip = Ipv4Packet::new_checked(packet).ok()?;
        let (source, target): (IpAddress, IpAddress) = (ip.src_addr().into(), ip.dst_addr().into());
        (source, target, ip.next_header(), &packet[V4_HEADER..])
    } else {
        let ip = Ipv6Packet::new_checked(packet).ok()?;
        let (source, target): (IpAddress, IpAddress) = (ip.src_addr().into(), ip.dst_addr().into());
        (source, target, ip.next_header(), &packet[V6_HEADER..])
    };
    if protocol != IpProtocol::Tcp {
        return None;
    }
    let tcp = TcpPacket::new_checked(transport).ok()?;
    let end = tcp.seq_number() + tcp.segment_len();
    Some((
        SocketAddr::new(source.into(), tcp.src_port()),
        SocketAddr::new(target.into(), tcp.dst_port()),
        end.0 as u32,
    ))
}

/// Returns a TCP packet with right checksums.
pub fn tcp(
    from: SocketAddr,
    to: SocketAddr,
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    payload: &[u8],
) -> Vec<u8> {
    let (source, target) = (IpAddress::from(from.ip()), IpAddress::from(to.ip()));
    let mut bytes = plain(source, target, IpProtocol::Tcp, 20 + payload.len());
    let ip_len = bytes.len() - 20 - payload.len();
    let tcp = &mut bytes[ip_len..];
    tcp[12] = 5 << 4;
    tcp[13] = flags;
    tcp[20..].copy_from_slice(payload);
    let mut tcp = TcpPacket::new_unchecked(tcp);
    tcp.set_src_port(from.port());
    tcp.set_dst_port(to.port());
    tcp.set_seq_number(TcpSeqNumber(seq as i32));
    tcp.set_ack_number(TcpSeqNumber(ack as i32));
    tcp.set_window_len(window);
    tcp.fill_checksum(&source, &target);
    bytes
}

fn plain(source: IpAddress, target: IpAddress, protocol: IpProtocol, length: usize) -> Vec<u8> {
    let ip = IpRepr::new(source, target, protocol, length, 64);
    let mut bytes = vec![0; ip.buffer_len()];
    ip.emit(&mut bytes[..], &ChecksumCapabilities::default());
    bytes
}

/// A piece of a larger packet.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct Piece {
    ends: Endpoints,
    protocol: u8,
    id: u8,
    /// In units of eight bytes.
    offset: u16,
    more: bool,
    length: u16,
    fill: u8,
}

impl Piece {
    pub fn packet(&self) -> Vec<u8> {
        let (from, to) = self.ends.addresses();
        let (source, target) = (IpAddress::from(from.ip()), IpAddress::from(to.ip()));
        let protocol = [17, 6, 1, 58][usize::from(self.protocol % 4)];
        let length = usize::from(self.length);
        let offset = self.offset % 8_192;
        if self.ends.v6 {
            let length = length.min(65_535 - 8);
            let mut bytes = plain(source, target, IpProtocol::Ipv6Frag, 8 + length);
            let field = offset << 3 | u16::from(self.more);
            bytes[V6_HEADER..][..8].fill(0);
            bytes[V6_HEADER] = protocol;
            bytes[V6_HEADER + 2..][..2].copy_from_slice(&field.to_be_bytes());
            bytes[V6_HEADER + 7] = self.id % 8;
            bytes[V6_HEADER + 8..].fill(self.fill);
            bytes
        } else {
            let length = length.min(65_535 - V4_HEADER);
            let mut bytes = plain(source, target, protocol.into(), length);
            bytes[V4_HEADER..].fill(self.fill);
            let mut ip = Ipv4Packet::new_unchecked(&mut bytes[..]);
            ip.set_ident((self.id % 8).into());
            ip.set_dont_frag(false);
            ip.set_more_frags(self.more);
            ip.set_frag_offset(offset * 8);
            ip.fill_checksum();
            bytes
        }
    }
}

/// Puts lengths and checksums right where they are to be found.
pub fn mend(bytes: &mut [u8]) {
    let len = bytes.len();
    match bytes.first().map(|first| first >> 4) {
        Some(4) if len >= V4_HEADER => {
            let header_len = (usize::from(bytes[0] & 15) * 4).clamp(V4_HEADER, len);
            bytes[2..4].copy_from_slice(&(len.min(65_535) as u16).to_be_bytes());
            bytes[10..12].fill(0);
            let sum = !data(&bytes[..header_len]);
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            let ends = (address(&bytes[12..16]), address(&bytes[16..20]));
            let protocol = bytes[9];
            mend_transport(ends, protocol, &mut bytes[header_len..]);
        }
        Some(6) if len >= V6_HEADER => {
            let payload = (len - V6_HEADER).min(65_535) as u16;
            bytes[4..6].copy_from_slice(&payload.to_be_bytes());
            let ends = (address(&bytes[8..24]), address(&bytes[24..40]));
            let protocol = bytes[6];
            mend_transport(ends, protocol, &mut bytes[V6_HEADER..]);
        }
        _ => {}
    }
}

fn address(octets: &[u8]) -> IpAddress {
    match <[u8; 4]>::try_from(octets) {
        Ok(v4) => IpAddress::Ipv4(v4.into()),
        Err(_) => IpAddress::Ipv6(<[u8; 16]>::try_from(octets).expect("one of both").into()),
    }
}

fn mend_transport((source, target): (IpAddress, IpAddress), protocol: u8, bytes: &mut [u8]) {
    let (at, has_pseudo) = match protocol {
        6 => (16, true),
        17 => (6, true),
        1 => (2, false),
        58 => (2, true),
        _ => return,
    };
    if bytes.len() < at + 2 {
        return;
    }
    bytes[at..at + 2].fill(0);
    let pseudo = if has_pseudo {
        pseudo_header(&source, &target, protocol.into(), bytes.len() as u32)
    } else {
        0
    };
    let sum = !combine(&[pseudo, data(bytes)]);
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
