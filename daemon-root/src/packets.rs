//! Between the device's packets and the stack's: both describe offloads as virtio does, each in its
//! own types.

use kdev_host::device::VnetHeader;
use kdev_netstack::{Checksum, MAX_PACKET, Offload, PacketBuffer, SegmentKind};

/// Bytes that hold any packet of the device's.
pub const READ_BUFFER: usize = MAX_PACKET;

/// A buffer for packets to the device, with room for its header.
pub fn buffer() -> PacketBuffer {
    PacketBuffer::new(VnetHeader::LEN)
}

/// What the device's header says of a packet's checksum.
pub fn checksum(header: &VnetHeader) -> Checksum {
    if header.flags & VnetHeader::NEEDS_CSUM != 0 {
        Checksum::Partial
    } else if header.flags & VnetHeader::DATA_VALID != 0 {
        Checksum::Verified
    } else {
        Checksum::Unverified
    }
}

/// The device's header for a packet of the stack's.
pub fn header(offload: &Offload) -> VnetHeader {
    let mut header = VnetHeader::default();
    if let Some(checksum) = offload.checksum {
        header.flags = VnetHeader::NEEDS_CSUM;
        header.csum_start = checksum.start;
        header.csum_offset = checksum.offset;
    }
    if let Some(segmentation) = offload.segmentation {
        header.gso_type = match segmentation.kind {
            SegmentKind::TcpV4 => VnetHeader::GSO_TCPV4,
            SegmentKind::TcpV6 => VnetHeader::GSO_TCPV6,
        };
        header.gso_size = segmentation.size;
        header.hdr_len = segmentation.header_len;
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdev_netstack::{Segmentation, UnfinishedChecksum};

    #[test]
    fn a_packet_to_be_cut_is_described_as_virtio_does() {
        let offload = Offload {
            checksum: Some(UnfinishedChecksum {
                start: 20,
                offset: 16,
            }),
            segmentation: Some(Segmentation {
                kind: SegmentKind::TcpV4,
                size: 1448,
                header_len: 52,
            }),
        };
        let header = header(&offload);
        assert_eq!((header.flags, header.gso_type), (1, 1));
        assert_eq!((header.csum_start, header.csum_offset), (20, 16));
        assert_eq!((header.gso_size, header.hdr_len), (1448, 52));
    }

    #[test]
    fn a_packet_of_this_machine_has_an_unfinished_checksum() {
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            ..VnetHeader::default()
        };
        assert_eq!(checksum(&header), Checksum::Partial);
        assert_eq!(checksum(&VnetHeader::default()), Checksum::Unverified);
    }
}
