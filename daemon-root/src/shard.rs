//! The loop that owns a stack: packets from a queue of the device become events for flow tasks, and what
//! flow tasks have for their programs becomes packets.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use kdev_host::device::{Device, VnetHeader};
use kdev_netstack::{
    Checksum, Config, Event, FlowId, FlowKey, PacketBuffer, Recv, Stack, Unreachable,
};
use kdev_proto::v1::flow_failed::Reason;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::datagram_flows::{Budget, DatagramFlows, Kind, Reply};
use crate::flow_link::{Down, Pokes, ShardEnd, Up, Waiting, link};
use crate::hand_over::{Misplaced, Peers};
use crate::packets;
use crate::shards::Shared;
use crate::tcp_flow;

/// Packets that are read before the stack is flushed: a poll per packet costs most of the speed.
const BATCH: usize = 64;
/// Bytes of one read from a flow.
const CHUNK: usize = kdev_flow::CHUNK;
/// Datagrams that wait for the shard; more wait with their flows.
const REPLIES: usize = 256;

/// What a shard needs.
#[derive(Debug)]
pub struct Parts {
    /// Its queue of the device.
    pub device: Arc<Device>,
    /// That queue's number.
    pub number: usize,
    /// Its share of the device's limits.
    pub config: Config,
    /// The way to the other shards.
    pub peers: Peers,
    /// What they hand over.
    pub misplaced: mpsc::Receiver<Misplaced>,
    /// What it shares with them for datagrams.
    pub budget: Budget,
    /// What else it shares with them.
    pub shared: Shared,
}

struct Flow {
    key: FlowKey,
    link: ShardEnd,
    /// What was taken from the task's queue and didn't fit into the stack.
    pending: Option<Bytes>,
    /// What was taken from the stack and didn't fit into the task's queue.
    stuck: Option<Box<Waiting<Up>>>,
    decided: bool,
    /// Nothing more comes from the task.
    down_done: bool,
    /// Nothing more goes to the task.
    up_done: bool,
    /// The stack is done with it; only the task isn't.
    closing: bool,
}

/// The shard.
pub struct Shard {
    device: Arc<Device>,
    number: usize,
    peers: Peers,
    misplaced: mpsc::Receiver<Misplaced>,
    shared: Shared,
    stack: Stack,
    flows: HashMap<FlowId, Flow>,
    pokes: Arc<Pokes>,
    poked: Vec<FlowId>,
    datagrams: DatagramFlows,
    replies: mpsc::Receiver<Reply>,
    /// Its part of the count of all flows.
    counted: u32,
    packet: PacketBuffer,
    /// The header of the packet in `packet`.
    header: VnetHeader,
    /// Whether that packet has gone to the device.
    written: bool,
}

impl Shard {
    /// Makes the shard of a queue.
    pub fn new(parts: Parts) -> Self {
        let shared = parts.shared;
        let (sender, replies) = mpsc::channel(REPLIES);
        let datagrams = DatagramFlows::new(
            Arc::clone(&shared.carriers),
            parts.budget,
            sender,
            shared.tasks.clone(),
            shared.cancelled.clone(),
        );
        Self {
            device: parts.device,
            number: parts.number,
            peers: parts.peers,
            misplaced: parts.misplaced,
            shared,
            stack: Stack::new(parts.config, Instant::now()),
            flows: HashMap::new(),
            pokes: Arc::default(),
            poked: Vec::new(),
            datagrams,
            replies,
            counted: 0,
            packet: packets::buffer(),
            header: VnetHeader::default(),
            written: true,
        }
    }

    /// Counts its flows there from now on.
    #[cfg(test)]
    pub fn count_in(&mut self, flows: Arc<std::sync::atomic::AtomicU32>) {
        self.shared.flows = flows;
    }

