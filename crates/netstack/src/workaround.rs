//! Segments that smoltcp 0.14 would take wrongly, told so that it takes them rightly.

use smoltcp::wire::{Ipv4Packet, Ipv6Packet, TcpPacket, TcpSeqNumber};

use crate::ip::IpPacket;
use crate::link::Sent;
use crate::segment::{ACK, FIN, FLAGS_AT, RST, SYN, Segment, is_after};

/// How often an acknowledgement is repeated for the sender to send again at once (RFC 5681 3.2).
const REPETITIONS: usize = 3;

/// Returns whether a segment only repeats that everything but our FIN has arrived. Where the client
/// has more under way, its number is beyond what has arrived here.
///
/// The third of these makes smoltcp stop the timer that would send the FIN again, for it means to
/// send data again at once, and there is none.
pub(crate) fn says_nothing_new(segment: &Segment, sent: &Sent) -> bool {
    sent.fin
        && segment.flags & (SYN | FIN | RST | ACK) == ACK
        && segment.payload_len == 0
        && !is_after(sent.ack, segment.seq)
        && segment.ack == sent.next.wrapping_sub(1)
}

/// What has to be remembered of a flow's earlier segments.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Workaround {
    /// The client closed its window on bytes already sent.
    swallowed: bool,
}

impl Workaround {
    /// Feeds a segment, or what has to be fed instead.
    ///
    /// - smoltcp cuts data at the edge of the window and obeys a FIN behind it all the same: the
    ///   bytes cut off would be lost without a sign. And it does not obey a FIN behind data it has
    ///   already. A FIN alone is obeyed where it belongs, so it comes alone.
    /// - A client that runs out of memory closes its window on bytes already sent, and drops them
    ///   (Linux does since 6.5). smoltcp then probes for room *behind* them and never sends them
    ///   again; its keep-alive even puts a zero in their place. So a window with bytes in flight
    ///   is never quite closed: the ordinary timer sends a few of them as the probe. When the
    ///   window opens they are asked for at once, since that timer has doubled all the while.
    /// - A probe for room may carry the last byte and the FIN. Where the client takes both and its
    ///   window stays closed, smoltcp probes on, with nothing to send, without end at one moment.
    ///   Nothing is behind that FIN, so the window may as well be open.
    pub(crate) fn translate(
        &mut self,
        packet: &IpPacket<'_>,
        segment: &Segment,
        sent: Sent,
        mut feed: impl FnMut(&[u8]),
    ) {
        let ordinary = segment.flags & (SYN | RST | ACK) == ACK;
        let in_flight = ordinary && is_after(sent.next, segment.ack);
        // What is asked for again is data: for a FIN alone, see `says_nothing_new`.
        let data_in_flight = in_flight && !(sent.fin && segment.ack == sent.next.wrapping_sub(1));
        let closes = in_flight && segment.window == 0;
        let opens = ordinary && segment.window != 0 && std::mem::take(&mut self.swallowed);
        self.swallowed |= closes;
        let is_last = ordinary && sent.fin && segment.ack == sent.next && segment.window == 0;
        let edits = closes || is_last;
        let window = if edits { 1 } else { segment.window };

        let data_end = segment.seq.wrapping_add(segment.payload_len as u32);
        let splits = segment.has(FIN) && segment.payload_len > 0;
        if splits || edits {
            let flags = if splits {
                segment.flags & !FIN
            } else {
                segment.flags
            };
            let everything = segment.header_len + segment.payload_len;
            feed(&edited(packet, everything, segment.seq, flags, window));
        } else {
            feed(packet.bytes);
        }
        if splits {
            feed(&edited(
                packet,
                segment.header_len,
                data_end,
                segment.flags,
                window,
            ));
        }
        if opens && data_in_flight {
            let repetition = edited(packet, segment.header_len, segment.end(), ACK, window);
            (0..REPETITIONS).for_each(|_| feed(&repetition));
        }
    }
}

