//! The stack: packets in, flows out, and back.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use smoltcp::iface::Interface;
use smoltcp::wire::IpProtocol;

use crate::clock::{Clock, Timers};
use crate::echo;
use crate::events::Events;
use crate::flow::Flow;
use crate::flow_id::FlowTable;
use crate::held::Held;
use crate::held_syn::HeldSyn;
use crate::ip::{IpPacket, Rejected};
use crate::link::{self, Outbox};
use crate::memory::Pool;
use crate::offload::{Checksum, Offload, PacketBuffer};
use crate::reassembly::{Reassembled, Reassembly};
use crate::time_wait::TimeWait;
use crate::{
    Config, Event, FlowId, FlowKey, SendDatagramError, Stats, Unreachable, ip, reply, segment, udp,
};

/// What the table of flows holds.
pub(crate) enum Slot {
    Pending(HeldSyn),
    Open(Box<Flow>),
}

/// Where a packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Device,
    /// Put together here.
    Fragments,
    /// Taken out of extension headers here.
    Headers,
}

/// A userspace TCP and UDP stack that answers for every address, without IO of its own.
///
/// One round of its owner: [`handle_packet`](Self::handle_packet) for a batch of packets (64 is a
/// good number) and [`handle_timeout`](Self::handle_timeout) when it is time; then
/// [`poll_event`](Self::poll_event) until `None`, acting on what it says; then
/// [`poll_packet`](Self::poll_packet) until `None` or until the device is full; then wait until
/// [`poll_timeout`](Self::poll_timeout), a packet, or something to `send`.
///
/// Acknowledgements and data are written when a packet is polled, not before: a batch of segments
/// is answered once, and a slow device makes flows wait instead of packets pile up.
pub struct Stack {
    pub(crate) config: Config,
    pub(crate) iface: Interface,
    pub(crate) clock: Clock,
    pub(crate) flows: FlowTable<Slot>,
    pub(crate) by_key: HashMap<FlowKey, FlowId>,
    /// Flows that may have a packet to send, each once.
    pub(crate) ready: VecDeque<FlowId>,
    pub(crate) timers: Timers,
    pub(crate) events: Events,
    pub(crate) outbox: Outbox,
    pub(crate) time_wait: TimeWait,
    pub(crate) pool: Pool,
    pub(crate) held: Held,
    pub(crate) pending: usize,
    /// Requested flows by the time since when they wait.
    pub(crate) waiting: Timers,
    pub(crate) stats: Stats,
    reassembly: Reassembly,
    next_datagram: u32,
}

impl Stack {
    /// Makes a stack whose time begins now.
    pub fn new(config: Config, now: Instant) -> Self {
        let config = config.bounded();
        let clock = Clock::new(now);
        // The standard library's hash keys are random; nothing else here needs randomness.
        let seed = config
            .seed
            .unwrap_or_else(|| RandomState::new().hash_one(0));
        Self {
            iface: link::interface(config.mtu, config.segmentation, seed, &clock),
            clock,
            flows: FlowTable::new(),
            by_key: HashMap::new(),
            ready: VecDeque::new(),
            timers: Timers::default(),
            events: Events::default(),
            outbox: Outbox::default(),
            time_wait: TimeWait::default(),
            pool: Pool::new(config.rx_buffer, config.tx_buffer),
            held: Held::new(config.max_buffered),
            pending: 0,
            waiting: Timers::default(),
            stats: Stats::default(),
            reassembly: Reassembly::default(),
            next_datagram: seed as u32,
            config,
        }
    }

    /// Takes one IP packet in. Whatever is wrong with it is counted, never an error.
    pub fn handle_packet(&mut self, packet: &[u8], checksum: Checksum, now: Instant) {
        self.clock.advance(now, self.timers.next());
        self.stats.packets_in += 1;
        self.stats.bytes_in += packet.len() as u64;
        self.ingest(packet, checksum, Origin::Device);
    }

