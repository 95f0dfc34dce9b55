//! Which queue of a device a packet comes by.
//!
//! All packets of one conversation take one queue, so that one reader knows all of it and their order
//! is kept. A kernel left to itself doesn't promise that: it follows whoever wrote last, forgets after
//! three silent seconds, and puts the fragments of a datagram, which have no ports, elsewhere than the
//! datagrams that need none. So the rule is kdev's own, and the kernel is given it as a program.
//!
//! TCP is spread by addresses and ports. Everything else, fragments included, is spread by addresses
//! alone, as that is all that a fragment tells.

/// The first value of the sum.
pub(super) const SEED: u32 = 0x6b64_6576;
/// What each word is multiplied with.
pub(super) const MIX: u32 = 0xcc9e_2d51;
/// How far the sum is shifted upon itself at the end, and what it is multiplied with then. These are
/// MurmurHash3's numbers: every bit of a port has to count in the lowest bit.
pub(super) const FINISH: [(u32, u32); 3] = [(16, 0x85eb_ca6b), (13, 0xc2b2_ae35), (16, 1)];

const TCP: u8 = 6;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const OPTIONS: u8 = 60;
/// More headers than this no honest packet has.
const MAX_EXTENSIONS: usize = 8;

/// Returns the number of the queue, out of `queues`, by which a whole IP packet should come. Packets
/// that make no sense have a queue as well.
///
/// The kernel's program looks for TCP only right behind the IPv6 header; behind other headers it is
/// found here. That is why a reader may get a packet that isn't its own.
pub(super) fn queue_of(packet: &[u8], queues: usize) -> usize {
    if queues < 2 {
        return 0;
    }
    usize::from(hash(packet).unwrap_or(0)) % queues
}

/// The kernel takes 16 bits of what its program says.
fn hash(packet: &[u8]) -> Option<u16> {
    let (addresses, ports) = match packet.first()? >> 4 {
        4 => (packet.get(12..20)?, ports_v4(packet)),
        6 => (packet.get(8..40)?, ports_v6(packet)),
        _ => return None,
    };
    let words = addresses.chunks_exact(4).chain(ports);
    let sum = words.fold(SEED, |sum, word| {
        let word = word.try_into().map_or(0, u32::from_be_bytes);
        (sum ^ word).wrapping_mul(MIX).rotate_right(16)
    });
    let finished = FINISH.iter().fold(sum, |sum, (shift, factor)| {
        (sum ^ (sum >> shift)).wrapping_mul(*factor)
    });
    Some(finished as u16)
}

/// The two ports of a TCP segment that isn't a fragment.
fn ports_v4(packet: &[u8]) -> Option<&[u8]> {
    let is_fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
    let start = usize::from(packet[0] & 0x0f) * 4;
    (packet[9] == TCP && !is_fragment)
        .then(|| packet.get(start..start + 4))
        .flatten()
}

fn ports_v6(packet: &[u8]) -> Option<&[u8]> {
    let (mut kind, mut start) = (packet[6], 40);
    for _ in 0..MAX_EXTENSIONS {
        let header = packet.get(start..start + 4)?;
        let length = match kind {
            TCP => return Some(header),
            HOP_BY_HOP | ROUTING | OPTIONS => (usize::from(header[1]) + 1) * 8,
            // One that is the whole packet (RFC 6946).
            FRAGMENT if u16::from_be_bytes([header[2], header[3]]) & !6 == 0 => 8,
            _ => return None,
        };
        kind = header[0];
        start += length;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP segment over IPv4 from a port.
    fn tcp(port: u16) -> Vec<u8> {
        let mut packet = vec![0; 40];
        (packet[0], packet[9]) = (0x45, TCP);
        packet[12..16].copy_from_slice(&[198, 18, 53, 1]);
        packet[16..20].copy_from_slice(&[10, 96, 3, 7]);
        packet[20..22].copy_from_slice(&port.to_be_bytes());
        packet[22..24].copy_from_slice(&80_u16.to_be_bytes());
        packet
    }

    /// A segment over IPv6 behind some headers.
    fn tcp_v6(first: u8, headers: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        (packet[0], packet[6]) = (0x60, first);
        (packet[23], packet[39]) = (1, 2);
        packet.extend_from_slice(headers);
        packet.extend_from_slice(&tcp(40_000)[20..]);
        packet
    }

    #[test]
    fn connections_to_one_target_use_every_queue_evenly() {
        for queues in 2..=4 {
            // Linux takes the even ports for those who connect.
            let mut counts = vec![0_usize; queues];
            (32_768..60_999).step_by(2).for_each(|port| {
                counts[queue_of(&tcp(port), queues)] += 1;
            });
            let share = 14_116 / queues;
            for count in &counts {
                assert!(count.abs_diff(share) < share / 10, "{counts:?}");
            }
        }
    }

    #[test]
    fn datagrams_and_fragments_of_a_pair_of_hosts_share_a_queue() {
        let mut datagram = tcp(1);
        datagram[9] = 17;
        let queue = hash(&datagram);
        for port in 2..100_u16 {
            datagram[20..22].copy_from_slice(&port.to_be_bytes());
            assert_eq!(hash(&datagram), queue);
        }
        // The first fragment, of whatever protocol, and one further on.
        for (high, low) in [(0x20, 0), (0x00, 185)] {
            let mut fragment = tcp(7);
            (fragment[6], fragment[7]) = (high, low);
            assert_eq!(hash(&fragment), queue);
        }
    }

    #[test]
    fn options_don_t_take_a_segment_from_its_connection() {
        let plain = tcp(7);
        let mut optioned = tcp(7);
        optioned.splice(20..20, [1; 8]);
        optioned[0] = 0x47;
        assert_eq!(hash(&optioned), hash(&plain));

        let plain = hash(&tcp_v6(TCP, &[]));
        let options = [TCP, 0, 1, 4, 0, 0, 0, 0];
        assert_eq!(hash(&tcp_v6(OPTIONS, &options)), plain);
        let atomic = [TCP, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(hash(&tcp_v6(FRAGMENT, &atomic)), plain);
        let first = [TCP, 0, 0, 1, 0, 0, 0, 9];
        assert_ne!(hash(&tcp_v6(FRAGMENT, &first)), plain);
    }

    #[test]
    fn every_packet_has_a_queue_whatever_is_wrong_with_it() {
        for length in 0..40 {
            assert!(queue_of(&tcp(1)[..length], 3) < 3);
            assert!(queue_of(&vec![0x60; length], 3) < 3);
            assert!(queue_of(&tcp_v6(HOP_BY_HOP, &[])[..40 + length / 2], 3) < 3);
        }
        assert_eq!(queue_of(&tcp(1), 1), 0);
    }
}
