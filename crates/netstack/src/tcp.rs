//! The TCP half of the stack: which segment belongs to whom, and what the owner may do with a flow.

use std::net::SocketAddr;
use std::time::Instant;

use tracing::{debug, trace};

use crate::clock::Micros;
use crate::flow::{Closed, Flow};
use crate::held_syn::HeldSyn;
use crate::ip::{IpPacket, Rejected};
use crate::offload::{Checksum, Offload, PacketBuffer};
use crate::reply::{self, Control};
use crate::segment::{self, RST, Segment};
use crate::stack::{Slot, Stack};
use crate::time_wait::Verdict;
use crate::{AcceptError, Event, FlowId, FlowKey, Recv, Unreachable};

/// How long a request has its place for sure: until a client that heard nothing asks again (RFC 6298).
const PATIENCE: Micros = 1_000_000;

impl Stack {
    pub(crate) fn handle_tcp(&mut self, packet: &IpPacket<'_>, checksum: Checksum) {
        let Some(segment) = Segment::parse(packet.payload) else {
            return self.count(Rejected::Malformed);
        };
        if checksum == Checksum::Unverified && !segment::checksum_is_right(packet, packet.payload) {
            return self.count(Rejected::BadChecksum);
        }
        let key = FlowKey {
            client: SocketAddr::new(packet.source, segment.source_port),
            target: SocketAddr::new(packet.target, segment.target_port),
        };
        let Some(&id) = self.by_key.get(&key) else {
            return self.handle_stray(key, packet, segment);
        };
        match self.flows.get_mut(id) {
            Some(Slot::Pending(_)) => self.handle_undecided(id, key, packet, segment),
            // A client that opens anew has forgotten the flow: the acknowledgement makes its
            // kernel reset it (RFC 5961 4.2).
            Some(Slot::Open(flow)) if segment.is_request() && flow.is_open() => {
                let challenge = flow.acknowledgement();
                self.reply(key, challenge);
            }
            Some(Slot::Open(flow)) => {
                flow.allow(self.held.allowance(flow.moved()));
                flow.handle(
                    packet,
                    &segment,
                    &mut self.iface,
                    &self.clock,
                    &mut self.outbox,
                );
                self.held.count(flow);
                self.wake(id);
                self.settle(id);
            }
            None => {}
        }
    }

    /// A segment of no flow: a request, or something to be reset.
    fn handle_stray(&mut self, key: FlowKey, packet: &IpPacket<'_>, segment: Segment) {
        match self.time_wait.handle(&key, &segment) {
            Verdict::Answered(Some(control)) => return self.reply(key, control),
            Verdict::Answered(None) => return,
            Verdict::Unknown => {}
        }
        if segment.is_request() {
            self.request(key, packet, segment);
        } else if !segment.has(RST) {
            self.stats.stray_resets += 1;
            self.reply(key, Control::reset_for(&segment));
        }
    }

    fn request(&mut self, key: FlowKey, packet: &IpPacket<'_>, segment: Segment) {
        if self.flows.len() >= self.config.max_flows {
            self.stats.dropped_max_flows += 1;
            return;
        }
        if self.pending >= self.config.max_pending && !self.forget_who_waits() {
            self.stats.dropped_max_pending += 1;
            return;
        }
        let now = self.clock.now();
        let Some(syn) = HeldSyn::new(key, packet, segment, now) else {
            return self.count(Rejected::Malformed);
        };
        let flow = self.flows.insert(Slot::Pending(syn));
        self.waiting.insert(now, flow);
        self.by_key.insert(key, flow);
        self.pending += 1;
        self.stats.requested += 1;
        debug!(?flow, client = %key.client, target = %key.target, "flow requested");
        self.events.push(Event::TcpRequested { flow, key });
    }

    /// Makes room for a request by forgetting the oldest, if it has been waiting for long: many that ask
    /// for what never answers must not keep the others out. A client that is forgotten asks again.
    fn forget_who_waits(&mut self) -> bool {
        let Some((since, flow)) = self.waiting.first() else {
            return false;
        };
        if self.clock.now() - since < PATIENCE || self.take_pending(flow).is_none() {
            return false;
        }
        self.stats.forgotten += 1;
        debug!(?flow, "a flow that waited for long made room for another");
        self.events.push(Event::TcpClosed { flow, reset: true });
        true
    }

