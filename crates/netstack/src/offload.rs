//! What a device is left to do with a packet, and the buffer a packet is handed out in.

use crate::MAX_PACKET;

/// Whether a packet's TCP or UDP checksum is to be looked at.
///
/// With `virtio_net_hdr`: `NEEDS_CSUM` means [`Partial`](Self::Partial), `DATA_VALID` means
/// [`Verified`](Self::Verified), neither means [`Unverified`](Self::Unverified).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// Somebody has verified it.
    Verified,
    /// It holds the sum over the pseudo-header only: the packet never left this machine.
    Partial,
    /// The stack has to verify it.
    Unverified,
}

/// What the device has to finish before a packet is an ordinary one. The fields are those of
/// `virtio_net_hdr` (virtio 1.2, 5.1.6.2); without any the packet is complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// The checksum to finish (`NEEDS_CSUM`).
    pub checksum: Option<UnfinishedChecksum>,
    /// The segments to cut the packet into.
    pub segmentation: Option<Segmentation>,
}

/// A checksum of which only the sum over the pseudo-header is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnfinishedChecksum {
    /// Where the summed bytes begin, from the start of the packet; they end where it ends
    /// (`csum_start`).
    pub start: u16,
    /// Where the checksum is, from `start` (`csum_offset`).
    pub offset: u16,
}

/// How a packet of up to 64 KiB is cut into segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmentation {
    /// The kind of segments (`gso_type`).
    pub kind: SegmentKind,
    /// The payload of every segment but the last, in bytes (`gso_size`).
    pub size: u16,
    /// The length of the headers that every segment repeats, in bytes (`hdr_len`).
    pub header_len: u16,
}

/// What segments are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentKind {
    /// TCP over IPv4 (`VIRTIO_NET_HDR_GSO_TCPV4`, 1).
    TcpV4,
    /// TCP over IPv6 (`VIRTIO_NET_HDR_GSO_TCPV6`, 4).
    TcpV6,
}

impl Offload {
    pub(crate) fn checksum(start: usize, offset: usize) -> Self {
        let checksum = UnfinishedChecksum {
            start: start as u16,
            offset: offset as u16,
        };
        Self {
            checksum: Some(checksum),
            segmentation: None,
        }
    }
}

/// A buffer for one packet, with room before it for the device's own header.
#[derive(Debug)]
pub struct PacketBuffer {
    bytes: Box<[u8]>,
    headroom: usize,
    len: usize,
}

impl PacketBuffer {
    /// Returns an empty buffer with so many bytes before every packet (10 or 12 for
    /// `virtio_net_hdr`).
    pub fn new(headroom: usize) -> Self {
        Self {
            bytes: vec![0; headroom + MAX_PACKET].into_boxed_slice(),
            headroom,
            len: 0,
        }
    }

    /// Returns the packet.
    pub fn packet(&self) -> &[u8] {
        &self.bytes[self.headroom..self.headroom + self.len]
    }

    /// Returns the bytes before the packet.
    pub fn headroom_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.headroom]
    }

    /// Returns the bytes before the packet and the packet, as one write to a device takes them.
    pub fn frame(&self) -> &[u8] {
        &self.bytes[..self.headroom + self.len]
    }

    /// Makes room for a packet, whose bytes are those of earlier ones until written.
    pub(crate) fn reserve(&mut self, len: usize) -> &mut [u8] {
        self.len = len.min(MAX_PACKET);
        &mut self.bytes[self.headroom..self.headroom + self.len]
    }

    pub(crate) fn put(&mut self, packet: &[u8]) {
        let room = self.reserve(packet.len());
        let len = room.len();
        room.copy_from_slice(&packet[..len]);
    }
}
