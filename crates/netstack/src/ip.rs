//! IP headers: reading what a device handed over, and writing plain ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet};

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const HOP_LIMIT: u8 = 64;

/// An IPv6 header chain longer than this is nobody's honest packet.
const MAX_EXTENSIONS: usize = 8;

/// What one packet is, as far as its IP headers say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IpPacket<'a> {
    pub(crate) source: IpAddr,
    pub(crate) target: IpAddr,
    pub(crate) protocol: IpProtocol,
    /// The whole packet without bytes behind its end.
    pub(crate) bytes: &'a [u8],
    /// What follows the headers.
    pub(crate) payload: &'a [u8],
    /// Whether headers stand between the IP header and the payload (IPv6 only).
    pub(crate) extended: bool,
    pub(crate) fragment: Option<Fragment>,
}

/// Which part of a larger packet a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) id: u32,
    /// In bytes from the start of the larger packet's payload.
    pub(crate) offset: usize,
    pub(crate) more: bool,
}

/// Why a packet is not looked at further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    Malformed,
    BadChecksum,
    Martian,
    Unsupported,
}

/// Reads the IP headers of a packet.
pub(crate) fn parse(bytes: &[u8]) -> Result<IpPacket<'_>, Rejected> {
    let packet = match bytes.first().map(|first| first >> 4) {
        Some(4) => parse_v4(bytes)?,
        Some(6) => parse_v6(bytes)?,
        _ => return Err(Rejected::Malformed),
    };
    if is_single_host(packet.source) && is_single_host(packet.target) {
        Ok(packet)
    } else {
        Err(Rejected::Martian)
    }
}

fn parse_v4(bytes: &[u8]) -> Result<IpPacket<'_>, Rejected> {
    let header = Ipv4Packet::new_checked(bytes).map_err(|_| Rejected::Malformed)?;
    let (start, end) = (
        usize::from(header.header_len()),
        usize::from(header.total_len()),
    );
    if start < V4_HEADER || end < start || end > bytes.len() {
        return Err(Rejected::Malformed);
    }
    if !header.verify_checksum() {
        return Err(Rejected::BadChecksum);
    }
    let offset = usize::from(header.frag_offset());
    let fragment = (header.more_frags() || offset != 0).then(|| Fragment {
        id: u32::from(header.ident()),
        offset,
        more: header.more_frags(),
    });
    Ok(IpPacket {
        source: header.src_addr().into(),
        target: header.dst_addr().into(),
        protocol: header.next_header(),
        bytes: &bytes[..end],
        payload: &bytes[start..end],
        extended: false,
        fragment,
    })
}

fn parse_v6(bytes: &[u8]) -> Result<IpPacket<'_>, Rejected> {
    let header = Ipv6Packet::new_checked(bytes).map_err(|_| Rejected::Malformed)?;
    let bytes = &bytes[..header.total_len()];
    let mut packet = IpPacket {
        source: header.src_addr().into(),
        target: header.dst_addr().into(),
        protocol: header.next_header(),
        bytes,
        payload: &bytes[V6_HEADER..],
        extended: false,
        fragment: None,
    };
    for _ in 0..MAX_EXTENSIONS {
        let payload = packet.payload;
        let length = match packet.protocol {
            IpProtocol::HopByHop | IpProtocol::Ipv6Opts | IpProtocol::Ipv6Route => {
                let &[_, units, _, segments_left, ..] = payload else {
                    return Err(Rejected::Malformed);
                };
                if packet.protocol == IpProtocol::Ipv6Route && segments_left != 0 {
                    return Err(Rejected::Unsupported);
                }
                (usize::from(units) + 1) * 8
            }
            IpProtocol::Ipv6Frag => {
                let &[_, _, high, low, a, b, c, d, ..] = payload else {
                    return Err(Rejected::Malformed);
                };
                let field = u16::from_be_bytes([high, low]);
                let (offset, more) = (usize::from(field & !7), field & 1 != 0);
                // An atomic fragment is a whole packet (RFC 6946).
                if more || offset != 0 {
                    let id = u32::from_be_bytes([a, b, c, d]);
                    packet.fragment = Some(Fragment { id, offset, more });
                }
                8
            }
            _ => return Ok(packet),
        };
        let rest = payload.get(length..).ok_or(Rejected::Malformed)?;
        packet.protocol = payload[0].into();
        packet.payload = rest;
        packet.extended = true;
        if packet.fragment.is_some() {
            // What follows is a piece: its headers are read when the whole is there.
            return Ok(packet);
        }
    }
    Err(Rejected::Unsupported)
}

/// Returns whether an address can name one host on the other side of a device.
fn is_single_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.octets()[0] == 0 || v4.is_loopback() || v4.is_multicast() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || v6.to_ipv4_mapped().is_some())
        }
    }
}

/// Returns the length of a plain IP header of the address's family, in bytes.
pub(crate) fn header_len(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(_) => V4_HEADER,
        IpAddr::V6(_) => V6_HEADER,
    }
}

/// Returns a header for a packet from one address to another of the same family.
pub(crate) fn header(from: IpAddr, to: IpAddr, protocol: IpProtocol, payload_len: usize) -> IpRepr {
    IpRepr::new(
        IpAddress::from(from),
        IpAddress::from(to),
        protocol,
        payload_len,
        HOP_LIMIT,
    )
}