    /// Runs until cancelled or the device fails.
    ///
    /// # Errors
    ///
    /// When the device can't be read any more.
    pub async fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; packets::READ_BUFFER];
        loop {
            let timeout = self.stack.poll_timeout();
            let device = Arc::clone(&self.device);
            tokio::select! {
                () = self.shared.cancelled.cancelled() => return self.reset_all(),
                readable = device.readable() => {
                    readable?;
                    self.read(&mut buffer)?;
                }
                // A packet waits for room in the device's queue; never dropped, as that costs a second.
                writable = device.writable(), if !self.written => writable?,
                () = self.pokes.wait() => {}
                Some(misplaced) = self.misplaced.recv() => {
                    let Misplaced { packet, checksum } = misplaced;
                    self.stack.handle_packet(&packet, checksum, Instant::now());
                }
                Some(reply) = self.replies.recv(), if self.stack.has_room_for_datagrams() => {
                    self.reply(reply);
                    while self.stack.has_room_for_datagrams()
                        && let Ok(reply) = self.replies.try_recv()
                    {
                        self.reply(reply);
                    }
                }
                () = until(timeout) => self.stack.handle_timeout(Instant::now()),
            }
            self.turn()?;
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let now = Instant::now();
        for _ in 0..BATCH {
            let Some((header, length)) = self.device.try_read(buffer)? else {
                break;
            };
            let packet = &buffer[..length];
            let checksum = packets::checksum(&header);
            match self.device.queue_of(packet) {
                own if own == self.number => self.stack.handle_packet(packet, checksum, now),
                other => self.hand_over(other, packet, checksum),
            }
        }
        Ok(())
    }

    fn hand_over(&self, queue: usize, packet: &[u8], checksum: Checksum) {
        let packet = packet.to_vec();
        self.peers.hand_over(queue, Misplaced { packet, checksum });
    }

    /// Does all there is to do without waiting.
    fn turn(&mut self) -> io::Result<()> {
        while let Some(event) = self.stack.poll_event() {
            self.handle(event);
        }
        self.pokes.take(&mut self.poked);
        for id in std::mem::take(&mut self.poked) {
            if let Some(flow) = self.flows.get(&id) {
                flow.link.poke.looked();
            }
            self.push_down(id);
            self.push_up(id);
        }
        self.count(self.flows.len() + self.datagrams.count());
        self.write()
    }

    /// Brings this shard's part of the count of all flows up to date.
    fn count(&mut self, flows: usize) {
        let flows = u32::try_from(flows).unwrap_or(u32::MAX);
        // Wrapping: there may be fewer than before.
        let change = flows.wrapping_sub(self.counted);
        self.shared.flows.fetch_add(change, Ordering::Relaxed);
        self.counted = flows;
    }

    fn write(&mut self) -> io::Result<()> {
        loop {
            if self.written {
                let now = Instant::now();
                let Some(offload) = self.stack.poll_packet(&mut self.packet, now) else {
                    return Ok(());
                };
                self.header = packets::header(&offload);
                self.packet
                    .headroom_mut()
                    .copy_from_slice(&self.header.emit());
            }
            let device = &self.device;
            let written = if device.offload() {
                device.try_write_frame(self.packet.frame())
            } else {
                device.try_write(&self.header, self.packet.packet())
            };
            self.written = match written {
                Ok(written) => written,
                Err(error) if costs_only_the_packet(&error) => {
                    tracing::warn!(%error, "the kernel refuses a packet");
                    true
                }
                Err(error) => return Err(error),
            };
            if !self.written {
                return Ok(());
            }
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.count(0);
    }
}

/// A packet that the kernel doesn't understand, or has no memory for; every other error is the
/// device's.
fn costs_only_the_packet(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOMEM | libc::ENOBUFS)
    )
}

/// Waits until a moment; for ever when there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

fn unreachable(reason: Reason) -> Option<Unreachable> {
    match reason {
        Reason::Refused => None,
        Reason::NetworkUnreachable => Some(Unreachable::Network),
        Reason::Prohibited => Some(Unreachable::Prohibited),
        Reason::Unspecified
        | Reason::HostUnreachable
        | Reason::TimedOut
        // Of flows from the cluster only.
        | Reason::TakenBefore
        | Reason::OverBefore => Some(Unreachable::Host),
    }
}

impl Shard {
    fn handle(&mut self, event: Event) {
        match event {
            Event::TcpRequested { flow, key } => {
                let (shard_end, task_end) = link(flow, &self.pokes);
                let entry = Flow {
                    key,
                    link: shard_end,
                    pending: None,
                    stuck: None,
                    decided: false,
                    down_done: false,
                    up_done: false,
                    closing: false,
                };
                self.flows.insert(flow, entry);
                let (carriers, cancelled) = (
                    Arc::clone(&self.shared.carriers),
                    self.shared.cancelled.clone(),
                );
                self.shared.tasks.spawn(async move {
                    tokio::select! {
                        () = cancelled.cancelled() => {}
                        () = tcp_flow::run(key, task_end, carriers) => {}
                    }
                });
            }
            Event::TcpReadable { flow } => self.push_up(flow),
            Event::TcpWritable { flow } => self.push_down(flow),
            Event::TcpClosed { flow, reset } => self.closed(flow, reset),
            Event::Reassembled { packet } => match self.device.queue_of(&packet) {
                own if own == self.number => {
                    let now = Instant::now();
                    self.stack.handle_packet(&packet, Checksum::Unverified, now);
                }
                other => self.hand_over(other, &packet, Checksum::Unverified),
            },
            Event::Datagram {
                client,
                target,
                payload,
            } => self.datagrams.send(Kind::Udp, client, target, payload),
            Event::Echo {
                client,
                target,
                identifier,
                message,
            } => self.datagrams.send(
                Kind::Echo,
                (client, identifier).into(),
                (target, 0).into(),
                message,
            ),
        }
    }

