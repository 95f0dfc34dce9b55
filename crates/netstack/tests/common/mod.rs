//! A stack and a client joined by queues, under a virtual clock.
#![allow(dead_code, reason = "every test file uses another part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's own helpers"
)]

pub mod client;
pub mod craft;
pub mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kdev_netstack::{Checksum, Config, Event, FlowId, FlowKey, PacketBuffer, Recv, Stack};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use client::Client;
use craft::{FIN, Segment};

const TO_CLIENT: usize = 0;
const TO_STACK: usize = 1;
/// More than any exchange takes: who sends as much at one moment never stops.
pub const MOST_PACKETS: usize = 100_000;

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * 1024;

pub fn target(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 96, 0, 7], port))
}

pub fn target6(port: u16) -> SocketAddr {
    SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 7], port))
}

/// Bytes that tell where they belong.
pub fn pattern(start: usize, len: usize) -> Vec<u8> {
    (start..start + len)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect()
}

/// Decides whether a packet is lost.
pub type Loss = Box<dyn FnMut(&[u8]) -> bool>;

/// What becomes of a packet on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Arrives,
    /// It arrives again, right after.
    Twice,
    /// Others overtake it.
    Late,
    Lost,
}

/// Decides what becomes of a packet.
pub type Way = Box<dyn FnMut(&[u8]) -> Fate>;

pub struct World {
    pub stack: Stack,
    pub client: Client,
    pub events: Vec<Event>,
    /// Every packet that reached the client since the last `settle` began, complete.
    pub to_client: Vec<Vec<u8>>,
    /// Every packet that reached the stack since then.
    pub to_stack: Vec<Vec<u8>>,
    pub loss: Option<Loss>,
    pub way: Option<Way>,
    /// Packets that others overtake, to the client and to the stack.
    late: [Vec<Vec<u8>>; 2],
    /// The number behind the client's FIN, by its port.
    fins: HashMap<u16, u32>,
    /// Whether the client is only a port for packets made by hand.
    pub by_hand: bool,
    buffer: PacketBuffer,
    start: Instant,
    now: Instant,
}

impl World {
    pub fn new(config: Config) -> Self {
        let now = Instant::now();
        let client = Client::new(config.segmentation);
        Self {
            stack: Stack::new(
                Config {
                    seed: Some(7),
                    ..config
                },
                now,
            ),
            client,
            events: Vec::new(),
            to_client: Vec::new(),
            to_stack: Vec::new(),
            loss: None,
            way: None,
            late: [vec![], vec![]],
            fins: HashMap::new(),
            by_hand: false,
            buffer: PacketBuffer::new(10),
            start: now,
            now,
        }
    }

    pub fn plain() -> Self {
        Self::new(Config {
            segmentation: false,
            ..Config::default()
        })
    }

