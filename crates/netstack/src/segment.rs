//! The TCP header of a packet, as far as finding and judging its flow needs it.

use smoltcp::wire::checksum::combine;
use smoltcp::wire::{IpProtocol, TcpOption, TcpPacket};

use crate::ip::{self, IpPacket};

/// Where a TCP header keeps its flags, and its checksum.
pub(crate) const FLAGS_AT: usize = 13;
pub(crate) const CHECKSUM_AT: usize = 16;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// One TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) source_port: u16,
    pub(crate) target_port: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) header_len: usize,
    pub(crate) payload_len: usize,
}

impl Segment {
    /// Reads a header, unless it is too short or has no ports.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let header = TcpPacket::new_checked(payload).ok()?;
        let header_len = usize::from(header.header_len());
        let segment = Self {
            source_port: header.src_port(),
            target_port: header.dst_port(),
            seq: header.seq_number().0 as u32,
            ack: header.ack_number().0 as u32,
            flags: payload[FLAGS_AT],
            window: header.window_len(),
            header_len,
            payload_len: payload.len() - header_len,
        };
        (segment.source_port != 0 && segment.target_port != 0).then_some(segment)
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns whether this opens a connection.
    pub(crate) fn is_request(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }

    /// Returns the sequence number behind everything the segment occupies (RFC 9293's SEG.LEN).
    pub(crate) fn end(&self) -> u32 {
        let control = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        self.seq
            .wrapping_add(self.payload_len as u32)
            .wrapping_add(control)
    }
}

/// Returns by how many bits a SYN's sender will shift its windows, if it will (RFC 7323 2.2).
pub(crate) fn window_shift(segment: &[u8]) -> Option<u8> {
    let header = TcpPacket::new_checked(segment).ok()?;
    let mut options = header.options();
    while !options.is_empty() {
        match TcpOption::parse(options).ok()? {
            (_, TcpOption::WindowScale(shift)) => return Some(shift),
            (_, TcpOption::EndOfList) => return None,
            (rest, _) => options = rest,
        }
    }
    None
}

/// Says another window, and keeps a right checksum right (RFC 1624).
pub(crate) fn set_window(segment: &mut [u8], window: u16) {
    let mut header = TcpPacket::new_unchecked(segment);
    let sum = combine(&[!header.checksum(), !header.window_len(), window]);
    header.set_window_len(window);
    header.set_checksum(!sum);
}

/// Returns whether `a` is after `b` on the circle of sequence numbers.
pub(crate) fn is_after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// Returns whether the TCP or UDP checksum of a whole packet is right. A zero UDP checksum on
/// IPv4 means there is none.
pub(crate) fn checksum_is_right(packet: &IpPacket<'_>, transport: &[u8]) -> bool {
    use smoltcp::wire::checksum::data;
    if packet.protocol == IpProtocol::Udp && transport[6..8] == [0, 0] {
        return packet.source.is_ipv4();
    }
    let pseudo = ip::pseudo_sum(
        packet.source,
        packet.target,
        packet.protocol,
        transport.len(),
    );
    combine(&[pseudo, data(transport)]) == !0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_are_compared_on_a_circle() {
        assert!(is_after(1, 0));
        assert!(is_after(5, u32::MAX - 5));
        assert!(!is_after(u32::MAX - 5, 5));
        assert!(!is_after(7, 7));
    }

    #[test]
    fn a_header_that_is_cut_or_has_no_ports_is_no_segment() {
        let mut header = [0; 20];
        header[12] = 5 << 4;
        assert_eq!(Segment::parse(&header), None);
        header[..4].copy_from_slice(&[0, 1, 0, 2]);
        assert!(Segment::parse(&header).is_some());
        assert_eq!(Segment::parse(&header[..19]), None);
        header[12] = 6 << 4;
        assert_eq!(Segment::parse(&header), None);
    }

    #[test]
    fn syn_and_fin_take_a_sequence_number_each() {
        let mut bytes = [0; 23];
        bytes[..4].copy_from_slice(&[0, 1, 0, 2]);
        bytes[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        bytes[12] = 5 << 4;
        bytes[FLAGS_AT] = FIN | ACK;
        let segment = Segment::parse(&bytes).unwrap();
        assert_eq!((segment.payload_len, segment.end()), (3, 3));
        assert!(!segment.is_request());
    }
}