    /// Moves what the program sent into the task's queue, as far as there is room.
    fn push_up(&mut self, id: FlowId) {
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        while flow.decided && !flow.up_done {
            let waiting = match flow.stuck.take() {
                Some(waiting) => waiting,
                None => match flow.link.room(CHUNK) {
                    0 => return,
                    room => match self.stack.recv(id, room) {
                        Recv::Data(bytes) => flow.link.waiting(Up::Data(bytes)),
                        Recv::Empty => return,
                        Recv::End => flow.link.waiting(Up::End),
                        Recv::Reset => flow.link.waiting(Up::Reset),
                    },
                },
            };
            let last = waiting.is_last();
            match flow.link.offer(waiting) {
                Ok(()) => flow.up_done = last,
                Err(TrySendError::Full(waiting)) => {
                    flow.stuck = Some(waiting);
                    return;
                }
                // The task has ended, and with it the far end.
                Err(TrySendError::Closed(_)) => flow.up_done = true,
            }
        }
        if flow.closing && flow.up_done {
            self.flows.remove(&id);
        }
    }

    /// Moves what the task has for the program into the stack, as far as there is room.
    fn push_down(&mut self, id: FlowId) {
        loop {
            let Some(flow) = self.flows.get_mut(&id) else {
                return;
            };
            if let Some(mut bytes) = flow.pending.take() {
                let sent = self.stack.send(id, &bytes);
                if sent < bytes.len() {
                    flow.pending = Some(bytes.split_off(sent));
                    return;
                }
            }
            match flow.link.take() {
                Ok(Down::Data(bytes)) => flow.pending = Some(bytes),
                Ok(Down::Opened) => self.accept(id),
                Ok(Down::Failed(reason)) => self.fail(id, reason),
                Ok(Down::End) => {
                    flow.down_done = true;
                    self.stack.shutdown(id);
                }
                Ok(Down::Reset) => self.abort(id),
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    if !flow.decided {
                        self.fail(id, Reason::HostUnreachable);
                    } else if !flow.down_done {
                        // The task was ended half way: the program must not wait for the rest.
                        self.abort(id);
                    }
                    return;
                }
            }
        }
    }

    fn accept(&mut self, id: FlowId) {
        match self.stack.accept(id, Instant::now()) {
            Ok(()) => {
                if let Some(flow) = self.flows.get_mut(&id) {
                    flow.decided = true;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a flow wasn't accepted");
                self.flows.remove(&id);
            }
        }
    }

    fn fail(&mut self, id: FlowId, reason: Reason) {
        match unreachable(reason) {
            // As nobody answered, the program hears nothing, and gives up when it likes.
            _ if reason == Reason::TimedOut => self.stack.forget(id),
            None => self.stack.refuse(id),
            Some(kind) => self.stack.unreachable(id, kind),
        }
        if let Some(flow) = self.flows.remove(&id) {
            tracing::debug!(target = %flow.key.target, ?reason, "flow refused");
        }
    }

    /// Tells every program that its connection is over: the device goes, and with it whoever could say so
    /// later.
    fn reset_all(&mut self) -> io::Result<()> {
        let all: Vec<_> = self
            .flows
            .iter()
            .map(|(id, flow)| (*id, flow.decided))
            .collect();
        for (id, decided) in all {
            match decided {
                true => self.abort(id),
                false => self.fail(id, Reason::NetworkUnreachable),
            }
            self.write()?;
        }
        Ok(())
    }

    fn abort(&mut self, id: FlowId) {
        self.stack.abort(id);
        self.flows.remove(&id);
    }

    /// The conversation with the program is over. After an orderly end the task still takes what is
    /// left; a reset ends it at once.
    fn closed(&mut self, id: FlowId, reset: bool) {
        self.push_up(id);
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        if reset || !flow.decided {
            let _ = flow.link.offer(flow.link.waiting(Up::Reset));
            self.stack.abort(id);
            // Dropping the link resets the flow even when its queue is full.
            self.flows.remove(&id);
        } else if flow.up_done {
            self.flows.remove(&id);
        } else {
            flow.closing = true;
        }
    }

    fn reply(&mut self, reply: Reply) {
        match reply {
            Reply::Datagram {
                kind,
                target,
                client,
                payload,
            } => {
                let sent = match kind {
                    Kind::Udp => self.stack.send_datagram(target, client, &payload),
                    Kind::Echo => {
                        let (identifier, stack) = (client.port(), &mut self.stack);
                        stack.send_echo_reply(target.ip(), client.ip(), identifier, &payload)
                    }
                };
                if let Err(error) = sent {
                    tracing::debug!(%error, "a datagram is lost");
                }
            }
            Reply::Failed {
                kind: Kind::Udp,
                target,
                client,
                reason,
                ..
            } => {
                let kind = unreachable(reason).unwrap_or(Unreachable::Port);
                self.stack.datagram_unreachable(client, target, kind);
            }
            Reply::Failed {
                kind: Kind::Echo,
                target,
                client,
                reason,
                last,
            } => {
                let kind = unreachable(reason).unwrap_or(Unreachable::Port);
                let (client, target) = (client.ip(), target.ip());
                self.stack.echo_unreachable(client, target, &last, kind);
            }
        }
    }
}
