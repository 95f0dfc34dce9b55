//! UDP datagrams to packets and back, fragments included.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::checksum::{combine, data};
use smoltcp::wire::{IpProtocol, UdpPacket};

use crate::SendDatagramError;
use crate::fragments::fragments;
use crate::ip::{self, IpPacket};
use crate::offload::Offload;

/// The largest payload of a UDP datagram over IPv4, in bytes.
pub const MAX_DATAGRAM: usize = 65_507;

const UDP_HEADER: usize = 8;
const UDP_CHECKSUM_AT: usize = 6;

/// Returns the largest payload of a UDP datagram of the address's family, in bytes: the length field
/// of IPv6 doesn't count the header.
fn max_datagram(address: IpAddr) -> usize {
    ip::max_payload(address) - UDP_HEADER
}

/// A datagram as it came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    pub(crate) client: SocketAddr,
    pub(crate) target: SocketAddr,
    /// Header and payload, what the checksum is over.
    pub(crate) transport: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// Reads the UDP header of a packet, unless its lengths or ports make no sense.
pub(crate) fn parse<'a>(packet: &IpPacket<'a>) -> Option<Datagram<'a>> {
    let header = UdpPacket::new_checked(packet.payload).ok()?;
    let (source_port, target_port) = (header.src_port(), header.dst_port());
    let transport = packet.payload.get(..usize::from(header.len()))?;
    let payload = transport.get(UDP_HEADER..)?;
    (source_port != 0 && target_port != 0).then(|| Datagram {
        client: SocketAddr::new(packet.source, source_port),
        target: SocketAddr::new(packet.target, target_port),
        transport,
        payload,
    })
}

/// Returns a UDP header and payload with the right checksum, or with the mere sum over the
/// pseudo-header where a device finishes it.
fn transport(from: SocketAddr, to: SocketAddr, payload: &[u8], unfinished: bool) -> Vec<u8> {
    let len = UDP_HEADER + payload.len();
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(&from.port().to_be_bytes());
    bytes.extend_from_slice(&to.port().to_be_bytes());
    bytes.extend_from_slice(&(len as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(payload);
    let pseudo = ip::pseudo_sum(from.ip(), to.ip(), IpProtocol::Udp, len);
    let checksum = if unfinished {
        pseudo
    } else {
        // Zero would mean "none" (RFC 768).
        match !combine(&[pseudo, data(&bytes)]) {
            0 => !0,
            sum => sum,
        }
    };
    bytes[UDP_CHECKSUM_AT..UDP_HEADER].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// Returns the packets that carry a datagram: one, or its fragments where it exceeds the MTU.
pub(crate) fn packets(
    from: SocketAddr,
    to: SocketAddr,
    payload: &[u8],
    mtu: usize,
    offload: bool,
    id: u32,
) -> Result<Vec<(Vec<u8>, Offload)>, SendDatagramError> {
    if from.is_ipv4() != to.is_ipv4() {
        return Err(SendDatagramError::MixedFamilies);
    }
    if payload.len() > max_datagram(from.ip()) {
        return Err(SendDatagramError::TooLong {
            length: payload.len(),
        });
    }
    let header_len = ip::header_len(from.ip());
    if header_len + UDP_HEADER + payload.len() <= mtu {
        let transport = transport(from, to, payload, offload);
        let packet = ip::compose(from.ip(), to.ip(), IpProtocol::Udp, &transport);
        let offload = if offload {
            Offload::checksum(header_len, UDP_CHECKSUM_AT)
        } else {
            Offload::default()
        };
        return Ok(vec![(packet, offload)]);
    }
    // A checksum over all fragments is nothing a device can finish.
    let transport = transport(from, to, payload, false);
    Ok(
        fragments(from.ip(), to.ip(), IpProtocol::Udp, &transport, mtu, id)
            .into_iter()
            .map(|packet| (packet, Offload::default()))
            .collect(),
    )
}

/// Returns as much of a datagram's packet as an ICMP error has to quote for its sender to know it.
pub(crate) fn quote(client: SocketAddr, target: SocketAddr) -> Vec<u8> {
    let transport = transport(client, target, &[], false);
    ip::compose(client.ip(), target.ip(), IpProtocol::Udp, &transport)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::checksum_is_right;

    fn pairs() -> [(SocketAddr, SocketAddr); 2] {
        [
            (
                "10.96.0.10:53".parse().unwrap(),
                "10.0.0.1:4000".parse().unwrap(),
            ),
            (
                "[fd00::10]:53".parse().unwrap(),
                "[fd00::1]:4000".parse().unwrap(),
            ),
        ]
    }

    #[test]
    fn a_small_datagram_is_one_packet_that_reads_back() {
        for (from, to) in pairs() {
            let packets = packets(from, to, b"answer", 1_500, false, 1).unwrap();
            let [(bytes, offload)] = &packets[..] else {
                panic!("one packet")
            };
            assert_eq!(*offload, Offload::default());
            let packet = ip::parse(bytes).unwrap();
            let datagram = parse(&packet).unwrap();
            assert_eq!((datagram.client, datagram.target), (from, to));
            assert_eq!(datagram.payload, b"answer");
            assert!(checksum_is_right(&packet, datagram.transport));
        }
    }

    #[test]
    fn a_large_datagram_is_fragments_within_the_mtu() {
        for (from, to) in pairs() {
            let packets = packets(from, to, &[7; 4_000], 1_500, true, 1).unwrap();
            assert_eq!(packets.len(), 3);
            for (index, (bytes, offload)) in packets.iter().enumerate() {
                assert!(bytes.len() <= 1_500);
                assert_eq!(*offload, Offload::default());
                let fragment = ip::parse(bytes).unwrap().fragment.unwrap();
                assert_eq!((fragment.id, fragment.more), (1, index < 2));
            }
        }
    }

    #[test]
    fn what_udp_cannot_carry_is_refused() {
        let [(v4, _), (v6, _)] = pairs();
        assert_eq!(
            packets(v4, v6, &[], 1_500, true, 1),
            Err(SendDatagramError::MixedFamilies)
        );
        assert_eq!(
            packets(v4, v4, &vec![0; MAX_DATAGRAM + 1], 1_500, true, 1),
            Err(SendDatagramError::TooLong {
                length: MAX_DATAGRAM + 1
            })
        );
    }
}
