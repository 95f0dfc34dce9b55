//! Whether a packet is one that a kernel takes.

use smoltcp::wire::checksum::{combine, data, pseudo_header};
use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};

/// Judges a complete packet of the stack's.
pub fn packet(bytes: &[u8]) {
    let (source, target, protocol, transport): (IpAddress, IpAddress, _, _);
    if bytes[0] >> 4 == 4 {
        let ip = Ipv4Packet::new_checked(bytes).expect("a header");
        assert!(ip.verify_checksum(), "the header's checksum");
        assert_eq!(usize::from(ip.total_len()), bytes.len());
        if ip.more_frags() || ip.frag_offset() > 0 {
            return;
        }
        (source, target) = (ip.src_addr().into(), ip.dst_addr().into());
        (protocol, transport) = (ip.next_header(), ip.payload());
    } else {
        let ip = Ipv6Packet::new_checked(bytes).expect("a header");
        assert_eq!(ip.total_len(), bytes.len());
        if ip.next_header() == IpProtocol::Ipv6Frag {
            return;
        }
        (source, target) = (ip.src_addr().into(), ip.dst_addr().into());
        (protocol, transport) = (ip.next_header(), ip.payload());
    }
    match protocol {
        IpProtocol::Tcp => {
            let tcp = TcpPacket::new_checked(transport).expect("a segment");
            assert!(
                tcp.verify_checksum(&source, &target),
                "a segment's checksum"
            );
        }
        IpProtocol::Udp => {
            let udp = UdpPacket::new_checked(transport).expect("a datagram");
            assert!(
                udp.verify_checksum(&source, &target),
                "a datagram's checksum"
            );
        }
        IpProtocol::Icmp => assert_eq!(data(transport), !0, "a message's checksum"),
        IpProtocol::Icmpv6 => {
            let pseudo = pseudo_header(&source, &target, protocol, transport.len() as u32);
            assert_eq!(
                combine(&[pseudo, data(transport)]),
                !0,
                "a message's checksum"
            );
        }
        other => panic!("the stack speaks no {other}"),
    }
}
