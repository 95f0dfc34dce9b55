//! The header that a TUN device puts before a packet to say what is left to do with it.

/// What is left to do with a packet: a checksum to finish, segments to cut it into.
///
/// The ten bytes of `struct virtio_net_hdr` (virtio 1.2, 5.1.6.2) in the machine's byte order, as
/// a TUN device without `TUNSETVNETLE` and `TUNSETVNETBE` has them. The default is that of a
/// complete packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`NEEDS_CSUM`](Self::NEEDS_CSUM), [`DATA_VALID`](Self::DATA_VALID), or neither.
    pub flags: u8,
    /// [`GSO_NONE`](Self::GSO_NONE) or the kind of segments.
    pub gso_type: u8,
    /// The length of the headers that every segment repeats, in bytes.
    pub hdr_len: u16,
    /// The payload of every segment but the last, in bytes.
    pub gso_size: u16,
    /// Where the summed bytes begin, from the start of the packet; they end where it ends.
    pub csum_start: u16,
    /// Where the checksum is, from `csum_start`.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// The length of the header in bytes.
    pub const LEN: usize = 10;
    /// The checksum holds the sum over the pseudo-header only.
    pub const NEEDS_CSUM: u8 = 1;
    /// The checksum has been verified.
    pub const DATA_VALID: u8 = 2;
    /// The packet is one segment.
    pub const GSO_NONE: u8 = 0;
    /// TCP over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// TCP over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    /// A bit beside the kind: the first segment carries CWR (RFC 3168).
    pub const GSO_ECN: u8 = 0x80;

    /// Reads a header.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        }
    }

    /// Writes the header.
    pub fn emit(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        let words = [
            self.hdr_len,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
        ];
        for (place, word) in bytes[2..].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fields_are_where_the_kernel_has_them() {
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: VnetHeader::GSO_TCPV4,
            hdr_len: 0x0102,
            gso_size: 0x0304,
            csum_start: 0x0506,
            csum_offset: 0x0708,
        };
        let mut expected = vec![1, 1];
        for word in [0x0102_u16, 0x0304, 0x0506, 0x0708] {
            expected.extend(word.to_ne_bytes());
        }
        assert_eq!(header.emit().as_slice(), expected);
    }

    #[test]
    fn a_complete_packet_has_a_header_of_zeros() {
        assert_eq!(VnetHeader::default().emit(), [0; VnetHeader::LEN]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(bytes: [u8; VnetHeader::LEN]) {
            prop_assert_eq!(VnetHeader::parse(&bytes).emit(), bytes);
        }
    }
}