    fn ingest(&mut self, bytes: &[u8], checksum: Checksum, origin: Origin) {
        let packet = match ip::parse(bytes) {
            Ok(packet) => packet,
            Err(rejected) => return self.count(rejected),
        };
        match packet.fragment {
            // A fragment of fragments is an attack.
            Some(_) if origin != Origin::Device => return self.count(Rejected::Malformed),
            Some(part) => {
                self.stats.fragments += 1;
                match self.reassembly.handle(&packet, part, self.clock.now()) {
                    Reassembled::Kept => {}
                    Reassembled::GivenUp => self.stats.reassembly_failed += 1,
                    Reassembled::Whole(whole) => {
                        self.ingest(&whole, Checksum::Unverified, Origin::Fragments);
                    }
                }
                self.stats.reassembly_failed += self.reassembly.take_given_up();
                return;
            }
            None => {}
        }
        match packet.protocol {
            IpProtocol::Tcp if origin == Origin::Fragments => {
                let packet = Bytes::copy_from_slice(bytes);
                if !self.events.push(Event::Reassembled { packet }) {
                    self.stats.datagrams_dropped += 1;
                }
            }
            IpProtocol::Tcp if packet.extended => {
                // smoltcp knows no extension headers; none of them means anything to TCP.
                let (source, target) = (packet.source, packet.target);
                let plain = ip::compose(source, target, IpProtocol::Tcp, packet.payload);
                self.ingest(&plain, checksum, Origin::Headers);
            }
            IpProtocol::Tcp => self.handle_tcp(&packet, checksum),
            IpProtocol::Udp => self.handle_udp(&packet, checksum),
            IpProtocol::Icmp | IpProtocol::Icmpv6 => self.handle_icmp(&packet),
            _ => self.count(Rejected::Unsupported),
        }
    }

    fn handle_udp(&mut self, packet: &IpPacket<'_>, checksum: Checksum) {
        let Some(datagram) = udp::parse(packet) else {
            return self.count(Rejected::Malformed);
        };
        if checksum == Checksum::Unverified
            && !segment::checksum_is_right(packet, datagram.transport)
        {
            return self.count(Rejected::BadChecksum);
        }
        let taken = self.events.push(Event::Datagram {
            client: datagram.client,
            target: datagram.target,
            payload: Bytes::copy_from_slice(datagram.payload),
        });
        let counter = if taken {
            &mut self.stats.datagrams_in
        } else {
            &mut self.stats.datagrams_dropped
        };
        *counter += 1;
    }

    fn handle_icmp(&mut self, packet: &IpPacket<'_>) {
        let Some(identifier) = echo::request(packet) else {
            self.stats.icmp_ignored += 1;
            return;
        };
        let taken = self.events.push(Event::Echo {
            client: packet.source,
            target: packet.target,
            identifier,
            message: Bytes::copy_from_slice(packet.payload),
        });
        let counter = if taken {
            &mut self.stats.echoes_in
        } else {
            &mut self.stats.datagrams_dropped
        };
        *counter += 1;
    }

    pub(crate) fn count(&mut self, rejected: Rejected) {
        let counter = match rejected {
            Rejected::Malformed => &mut self.stats.malformed,
            Rejected::BadChecksum => &mut self.stats.bad_checksum,
            Rejected::Martian => &mut self.stats.martian,
            Rejected::Unsupported => &mut self.stats.unsupported,
        };
        *counter += 1;
    }

    /// Lets time pass: due retransmissions, keep-alives and the like become packets to poll.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock.advance(now, self.timers.next());
        let now = self.clock.now();
        self.reassembly.expire(now);
        self.stats.reassembly_failed += self.reassembly.take_given_up();
        self.time_wait.expire(now);
        while let Some(id) = self.timers.pop_due(now) {
            if let Some(Slot::Open(flow)) = self.flows.get_mut(id) {
                flow.scheduled = None;
                self.wake(id);
            }
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) has to be called, if nothing happens
    /// before. It may turn out to have been for nothing. While events wait the time is now:
    /// polling a packet may have made one.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let now = (!self.events.is_empty()).then(|| self.clock.now());
        let later = [
            self.timers.next(),
            self.reassembly.poll_timeout(),
            self.time_wait.poll_timeout(),
        ];
        let at = later.into_iter().chain([now]).flatten().min();
        at.map(|at| self.clock.instant(at))
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    /// Writes the next outgoing packet to `buffer` and returns what the device has to do with it,
    /// or returns `None` if there is none. Flows take turns, one packet each.
    pub fn poll_packet(&mut self, buffer: &mut PacketBuffer, now: Instant) -> Option<Offload> {
        self.clock.advance(now, self.timers.next());
        let offload = match self.outbox.pop() {
            Some((packet, offload)) => {
                buffer.put(&packet);
                offload
            }
            None => self.poll_flows(buffer)?,
        };
        self.stats.packets_out += 1;
        self.stats.bytes_out += buffer.packet().len() as u64;
        Some(offload)
    }

