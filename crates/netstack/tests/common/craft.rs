//! TCP segments made by hand, and read back.

use std::net::SocketAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpAddress, IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, TcpPacket, TcpSeqNumber,
};

use super::client::{V4, V6};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

pub fn client(port: u16) -> SocketAddr {
    (V4, port).into()
}

pub fn client6(port: u16) -> SocketAddr {
    (V6, port).into()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub payload: Vec<u8>,
}

impl Default for Segment {
    fn default() -> Self {
        Self {
            seq: 0,
            ack: 0,
            flags: 0,
            window: 60_000,
            payload: Vec::new(),
        }
    }
}

impl Segment {
    /// Returns the whole packet.
    pub fn packet(&self, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let (source, target) = (IpAddress::from(from.ip()), IpAddress::from(to.ip()));
        let ip = IpRepr::new(source, target, IpProtocol::Tcp, 20 + self.payload.len(), 64);
        let mut bytes = vec![0; ip.buffer_len()];
        ip.emit(&mut bytes[..], &ChecksumCapabilities::default());
        let tcp = &mut bytes[ip.header_len()..];
        tcp[12] = 5 << 4;
        tcp[13] = self.flags;
        tcp[20..].copy_from_slice(&self.payload);
        let mut tcp = TcpPacket::new_unchecked(tcp);
        tcp.set_src_port(from.port());
        tcp.set_dst_port(to.port());
        tcp.set_seq_number(TcpSeqNumber(self.seq as i32));
        tcp.set_ack_number(TcpSeqNumber(self.ack as i32));
        tcp.set_window_len(self.window);
        tcp.fill_checksum(&source, &target);
        bytes
    }
}

/// Returns the transport part of a packet.
pub fn transport(packet: &[u8]) -> &[u8] {
    if packet[0] >> 4 == 4 {
        Ipv4Packet::new_checked(packet).unwrap().payload()
    } else {
        Ipv6Packet::new_checked(packet).unwrap().payload()
    }
}

/// Reads the segment in a packet.
pub fn tcp(packet: &[u8]) -> Segment {
    let bytes = transport(packet);
    let tcp = TcpPacket::new_checked(bytes).unwrap();
    Segment {
        seq: tcp.seq_number().0 as u32,
        ack: tcp.ack_number().0 as u32,
        flags: bytes[13],
        window: tcp.window_len(),
        payload: tcp.payload().to_vec(),
    }
}

/// Reads the segment in a packet, with its ports; `None` in another packet.
pub fn segment(packet: &[u8]) -> Option<(u16, u16, Segment)> {
    let protocol = if packet[0] >> 4 == 4 {
        packet[9]
    } else {
        packet[6]
    };
    (IpProtocol::from(protocol) == IpProtocol::Tcp).then(|| {
        let header = TcpPacket::new_checked(transport(packet)).unwrap();
        (header.src_port(), header.dst_port(), tcp(packet))
    })
}

/// Reads both ends of a TCP packet.
pub fn ends(packet: &[u8]) -> (SocketAddr, SocketAddr) {
    let ips: [std::net::IpAddr; 2] = if packet[0] >> 4 == 4 {
        let ip = Ipv4Packet::new_checked(packet).unwrap();
        [ip.src_addr().into(), ip.dst_addr().into()]
    } else {
        let ip = Ipv6Packet::new_checked(packet).unwrap();
        [ip.src_addr().into(), ip.dst_addr().into()]
    };
    let tcp = TcpPacket::new_checked(transport(packet)).unwrap();
    let [from, to] = ips;
    ((from, tcp.src_port()).into(), (to, tcp.dst_port()).into())
}