    pub fn offloading() -> Self {
        Self::new(Config::default())
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    pub fn client_now(&self) -> smoltcp::time::Instant {
        smoltcp::time::Instant::from_micros((self.now - self.start).as_micros() as i64 + 1)
    }

    /// Moves packets until none moves any more, and collects events.
    pub fn settle(&mut self) {
        self.to_client.clear();
        self.to_stack.clear();
        for _ in 0..MOST_PACKETS {
            if !self.round() {
                return;
            }
        }
        panic!("packets come and go without end");
    }

    /// Moves what waits at this moment; false if nothing did.
    pub fn round(&mut self) -> bool {
        let now = self.client_now();
        self.client
            .iface
            .poll(now, &mut self.client.queues, &mut self.client.sockets);
        let mut moved = false;
        while let Some(packet) = self.client.queues.outgoing.pop_front() {
            moved = true;
            self.note_fin(&packet);
            for packet in self.carry(packet, TO_STACK) {
                self.reach_stack(packet);
            }
        }
        moved |= self.take_events();
        moved |= self.take_packets();
        moved |= self.take_events();
        moved || self.release_late()
    }

    fn take_events(&mut self) -> bool {
        let before = self.events.len();
        while let Some(event) = self.stack.poll_event() {
            self.events.push(event);
        }
        self.events.len() > before
    }

    /// Lets what was overtaken arrive when nothing else moves; false if there is nothing.
    fn release_late(&mut self) -> bool {
        let [to_client, to_stack] = std::mem::take(&mut self.late);
        let moved = !to_client.is_empty() || !to_stack.is_empty();
        to_client
            .into_iter()
            .for_each(|packet| self.reach_client(packet));
        to_stack
            .into_iter()
            .for_each(|packet| self.reach_stack(packet));
        self.take_events();
        moved
    }

    fn reach_stack(&mut self, packet: Vec<u8>) {
        self.stack
            .handle_packet(&packet, self.client.checksum(), self.now);
        self.to_stack.push(packet);
    }

    fn reach_client(&mut self, packet: Vec<u8>) {
        self.to_client.push(packet.clone());
        if self.by_hand {
            return;
        }
        let packet = self.with_room_behind_the_end(packet);
        if self.way.is_none() {
            self.client.queues.incoming.push_back(packet);
        } else if !self.stops_a_fin(&packet) {
            self.client.queues.incoming.extend(without_fin(packet));
        }
    }

    fn note_fin(&mut self, packet: &[u8]) {
        if let Some((from, _, segment)) = craft::segment(packet)
            && segment.flags & craft::FIN != 0
        {
            let end = segment.seq.wrapping_add(segment.payload.len() as u32 + 1);
            self.fins.insert(from, end);
        }
    }

    /// A packet that takes the client's FIN and leaves no room says that it does: what a closed window took with the
    /// last byte makes the model client, which is smoltcp, ask for room without end.
    fn with_room_behind_the_end(&self, packet: Vec<u8>) -> Vec<u8> {
        match craft::segment(&packet) {
            Some((_, to, segment))
                if segment.flags & craft::ACK != 0
                    && segment.window == 0
                    && self.fins.get(&to) == Some(&segment.ack) =>
            {
                let (from, to) = craft::ends(&packet);
                Segment {
                    window: 1,
                    ..segment
                }
                .packet(from, to)
            }
            _ => packet,
        }
    }

    /// Whether a packet only repeats that all but the client's FIN has arrived. A kernel then sends the
    /// FIN again; the third of these makes the model client, which is smoltcp, never do so.
    fn stops_a_fin(&self, packet: &[u8]) -> bool {
        craft::segment(packet).is_some_and(|(_, to, segment)| {
            let missing = self.fins.get(&to).map(|end| end.wrapping_sub(1));
            segment.flags == craft::ACK
                && segment.payload.is_empty()
                && missing == Some(segment.ack)
        })
    }

    /// Returns what arrives when a packet sets out.
    fn carry(&mut self, packet: Vec<u8>, to: usize) -> Vec<Vec<u8>> {
        if self.is_lost(&packet) {
            return vec![];
        }
        match self.way.as_mut().map_or(Fate::Arrives, |way| way(&packet)) {
            Fate::Lost => vec![],
            Fate::Late => {
                self.late[to].push(packet);
                vec![]
            }
            Fate::Twice => vec![packet.clone(), packet],
            Fate::Arrives => {
                let mut all = vec![packet];
                all.append(&mut self.late[to]);
                all
            }
        }
    }

    /// Hands the stack's packets to the client.
    pub fn take_packets(&mut self) -> bool {
        let mut moved = 0;
        while let Some(offload) = self.stack.poll_packet(&mut self.buffer, self.now) {
            moved += 1;
            assert!(moved < MOST_PACKETS, "the stack sends without end");
            for packet in wire::complete(self.buffer.packet(), offload) {
                assert!(
                    packet.len() <= 1_500,
                    "{} bytes exceed the MTU",
                    packet.len()
                );
                for packet in self.carry(packet, TO_CLIENT) {
                    self.reach_client(packet);
                }
            }
        }
        moved > 0
    }

    fn is_lost(&mut self, packet: &[u8]) -> bool {
        self.loss.as_mut().is_some_and(|loss| loss(packet))
    }

    /// Gives the stack a packet made by hand.
    pub fn inject(&mut self, packet: &[u8]) {
        self.stack
            .handle_packet(packet, Checksum::Unverified, self.now);
        self.settle();
    }

    /// Lets so much time pass, waking both sides whenever they asked for it.
    pub fn sleep(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let next = self.next_wake().filter(|next| *next < end);
            self.now = next.unwrap_or(end).max(self.now);
            self.stack.handle_timeout(self.now);
            if next.is_none() {
                return self.settle();
            }
        }
    }

