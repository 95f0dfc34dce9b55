//! Fragments to whole packets, within bounded memory.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use smoltcp::wire::IpProtocol;

use crate::clock::Micros;
use crate::ip::{self, Fragment, IpPacket};

/// How many packets may be incomplete at once. With [`MAX_PIECES`] this bounds the memory to 4 MiB
/// and a little.
const MAX_OPEN: usize = 64;

/// More pieces than this no sender with an MTU of at least 576 makes of 64 KiB.
const MAX_PIECES: usize = 128;

/// How long a packet may be incomplete: what Linux gives it (`ipfrag_time`).
const PATIENCE: Micros = 30_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    target: IpAddr,
    id: u32,
    /// IPv6 names a packet by its addresses and id alone; IPv4 by its protocol too.
    protocol: Option<u8>,
}

#[derive(Debug)]
struct Open {
    deadline: Micros,
    protocol: IpProtocol,
    pieces: BTreeMap<usize, Vec<u8>>,
    received: usize,
    total: Option<usize>,
}

/// What became of a fragment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reassembled {
    /// More fragments are missing.
    Kept,
    /// A whole packet, headers included.
    Whole(Vec<u8>),
    /// The packet is given up.
    GivenUp,
}

/// All packets of which fragments are missing.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    open: HashMap<Key, Open>,
    /// Packets given up to make room or for lack of time since last asked.
    given_up: u64,
}

impl Reassembly {
    /// Takes a fragment in.
    pub(crate) fn handle(
        &mut self,
        packet: &IpPacket<'_>,
        part: Fragment,
        now: Micros,
    ) -> Reassembled {
        self.expire(now);
        let v4 = packet.source.is_ipv4();
        let key = Key {
            source: packet.source,
            target: packet.target,
            id: part.id,
            protocol: v4.then(|| packet.protocol.into()),
        };
        if self.open.len() >= MAX_OPEN && !self.open.contains_key(&key) {
            self.drop_oldest();
        }
        let open = self.open.entry(key).or_insert_with(|| Open {
            deadline: now + PATIENCE,
            protocol: packet.protocol,
            pieces: BTreeMap::new(),
            received: 0,
            total: None,
        });
        if !open.add(packet, part) {
            self.open.remove(&key);
            return Reassembled::GivenUp;
        }
        if open.total != Some(open.received) {
            return Reassembled::Kept;
        }
        let Some(open) = self.open.remove(&key) else {
            return Reassembled::Kept;
        };
        let payload: Vec<u8> = open.pieces.into_values().flatten().collect();
        Reassembled::Whole(ip::compose(
            packet.source,
            packet.target,
            open.protocol,
            &payload,
        ))
    }

    /// Gives up what has been incomplete for too long.
    pub(crate) fn expire(&mut self, now: Micros) {
        let before = self.open.len();
        self.open.retain(|_, open| open.deadline > now);
        self.given_up += (before - self.open.len()) as u64;
    }

    /// Returns when [`expire`](Self::expire) has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Micros> {
        self.open.values().map(|open| open.deadline).min()
    }

    /// Returns how many bytes wait for their rest.
    pub(crate) fn bytes(&self) -> usize {
        self.open.values().map(|open| open.received).sum()
    }

    /// Returns how many packets were given up since the last call, but for those of `handle`.
    pub(crate) fn take_given_up(&mut self) -> u64 {
        std::mem::take(&mut self.given_up)
    }

    fn drop_oldest(&mut self) {
        let oldest = self
            .open
            .iter()
            .min_by_key(|(_, open)| open.deadline)
            .map(|(key, _)| *key);
        if let Some(key) = oldest {
            self.open.remove(&key);
            self.given_up += 1;
        }
    }
}

