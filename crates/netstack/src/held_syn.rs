//! A connection request whose answer is not decided yet.
//!
//! Nothing but the SYN is kept: it is fed to a socket on acceptance, answered with a reset on
//! refusal, and quoted in an ICMP message when the target cannot be reached. A waiting flow so
//! costs no socket and no buffer.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket, TcpRepr};

use crate::FlowKey;
use crate::clock::Micros;
use crate::ip::IpPacket;
use crate::segment::Segment;

/// What a client that names no MSS is taken to mean (RFC 9293 3.7.1).
const DEFAULT_MSS: usize = 536;

/// smoltcp takes no smaller MSS than Linux does; both must agree on how large a segment is.
const MIN_MSS: usize = 48;

/// A held SYN.
#[derive(Debug)]
pub(crate) struct HeldSyn {
    pub(crate) key: FlowKey,
    /// Since when it has been waiting.
    pub(crate) since: Micros,
    pub(crate) segment: Segment,
    /// The whole packet, without data and with a right checksum.
    pub(crate) packet: Vec<u8>,
    /// The most bytes the client takes in one segment.
    pub(crate) mss: usize,
}

impl HeldSyn {
    /// Keeps a SYN, unless smoltcp would not understand it later.
    pub(crate) fn new(
        key: FlowKey,
        packet: &IpPacket<'_>,
        segment: Segment,
        now: Micros,
    ) -> Option<Self> {
        let (source, target) = (
            IpAddress::from(packet.source),
            IpAddress::from(packet.target),
        );
        let ignored = ChecksumCapabilities::ignored();
        let header = TcpPacket::new_checked(packet.payload).ok()?;
        let parsed = TcpRepr::parse(&header, &source, &target, &ignored).ok()?;
        let mss = match parsed.max_seg_size {
            None | Some(0) => DEFAULT_MSS,
            Some(mss) => usize::from(mss).max(MIN_MSS),
        };
        // Data on a SYN (RFC 7413) is not acknowledged, so the client sends it again.
        let mut bytes = packet.bytes[..packet.bytes.len() - segment.payload_len].to_vec();
        let ip_len = bytes.len() - segment.header_len;
        if packet.source.is_ipv4() {
            let total = bytes.len() as u16;
            let mut header = Ipv4Packet::new_unchecked(&mut bytes[..]);
            header.set_total_len(total);
            header.fill_checksum();
        } else {
            let payload = segment.header_len as u16;
            Ipv6Packet::new_unchecked(&mut bytes[..]).set_payload_len(payload);
        }
        TcpPacket::new_unchecked(&mut bytes[ip_len..]).fill_checksum(&source, &target);
        let segment = Segment {
            payload_len: 0,
            ..segment
        };
        Some(Self {
            key,
            since: now,
            segment,
            packet: bytes,
            mss,
        })
    }
}