    /// Wakes up after so much time in which nobody was awake.
    pub fn wake_after(&mut self, time: Duration) {
        self.now += time;
        self.stack.handle_timeout(self.now);
        self.settle();
    }

    /// Lets time pass until the next thing that somebody waits for.
    pub fn sleep_until_wake(&mut self) {
        let next = self.next_wake().expect("somebody waits for something");
        self.now = self.now.max(next);
        self.stack.handle_timeout(self.now);
        self.settle();
    }

    fn next_wake(&mut self) -> Option<Instant> {
        let now = self.client_now();
        let client = self.client.iface.poll_delay(now, &self.client.sockets);
        let client =
            client.map(|delay| self.now + Duration::from_micros(delay.total_micros().max(1)));
        [client, self.stack.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes the events so far.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Begins to connect and returns the flow that the stack made of it.
    pub fn request(&mut self, to: SocketAddr, buffer: usize) -> (SocketHandle, FlowId, FlowKey) {
        let socket = self.client.connect(to, buffer);
        self.settle();
        let events = self.events();
        let Some(Event::TcpRequested { flow, key }) = events.last().cloned() else {
            panic!("no flow was requested: {events:?}")
        };
        assert_eq!(key.target, to);
        (socket, flow, key)
    }

    /// Connects and accepts.
    pub fn connect(&mut self, to: SocketAddr) -> (SocketHandle, FlowId) {
        self.connect_with(to, 512 * KIB)
    }

    pub fn connect_with(&mut self, to: SocketAddr, buffer: usize) -> (SocketHandle, FlowId) {
        let (socket, flow, _) = self.request(to, buffer);
        self.stack.accept(flow, self.now).unwrap();
        self.settle();
        assert_eq!(self.client.tcp(socket).state(), State::Established);
        (socket, flow)
    }

    /// Reads everything the stack has for a flow now, and how that ended.
    pub fn read_all(&mut self, flow: FlowId) -> (Vec<u8>, Recv) {
        let mut bytes = Vec::new();
        loop {
            match self.stack.recv(flow, 64 * KIB) {
                Recv::Data(data) => bytes.extend_from_slice(&data),
                other => return (bytes, other),
            }
        }
    }

    /// Reads everything the client has now.
    pub fn client_read(&mut self, socket: SocketHandle) -> Vec<u8> {
        let mut bytes = Vec::new();
        let tcp = self.client.tcp(socket);
        while tcp.can_recv() {
            tcp.recv(|piece| {
                bytes.extend_from_slice(piece);
                (piece.len(), ())
            })
            .unwrap();
        }
        bytes
    }
}

/// Returns a segment's data and the FIN behind it as two packets: the model client, which is smoltcp,
/// cuts data at the edge of its window and obeys a FIN behind it all the same.
fn without_fin(packet: Vec<u8>) -> Vec<Vec<u8>> {
    match craft::segment(&packet) {
        Some((_, _, segment)) if segment.flags & FIN != 0 && !segment.payload.is_empty() => {
            let (from, to) = craft::ends(&packet);
            let end = segment.seq.wrapping_add(segment.payload.len() as u32);
            let data = Segment {
                flags: segment.flags & !FIN,
                ..segment.clone()
            };
            let fin = Segment {
                seq: end,
                payload: vec![],
                ..segment
            };
            vec![data.packet(from, to), fin.packet(from, to)]
        }
        _ => vec![packet],
    }
}

/// How often an event for a flow says that it is closed, and whether by a reset.
pub fn closings(events: &[Event], of: FlowId) -> Vec<bool> {
    let closed = events.iter().filter_map(|event| match event {
        Event::TcpClosed { flow, reset } if *flow == of => Some(*reset),
        _ => None,
    });
    closed.collect()
}