    /// Returns whether any datagram or echo reply would find room in the queue of outgoing packets.
    pub fn has_room_for_datagrams(&self) -> bool {
        self.outbox.has_room_for_any()
    }

    /// Queues a datagram from a target to a client, in fragments where it exceeds the MTU.
    pub fn send_datagram(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        payload: &[u8],
    ) -> Result<(), SendDatagramError> {
        if self.outbox.is_full_for(payload.len()) {
            return Err(SendDatagramError::QueueFull);
        }
        self.next_datagram = self.next_datagram.wrapping_add(1);
        let (mtu, offload) = (self.config.mtu, self.config.segmentation);
        for (packet, offload) in udp::packets(from, to, payload, mtu, offload, self.next_datagram)?
        {
            self.outbox.push(packet, offload);
        }
        self.stats.datagrams_out += 1;
        Ok(())
    }

    /// Queues the reply of a target to a client's echo request, in fragments where it exceeds the MTU.
    /// `message` is the whole ICMP message, in which identifier and checksum are filled in.
    pub fn send_echo_reply(
        &mut self,
        target: IpAddr,
        client: IpAddr,
        identifier: u16,
        message: &[u8],
    ) -> Result<(), SendDatagramError> {
        if target.is_ipv4() != client.is_ipv4() {
            return Err(SendDatagramError::MixedFamilies);
        }
        if !echo::is_reply(client, message) {
            return Err(SendDatagramError::NotAReply);
        }
        let length = message.len();
        if length > ip::max_payload(client) {
            return Err(SendDatagramError::TooLong { length });
        }
        if self.outbox.is_full_for(length) {
            return Err(SendDatagramError::QueueFull);
        }
        self.next_datagram = self.next_datagram.wrapping_add(1);
        let (mtu, id) = (self.config.mtu, self.next_datagram);
        for packet in echo::reply(target, client, identifier, message, mtu, id) {
            self.outbox.push(packet, Offload::default());
        }
        self.stats.echoes_out += 1;
        Ok(())
    }

    /// Tells a client by ICMP that its datagrams do not reach a target.
    pub fn datagram_unreachable(
        &mut self,
        client: SocketAddr,
        target: SocketAddr,
        reason: Unreachable,
    ) {
        if client.is_ipv4() != target.is_ipv4() {
            return;
        }
        let original = udp::quote(client, target);
        self.tell_unreachable(&original, target.ip(), client.ip(), reason);
    }

    /// Tells a client by ICMP that an echo request of its own, which begins with `request`, does not reach a
    /// target.
    pub fn echo_unreachable(
        &mut self,
        client: IpAddr,
        target: IpAddr,
        request: &[u8],
        reason: Unreachable,
    ) {
        if client.is_ipv4() != target.is_ipv4() {
            return;
        }
        if let Some(original) = echo::quote(client, target, request) {
            self.tell_unreachable(&original, target, client, reason);
        }
    }

    fn tell_unreachable(
        &mut self,
        original: &[u8],
        target: IpAddr,
        client: IpAddr,
        reason: Unreachable,
    ) {
        let packet = reply::unreachable(original, target, client, reason);
        self.outbox.push(packet, Offload::default());
        self.stats.unreachable += 1;
    }

    /// Returns the counters. Looks at every flow.
    pub fn stats(&self) -> Stats {
        let in_flows = self.flows.values().map(|slot| match slot {
            Slot::Pending(syn) => syn.packet.len(),
            Slot::Open(flow) => flow.buffered(),
        });
        Stats {
            replies_dropped: self.outbox.dropped,
            flows: self.flows.len(),
            pending: self.pending,
            pooled_buffers: self.pool.len(),
            buffered: in_flows.sum::<usize>()
                + self.outbox.bytes()
                + self.events.bytes()
                + self.reassembly.bytes(),
            ..self.stats
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_may_be_moved_to_another_thread() {
        fn may_be_moved<T: Send>() {}
        may_be_moved::<Stack>();
        may_be_moved::<PacketBuffer>();
    }
}