impl Open {
    /// Adds a piece; false if it contradicts the others. Overlaps are attacks, not accidents
    /// (RFC 5722), but an exact repetition is only a repetition.
    fn add(&mut self, packet: &IpPacket<'_>, part: Fragment) -> bool {
        let (start, end) = (part.offset, part.offset + packet.payload.len());
        let ragged = part.more && !packet.payload.len().is_multiple_of(8);
        if ragged || packet.payload.is_empty() || end > ip::max_payload(packet.source) {
            return false;
        }
        if self
            .pieces
            .get(&start)
            .is_some_and(|piece| piece == packet.payload)
        {
            return true;
        }
        let before = self.pieces.range(..start).next_back();
        let overlaps_before = before.is_some_and(|(at, piece)| at + piece.len() > start);
        let overlaps_after = self.pieces.range(start..end).next().is_some();
        if overlaps_before || overlaps_after || self.pieces.len() >= MAX_PIECES {
            return false;
        }
        if !part.more {
            let last = self
                .pieces
                .last_key_value()
                .map_or(0, |(at, piece)| at + piece.len());
            if self.total.is_some() || last > end {
                return false;
            }
            self.total = Some(end);
        }
        if self.total.is_some_and(|total| end > total) {
            return false;
        }
        if start == 0 {
            self.protocol = packet.protocol;
        }
        self.received += packet.payload.len();
        self.pieces.insert(start, packet.payload.to_vec());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp;
    use std::net::SocketAddr;

    fn fragments(from: &str, to: &str, payload: &[u8], id: u32) -> Vec<Vec<u8>> {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let packets = udp::packets(from, to, payload, 1_500, false, id).unwrap();
        packets.into_iter().map(|(bytes, _)| bytes).collect()
    }

    fn add(reassembly: &mut Reassembly, bytes: &[u8], now: Micros) -> Reassembled {
        let packet = ip::parse(bytes).unwrap();
        reassembly.handle(&packet, packet.fragment.unwrap(), now)
    }

    #[test]
    fn fragments_make_the_datagram_whole_in_whatever_order_they_come() {
        let payload: Vec<u8> = (0..5_000u32).map(|n| n as u8).collect();
        for (from, to) in [
            ("10.0.0.1:9", "10.96.0.7:53"),
            ("[fd00::1]:9", "[fd00::2]:53"),
        ] {
            let mut parts = fragments(from, to, &payload, 7);
            parts.rotate_left(2);
            parts.push(parts[0].clone());
            let mut reassembly = Reassembly::default();
            let mut whole = None;
            for part in &parts {
                if let Reassembled::Whole(bytes) = add(&mut reassembly, part, 0) {
                    whole = Some(bytes);
                    break;
                }
            }
            let bytes = whole.expect("the datagram is whole");
            let packet = ip::parse(&bytes).unwrap();
            assert_eq!(udp::parse(&packet).unwrap().payload, payload);
        }
    }

    #[test]
    fn an_overlap_gives_the_whole_packet_up() {
        let parts = fragments("10.0.0.1:9", "10.96.0.7:53", &[1; 5_000], 7);
        let other = fragments("10.0.0.1:9", "10.96.0.7:53", &[2; 5_000], 7);
        let mut reassembly = Reassembly::default();
        assert_eq!(add(&mut reassembly, &parts[1], 0), Reassembled::Kept);
        assert_eq!(add(&mut reassembly, &other[1], 0), Reassembled::GivenUp);
        assert_eq!(reassembly.poll_timeout(), None);
    }

    #[test]
    fn memory_is_bounded_and_time_runs_out() {
        let mut reassembly = Reassembly::default();
        for id in 0..1_000 {
            let parts = fragments("10.0.0.1:9", "10.96.0.7:53", &[1; 5_000], id);
            add(&mut reassembly, &parts[0], Micros::from(id));
        }
        assert_eq!(reassembly.open.len(), MAX_OPEN);
        assert_eq!(reassembly.take_given_up(), 1_000 - MAX_OPEN as u64);
        reassembly.expire(PATIENCE + 1_000);
        assert_eq!(reassembly.poll_timeout(), None);
    }
}