    /// A segment of a flow that is not decided yet.
    fn handle_undecided(
        &mut self,
        id: FlowId,
        key: FlowKey,
        packet: &IpPacket<'_>,
        segment: Segment,
    ) {
        let Some(Slot::Pending(held)) = self.flows.get_mut(id) else {
            return;
        };
        if segment.is_request() {
            self.stats.repeated_syns += 1;
            // The client may have begun anew from the same port; the wish is the same.
            if segment.seq != held.segment.seq
                && let Some(newer) = HeldSyn::new(key, packet, segment, held.since)
            {
                *held = newer;
            }
        } else if segment.has(RST) && segment.seq.wrapping_sub(held.segment.seq) <= 1 {
            self.take_pending(id);
            self.stats.reset += 1;
            debug!(flow = ?id, "the client gave up before the decision");
            self.events.push(Event::TcpClosed {
                flow: id,
                reset: true,
            });
        }
    }

    fn reply(&mut self, key: FlowKey, control: Control) {
        self.outbox
            .push(control.packet(key.target, key.client), Offload::default());
    }

    fn take_pending(&mut self, id: FlowId) -> Option<HeldSyn> {
        if !matches!(self.flows.get(id), Some(Slot::Pending(_))) {
            return None;
        }
        let Some(Slot::Pending(syn)) = self.flows.remove(id) else {
            return None;
        };
        self.by_key.remove(&syn.key);
        self.waiting.remove(syn.since, id);
        self.pending -= 1;
        Some(syn)
    }

    /// Lets the handshake of a requested flow go on. Data may be sent and received at once, and
    /// moves when the client has answered.
    pub fn accept(&mut self, flow: FlowId, now: Instant) -> Result<(), AcceptError> {
        self.clock.advance(now, self.timers.next());
        let Some(slot @ Slot::Pending(_)) = self.flows.get_mut(flow) else {
            return Err(AcceptError::NotPending);
        };
        let rings = match self.pool.take() {
            Ok(rings) => rings,
            Err(error) => {
                self.refuse(flow);
                return Err(AcceptError::Buffers(error));
            }
        };
        let Slot::Pending(syn) = slot else {
            return Err(AcceptError::NotPending);
        };
        self.waiting.remove(syn.since, flow);
        let accepted = Flow::accept(
            syn,
            rings,
            &self.config,
            &mut self.iface,
            &self.clock,
            &mut self.outbox,
        );
        *slot = Slot::Open(Box::new(accepted));
        self.pending -= 1;
        self.stats.accepted += 1;
        debug!(?flow, "flow accepted");
        self.wake(flow);
        Ok(())
    }

    /// Answers a requested flow with a reset: nothing listens there.
    pub fn refuse(&mut self, flow: FlowId) {
        if let Some(syn) = self.take_pending(flow) {
            self.stats.refused += 1;
            debug!(?flow, "flow refused");
            self.reply(syn.key, Control::reset_for(&syn.segment));
        }
    }

    /// Answers a requested flow with an ICMP message that makes the client's `connect` fail at
    /// once and for the right reason.
    pub fn unreachable(&mut self, flow: FlowId, reason: Unreachable) {
        if let Some(syn) = self.take_pending(flow) {
            self.stats.unreachable += 1;
            debug!(?flow, ?reason, "flow unreachable");
            let (target, client) = (syn.key.target.ip(), syn.key.client.ip());
            let packet = reply::unreachable(&syn.packet, target, client, reason);
            self.outbox.push(packet, Offload::default());
        }
    }

    /// Leaves a requested flow without any answer: its target gave none either. The client asks again
    /// until its own patience ends, which makes another flow each time.
    pub fn forget(&mut self, flow: FlowId) {
        if self.take_pending(flow).is_some() {
            debug!(?flow, "flow not answered");
        }
    }

    /// Takes up to `max` bytes the client has sent. To be called until it answers something other
    /// than [`Recv::Data`], unless the owner has no room for more; what is not taken closes the
    /// client's window.
    pub fn recv(&mut self, flow: FlowId, max: usize) -> Recv {
        let open = match self.flows.get_mut(flow) {
            Some(Slot::Open(open)) => open,
            Some(Slot::Pending(_)) => return Recv::Empty,
            None => return Recv::Reset,
        };
        let received = open.recv(max);
        self.held.count(open);
        if open.is_over() {
            if open.is_told_everything() && !matches!(received, Recv::Data(_)) {
                self.free(flow);
            }
        } else if matches!(received, Recv::Data(_)) {
            open.allow(self.held.allowance(open.moved()));
            if let Some(update) = open.reopen() {
                let key = open.key;
                self.reply(key, update);
            }
            self.wake(flow);
        }
        received
    }