/// Returns a packet with less TCP payload and other header fields. Its checksums are wrong, which
/// nobody verifies any more.
fn edited(packet: &IpPacket<'_>, tcp_len: usize, seq: u32, flags: u8, window: u16) -> Vec<u8> {
    let ip_len = packet.bytes.len() - packet.payload.len();
    let mut bytes = packet.bytes[..ip_len + tcp_len].to_vec();
    let len = bytes.len();
    if packet.source.is_ipv4() {
        Ipv4Packet::new_unchecked(&mut bytes[..]).set_total_len(len as u16);
    } else {
        Ipv6Packet::new_unchecked(&mut bytes[..]).set_payload_len(tcp_len as u16);
    }
    let tcp = &mut bytes[ip_len..];
    tcp[FLAGS_AT] = flags;
    let mut tcp = TcpPacket::new_unchecked(tcp);
    tcp.set_seq_number(TcpSeqNumber(seq as i32));
    tcp.set_window_len(window);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip;
    use crate::segment::RST;
    use smoltcp::wire::IpProtocol;

    fn after(next: u32) -> Sent {
        let mut sent = Sent::default();
        sent.next = next;
        sent
    }

    fn fed(workaround: &mut Workaround, segment: Segment, sent: Sent) -> Vec<Segment> {
        let mut bytes = vec![0; segment.header_len + segment.payload_len];
        bytes[..4].copy_from_slice(&[0, 1, 0, 2]);
        bytes[4..8].copy_from_slice(&segment.seq.to_be_bytes());
        bytes[8..12].copy_from_slice(&segment.ack.to_be_bytes());
        bytes[12] = 5 << 4;
        bytes[FLAGS_AT] = segment.flags;
        bytes[14..16].copy_from_slice(&segment.window.to_be_bytes());
        let (from, to) = ("10.0.0.1".parse().unwrap(), "10.96.0.7".parse().unwrap());
        let bytes = ip::compose(from, to, IpProtocol::Tcp, &bytes);
        let packet = ip::parse(&bytes).unwrap();
        let mut fed = Vec::new();
        workaround.translate(&packet, &segment, sent, |bytes| {
            fed.push(Segment::parse(&bytes[20..]).unwrap());
        });
        fed
    }

    fn segment(flags: u8, payload_len: usize, window: u16) -> Segment {
        Segment {
            source_port: 1,
            target_port: 2,
            seq: 1_000,
            ack: 500,
            flags,
            window,
            header_len: 20,
            payload_len,
        }
    }

    #[test]
    fn an_ordinary_segment_is_fed_as_it_is() {
        for plain in [
            segment(ACK, 10, 9),
            segment(ACK | FIN, 0, 9),
            segment(RST, 0, 0),
        ] {
            assert_eq!(fed(&mut Workaround::default(), plain, after(600)), [plain]);
        }
    }

    #[test]
    fn a_fin_behind_data_comes_alone() {
        let both = segment(ACK | FIN, 10, 9);
        let fed = fed(&mut Workaround::default(), both, after(500));
        let data = Segment { flags: ACK, ..both };
        let fin = Segment {
            payload_len: 0,
            seq: 1_010,
            ..both
        };
        assert_eq!(fed, [data, fin]);
    }

    #[test]
    fn a_window_closed_on_bytes_in_flight_stays_open_a_little_and_its_opening_repeats_itself() {
        let mut workaround = Workaround::default();
        let closed = segment(ACK, 0, 0);
        let fed_closed = fed(&mut workaround, closed, after(600));
        assert_eq!(
            fed_closed,
            [Segment {
                window: 1,
                ..closed
            }]
        );
        let open = segment(ACK, 0, 9);
        let repeated = [open; 1 + REPETITIONS];
        assert_eq!(fed(&mut workaround, open, after(600)), repeated);
        assert_eq!(fed(&mut workaround, open, after(600)), [open]);
    }

    #[test]
    fn a_window_closed_with_nothing_in_flight_is_closed_unless_all_was_said() {
        let closed = segment(ACK, 0, 0);
        let feed = |fin| {
            let mut sent = Sent::default();
            (sent.next, sent.fin) = (500, fin);
            fed(&mut Workaround::default(), closed, sent)
        };
        assert_eq!(feed(false), [closed]);
        let open = Segment {
            window: 1,
            ..closed
        };
        assert_eq!(feed(true), [open]);
    }
}