/// Returns a plain packet: a header without options or extensions, and the payload.
pub(crate) fn compose(from: IpAddr, to: IpAddr, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let header = header(from, to, protocol, payload.len());
    let mut packet = vec![0; header.buffer_len()];
    header.emit(&mut packet[..], &ChecksumCapabilities::default());
    packet[header.header_len()..].copy_from_slice(payload);
    packet
}

/// Returns the largest payload a plain packet of the address's family can have, in bytes.
pub(crate) fn max_payload(address: IpAddr) -> usize {
    let length_field = usize::from(u16::MAX);
    match address {
        IpAddr::V4(_) => length_field - V4_HEADER,
        IpAddr::V6(_) => length_field,
    }
}

/// Returns the sum over the pseudo-header of a TCP or UDP payload, not complemented.
pub(crate) fn pseudo_sum(from: IpAddr, to: IpAddr, protocol: IpProtocol, len: usize) -> u16 {
    use smoltcp::wire::checksum::pseudo_header;
    pseudo_header(
        &IpAddress::from(from),
        &IpAddress::from(to),
        protocol,
        len as u32,
    )
}

/// Reads the addresses of a packet the stack itself wrote.
pub(crate) fn addresses(packet: &[u8]) -> (IpAddr, IpAddr) {
    fn at<const N: usize>(packet: &[u8], start: usize) -> [u8; N] {
        let mut octets = [0; N];
        octets.copy_from_slice(&packet[start..start + N]);
        octets
    }
    if packet[0] >> 4 == 4 {
        (
            Ipv4Addr::from(at(packet, 12)).into(),
            Ipv4Addr::from(at(packet, 16)).into(),
        )
    } else {
        (
            Ipv6Addr::from(at(packet, 8)).into(),
            Ipv6Addr::from(at(packet, 24)).into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const B4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 7));

    fn v6(last: u16) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last))
    }

    #[test]
    fn a_composed_packet_reads_back_as_it_was_written() {
        for (from, to) in [(A4, B4), (v6(1), v6(2))] {
            let mut bytes = compose(from, to, IpProtocol::Udp, b"payload");
            bytes.extend_from_slice(b"padding of the link");
            let packet = parse(&bytes).unwrap();
            assert_eq!((packet.source, packet.target), (from, to));
            assert_eq!(packet.protocol, IpProtocol::Udp);
            assert_eq!(packet.payload, b"payload");
            assert_eq!((packet.extended, packet.fragment), (false, None));
            assert_eq!(addresses(packet.bytes), (from, to));
        }
    }

    #[test]
    fn extension_headers_are_stepped_over() {
        // Hop-by-hop, then destination options, then the payload.
        let hop = [60, 0, 1, 4, 0, 0, 0, 0];
        let options = [17, 0, 1, 4, 0, 0, 0, 0];
        let payload = [&hop[..], &options[..], b"payload"].concat();
        let bytes = compose(v6(1), v6(2), IpProtocol::HopByHop, &payload);
        let packet = parse(&bytes).unwrap();
        assert_eq!(packet.protocol, IpProtocol::Udp);
        assert_eq!(packet.payload, b"payload");
        assert!(packet.extended);
    }

    #[test]
    fn an_ipv6_fragment_names_its_place_and_an_atomic_one_is_a_whole_packet() {
        let piece = [17, 0, 0x00, 0x11, 0, 0, 0, 9, 1, 2, 3];
        let bytes = compose(v6(1), v6(2), IpProtocol::Ipv6Frag, &piece);
        let packet = parse(&bytes).unwrap();
        assert_eq!(
            packet.fragment,
            Some(Fragment {
                id: 9,
                offset: 16,
                more: true
            })
        );
        assert_eq!(packet.payload, [1, 2, 3]);

        let atomic = [17, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3];
        let bytes = compose(v6(1), v6(2), IpProtocol::Ipv6Frag, &atomic);
        assert_eq!(parse(&bytes).unwrap().fragment, None);
    }

    #[test]
    fn addresses_of_no_single_host_are_martian() {
        let strange: [IpAddr; 7] = [
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::BROADCAST.into(),
            Ipv4Addr::LOCALHOST.into(),
            Ipv4Addr::new(224, 0, 0, 251).into(),
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2).into(),
            Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into(),
        ];
        for address in strange {
            let honest = if address.is_ipv4() { A4 } else { v6(1) };
            for (from, to) in [(address, honest), (honest, address)] {
                let bytes = compose(from, to, IpProtocol::Tcp, &[0; 20]);
                assert_eq!(parse(&bytes), Err(Rejected::Martian), "{from} to {to}");
            }
        }
    }

    #[test]
    fn a_wrong_header_checksum_is_told_from_a_wrong_length() {
        let mut bytes = compose(A4, B4, IpProtocol::Tcp, &[0; 20]);
        assert_eq!(parse(&bytes[..30]), Err(Rejected::Malformed));
        bytes[8] ^= 1;
        assert_eq!(parse(&bytes), Err(Rejected::BadChecksum));
        assert_eq!(parse(&[]), Err(Rejected::Malformed));
        assert_eq!(parse(&[0x50; 40]), Err(Rejected::Malformed));
    }
}