    /// Queues bytes for the client and returns how many were taken. Fewer than given means that
    /// [`Event::TcpWritable`] will follow, or [`Event::TcpClosed`]. None are taken after
    /// `shutdown`.
    pub fn send(&mut self, flow: FlowId, data: &[u8]) -> usize {
        let Some(Slot::Open(open)) = self.flows.get_mut(flow) else {
            return 0;
        };
        open.allow(self.held.allowance(open.moved()));
        let sent = open.send(data);
        self.held.count(open);
        if sent > 0 {
            self.wake(flow);
        }
        sent
    }

    /// Returns how many bytes `send` would take now.
    pub fn send_room(&self, flow: FlowId) -> usize {
        match self.flows.get(flow) {
            Some(Slot::Open(open)) => open.room(),
            _ => 0,
        }
    }

    /// Sends a FIN after everything queued. Receiving goes on.
    pub fn shutdown(&mut self, flow: FlowId) {
        if let Some(Slot::Open(open)) = self.flows.get_mut(flow) {
            open.shutdown();
            self.wake(flow);
        }
    }

    /// Ends a flow with a reset, or frees what is left of one that is over. Of a requested flow it
    /// is a refusal. Always safe to call.
    pub fn abort(&mut self, flow: FlowId) {
        match self.flows.get_mut(flow) {
            Some(Slot::Open(open)) => {
                if !open.is_over() {
                    open.abort(&mut self.iface, &self.clock, &mut self.outbox);
                    self.close(flow, Closed::Reset);
                }
                self.free(flow);
            }
            Some(Slot::Pending(_)) => self.refuse(flow),
            None => {}
        }
    }

    /// Queues a flow for egress.
    pub(crate) fn wake(&mut self, id: FlowId) {
        if let Some(Slot::Open(flow)) = self.flows.get_mut(id)
            && !flow.ready
            && !flow.is_over()
        {
            flow.ready = true;
            self.ready.push_back(id);
        }
    }

    /// Writes the next packet of the flow whose turn it is.
    pub(crate) fn poll_flows(&mut self, buffer: &mut PacketBuffer) -> Option<Offload> {
        while let Some(id) = self.ready.pop_front() {
            let Some(Slot::Open(flow)) = self.flows.get_mut(id) else {
                continue;
            };
            if flow.is_over() {
                continue;
            }
            flow.allow(self.held.allowance(flow.moved()));
            if let Some(offload) = flow.egress(&mut self.iface, &self.clock, buffer) {
                trace!(flow = ?id, length = buffer.packet().len(), "packet");
                self.ready.push_back(id);
                return Some(offload);
            }
            flow.ready = false;
            self.settle(id);
            self.rest(id);
        }
        None
    }

    /// Tells the owner what changed.
    fn settle(&mut self, id: FlowId) {
        let Some(Slot::Open(flow)) = self.flows.get_mut(id) else {
            return;
        };
        let changes = flow.observe();
        if changes.readable {
            self.events.push(Event::TcpReadable { flow: id });
        }
        if changes.writable {
            self.events.push(Event::TcpWritable { flow: id });
        }
        if let Some(closed) = changes.closed {
            self.close(id, closed);
        }
    }

    /// Arms the timer of a flow that has nothing to send for now.
    fn rest(&mut self, id: FlowId) {
        let Some(Slot::Open(flow)) = self.flows.get_mut(id) else {
            return;
        };
        if flow.is_over() {
            return;
        }
        let trim_after = self.held.trim_after(self.config.trim_after);
        let at = flow.deadline(&mut self.iface, &self.clock, trim_after);
        self.held.count(flow);
        if let Some(at) = at
            && flow.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            if let Some(later) = flow.scheduled.replace(at) {
                self.timers.remove(later, id);
            }
            self.timers.insert(at, id);
        }
    }

    /// Notes that a conversation is over; what the owner has not read stays.
    fn close(&mut self, id: FlowId, closed: Closed) {
        let Some(Slot::Open(flow)) = self.flows.get_mut(id) else {
            return;
        };
        self.by_key.remove(&flow.key);
        if let Some(at) = flow.scheduled.take() {
            self.timers.remove(at, id);
        }
        let reset = closed == Closed::Reset;
        if reset {
            self.stats.reset += 1;
        } else {
            self.stats.finished += 1;
            self.time_wait.insert(flow.key, flow.sent, self.clock.now());
        }
        debug!(flow = ?id, reset, "flow closed");
        self.events.push(Event::TcpClosed { flow: id, reset });
        if flow.is_told_everything() {
            self.free(id);
        }
    }

    fn free(&mut self, id: FlowId) {
        if let Some(Slot::Open(flow)) = self.flows.remove(id) {
            self.held.forget(&flow);
            self.pool.give(flow.into_rings());
        }
    }
}
