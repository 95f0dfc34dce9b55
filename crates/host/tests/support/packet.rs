//! IP packets by hand.

use std::net::Ipv4Addr;

use kdev_host::device::VnetHeader;

pub const SYN: u8 = 0x02;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

const IP_HEADER: usize = 20;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A packet over IPv4 without options, as far as these tests need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub protocol: u8,
    pub source: (Ipv4Addr, u16),
    pub target: (Ipv4Addr, u16),
    /// What follows the ports.
    pub rest: Vec<u8>,
}

impl Packet {
    /// Reads a packet; `None` for anything but TCP and UDP over IPv4.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let protocol = bytes[9];
        if bytes[0] != 0x45 || !matches!(protocol, TCP | UDP) {
            return None;
        }
        let address = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap().into();
        let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        Some(Self {
            protocol,
            source: (address(12), port(20)),
            target: (address(16), port(22)),
            rest: bytes[24..].to_vec(),
        })
    }

    /// A datagram that answers this one.
    pub fn answer(&self, payload: &[u8]) -> Vec<u8> {
        let length = (8 + payload.len()) as u16;
        // Without a checksum, which UDP over IPv4 may be.
        let rest = [&length.to_be_bytes()[..], &[0, 0], payload].concat();
        Self {
            source: self.target,
            target: self.source,
            rest,
            ..self.clone()
        }
        .bytes()
    }

    /// The payload of a datagram.
    pub fn payload(&self) -> &[u8] {
        assert_eq!(self.protocol, UDP);
        &self.rest[4..]
    }

    /// A segment that answers this one, and what the kernel has to finish.
    pub fn segment(
        &self,
        sequence: u32,
        ack: u32,
        flags: u8,
        options: &[u8],
        payload: &[u8],
    ) -> (VnetHeader, Vec<u8>) {
        assert_eq!(options.len() % 4, 0);
        let header = 20 + options.len();
        let rest = [
            &sequence.to_be_bytes()[..],
            &ack.to_be_bytes(),
            &[(header as u8 / 4) << 4, flags, 0xff, 0xff, 0, 0, 0, 0],
            options,
            payload,
        ]
        .concat();
        let answer = Self {
            source: self.target,
            target: self.source,
            rest,
            ..self.clone()
        };
        let mut bytes = answer.bytes();
        let length = (bytes.len() - IP_HEADER) as u16;
        let pseudo = [&bytes[12..20], &[0, TCP], &length.to_be_bytes()].concat();
        let sum = sum(&pseudo);
        bytes[36..38].copy_from_slice(&sum.to_be_bytes());
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            hdr_len: (IP_HEADER + header) as u16,
            csum_start: IP_HEADER as u16,
            csum_offset: 16,
            ..VnetHeader::default()
        };
        (header, bytes)
    }

    /// The sequence number of a segment.
    pub fn sequence(&self) -> u32 {
        assert_eq!(self.protocol, TCP);
        u32::from_be_bytes(self.rest[0..4].try_into().unwrap())
    }

    /// The flags of a segment.
    pub fn flags(&self) -> u8 {
        self.rest[9]
    }

    fn bytes(&self) -> Vec<u8> {
        let length = (IP_HEADER + 4 + self.rest.len()) as u16;
        let mut bytes = vec![0x45, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0, 0, 0x40, 0, 64, self.protocol, 0, 0]);
        bytes.extend(self.source.0.octets());
        bytes.extend(self.target.0.octets());
        let checksum = !sum(&bytes);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes.extend(self.source.1.to_be_bytes());
        bytes.extend(self.target.1.to_be_bytes());
        bytes.extend(&self.rest);
        bytes
    }
}

/// The sum in one's complement (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
