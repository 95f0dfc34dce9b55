//! Packets the stack answers with by itself: TCP control segments and ICMP errors.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::checksum::{combine, data};
use smoltcp::wire::{IpAddress, IpProtocol, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use crate::Unreachable;
use crate::ip;
use crate::segment::{ACK, Segment};

const ICMP_HEADER: usize = 8;

/// How long an ICMP error may be, with its IP header: what every host must take (RFC 1812 4.3.2.3,
/// RFC 4443 2.4).
const V4_ERROR: usize = 576;
const V6_ERROR: usize = 1_280;

/// A TCP segment without data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Control {
    pub(crate) reset: bool,
    pub(crate) seq: u32,
    pub(crate) ack: Option<u32>,
    pub(crate) window: u16,
}

impl Control {
    /// The reset for a segment that belongs to no flow (RFC 9293 3.10.7.1).
    pub(crate) fn reset_for(segment: &Segment) -> Self {
        if segment.has(ACK) {
            Self {
                reset: true,
                seq: segment.ack,
                ack: None,
                window: 0,
            }
        } else {
            Self {
                reset: true,
                seq: 0,
                ack: Some(segment.end()),
                window: 0,
            }
        }
    }

    /// Returns the packet that carries it.
    pub(crate) fn packet(self, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let tcp = TcpRepr {
            src_port: from.port(),
            dst_port: to.port(),
            control: if self.reset {
                TcpControl::Rst
            } else {
                TcpControl::None
            },
            seq_number: TcpSeqNumber(self.seq as i32),
            ack_number: self.ack.map(|ack| TcpSeqNumber(ack as i32)),
            window_len: self.window,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let header = ip::header(from.ip(), to.ip(), IpProtocol::Tcp, tcp.buffer_len());
        let checksums = ChecksumCapabilities::default();
        let mut packet = vec![0; header.buffer_len()];
        header.emit(&mut packet[..], &checksums);
        tcp.emit(
            &mut TcpPacket::new_unchecked(&mut packet[header.header_len()..]),
            &IpAddress::from(from.ip()),
            &IpAddress::from(to.ip()),
            &checksums,
        );
        packet
    }
}

/// Returns the ICMP message which tells the sender of `original`, a packet to `target`, why it
/// cannot be delivered.
pub(crate) fn unreachable(
    original: &[u8],
    target: IpAddr,
    client: IpAddr,
    reason: Unreachable,
) -> Vec<u8> {
    let (protocol, kind, code, limit) = match target {
        IpAddr::V4(_) => (IpProtocol::Icmp, 3, v4_code(reason), V4_ERROR),
        IpAddr::V6(_) => (IpProtocol::Icmpv6, 1, v6_code(reason), V6_ERROR),
    };
    let room = limit - ip::header_len(target) - ICMP_HEADER;
    let quote = &original[..original.len().min(room)];
    let mut message = Vec::with_capacity(ICMP_HEADER + quote.len());
    message.extend_from_slice(&[kind, code, 0, 0, 0, 0, 0, 0]);
    message.extend_from_slice(quote);
    let mut sum = data(&message);
    if target.is_ipv6() {
        sum = combine(&[sum, ip::pseudo_sum(target, client, protocol, message.len())]);
    }
    message[2..4].copy_from_slice(&(!sum).to_be_bytes());
    // The target itself seems to say it: strict reverse-path filters take nothing else.
    ip::compose(target, client, protocol, &message)
}

/// Codes of RFC 792 and RFC 1812 5.2.7.1.
fn v4_code(reason: Unreachable) -> u8 {
    match reason {
        Unreachable::Network => 0,
        Unreachable::Host => 1,
        Unreachable::Port => 3,
        Unreachable::Prohibited => 13,
    }
}

/// Codes of RFC 4443 3.1.
fn v6_code(reason: Unreachable) -> u8 {
    match reason {
        Unreachable::Network => 0,
        Unreachable::Prohibited => 1,
        Unreachable::Host => 3,
        Unreachable::Port => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{self, RST, SYN};

    fn segment(flags: u8, payload_len: usize) -> Segment {
        Segment {
            source_port: 1,
            target_port: 2,
            seq: 1_000,
            ack: 77,
            flags,
            window: 0,
            header_len: 20,
            payload_len,
        }
    }

    #[test]
    fn a_reset_takes_its_numbers_from_the_segment_it_answers() {
        let of_ack = Control::reset_for(&segment(ACK, 5));
        assert_eq!((of_ack.seq, of_ack.ack), (77, None));
        let of_syn = Control::reset_for(&segment(SYN, 0));
        assert_eq!((of_syn.seq, of_syn.ack), (0, Some(1_001)));
        let of_bare_data = Control::reset_for(&segment(0, 5));
        assert_eq!((of_bare_data.seq, of_bare_data.ack), (0, Some(1_005)));
    }

    #[test]
    fn control_segments_are_whole_packets_with_right_checksums() {
        for (from, to) in [
            ("10.96.0.7:80", "10.0.0.1:999"),
            ("[fd00::2]:80", "[fd00::1]:999"),
        ] {
            let control = Control::reset_for(&segment(ACK, 0));
            let bytes = control.packet(from.parse().unwrap(), to.parse().unwrap());
            let packet = ip::parse(&bytes).unwrap();
            assert!(segment::checksum_is_right(&packet, packet.payload));
            let segment = Segment::parse(packet.payload).unwrap();
            assert_eq!((segment.seq, segment.flags), (77, RST));
        }
    }

    #[test]
    fn an_icmp_error_quotes_no_more_than_every_host_must_take() {
        for (client, target, limit) in [
            ("10.0.0.1", "10.96.0.7", 576),
            ("fd00::1", "fd00::2", 1_280),
        ] {
            let (client, target) = (client.parse().unwrap(), target.parse().unwrap());
            let original = ip::compose(client, target, IpProtocol::Udp, &[7; 4_000]);
            let bytes = unreachable(&original, target, client, Unreachable::Host);
            assert_eq!(bytes.len(), limit);
            let packet = ip::parse(&bytes).unwrap();
            assert_eq!((packet.source, packet.target), (target, client));
            assert_eq!(packet.payload[8..], original[..packet.payload.len() - 8]);
        }
    }
}
