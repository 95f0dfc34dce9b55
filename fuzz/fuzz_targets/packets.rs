//! What a device hands over: packets of any kind in whatever order against one stack, whose owner does
//! with the flows whatever comes to its mind.
#![no_main]

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use kdev_host::device::VnetHeader;
use kdev_netstack::{
    Checksum, Config, Event, FlowId, MAX_DATAGRAM, MAX_ECHO, PacketBuffer, Recv, Stack, Unreachable,
};
use libfuzzer_sys::fuzz_target;

#[path = "packets/craft.rs"]
mod craft;
#[path = "packets/judge.rs"]
mod judge;
#[path = "../../crates/netstack/tests/common/wire.rs"]
mod wire;

use craft::{Endpoints, Piece, Segment};

const MTU: usize = 1_500;
const RING: usize = 16 << 10;
const MAX_FLOWS: usize = 8;
const MAX_PENDING: usize = 4;

/// What may wait in a stack: packets and datagrams of 4 MiB each, 64 packets in fragments, a SYN of each
/// flow or both its rings.
const MOST_BUFFERED: usize =
    (4 << 20) + (4 << 20) + 64 * (64 << 10) + MAX_FLOWS * 2 * RING + (64 << 10);

/// Everything happens at one moment and after it.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
static BYTES: [u8; 65_535] = [0x5a; 65_535];

thread_local! {
    static BUFFER: RefCell<PacketBuffer> = RefCell::new(PacketBuffer::new(VnetHeader::LEN));
}

fuzz_target!(|data: &[u8]| {
    if let Some(header) = data.first_chunk::<{ VnetHeader::LEN }>() {
        assert_eq!(&VnetHeader::parse(header).emit(), header);
    }
    let mut steps = Unstructured::new(data);
    let mut owner = Owner::new(steps.arbitrary().unwrap_or_default());
    while let Ok(step) = Step::arbitrary(&mut steps) {
        owner.step(step);
        if steps.is_empty() {
            break;
        }
    }
    owner.finish();
});

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    /// A packet as it comes.
    Packet(State, &'a [u8]),
    /// The same with what makes others look at it no further put right.
    Mended(State, &'a [u8]),
    Segment(State, Segment),
    Piece(Piece),
    Act(u8, Action),
    Datagram(Endpoints, u16),
    Echo(Endpoints, u16),
    Unreachable(Endpoints),
    Wait(u16),
    Poll,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum State {
    Verified,
    Partial,
    Unverified,
}

impl From<State> for Checksum {
    fn from(state: State) -> Self {
        match state {
            State::Verified => Self::Verified,
            State::Partial => Self::Partial,
            State::Unverified => Self::Unverified,
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Action {
    Accept,
    Refuse,
    Unreachable,
    Recv(u16),
    Send(u16),
    Shutdown,
    Abort,
}

/// The stack's owner, with what it was told of each flow.
struct Owner {
    stack: Stack,
    now: Instant,
    flows: Vec<FlowId>,
    told: HashMap<FlowId, Told>,
    talk: craft::Talk,
}

#[derive(Default)]
struct Told {
    accepted: bool,
    closed: bool,
}

impl Owner {
    fn new(segmentation: bool) -> Self {
        let config = Config {
            mtu: MTU,
            rx_buffer: RING,
            tx_buffer: RING,
            max_flows: MAX_FLOWS,
            max_pending: MAX_PENDING,
            segmentation,
            seed: Some(7),
            ..Config::default()
        };
        Self {
            stack: Stack::new(config, *START),
            now: *START,
            flows: Vec::new(),
            told: HashMap::new(),
            talk: craft::Talk::default(),
        }
    }

    fn step(&mut self, step: Step<'_>) {
        match step {
            Step::Packet(state, bytes) => self.take(bytes, state.into()),
            Step::Mended(state, bytes) => {
                let mut bytes = bytes.to_vec();
                craft::mend(&mut bytes);
                self.take(&bytes, state.into());
            }
            Step::Segment(state, segment) => {
                let packet = self.talk.packet(&segment);
                self.take(&packet, state.into());
            }
            Step::Piece(piece) => self.take(&piece.packet(), Checksum::Unverified),
            Step::Act(flow, action) => self.act(flow, action),
            Step::Datagram(ends, length) => {
                let (client, target) = ends.addresses();
                let payload = &BYTES[..usize::from(length)];
                let sent = self.stack.send_datagram(target, client, payload);
                assert!(sent.is_ok() || payload.len() > MAX_DATAGRAM || self.is_full());
            }
            Step::Echo(ends, length) => {
                let (client, target) = ends.addresses();
                let mut message = BYTES[..usize::from(length)].to_vec();
                if let Some(kind) = message.get_mut(..2) {
                    kind.copy_from_slice(&[if client.is_ipv4() { 0 } else { 129 }, 0]);
                }
                let sent = self
                    .stack
                    .send_echo_reply(target.ip(), client.ip(), 7, &message);
                let is_one = (8..=MAX_ECHO).contains(&message.len());
                assert!(sent.is_ok() || !is_one || self.is_full());
            }
            Step::Unreachable(ends) => {
                let (client, target) = ends.addresses();
                self.stack
                    .datagram_unreachable(client, target, Unreachable::Port);
            }
            Step::Wait(millis) => {
                self.now += Duration::from_millis(millis.into());
                self.stack.handle_timeout(self.now);
            }
            Step::Poll => self.poll(),
        }
        self.look();
    }

    /// Whether packets wait for the device that may leave no room for another.
    fn is_full(&self) -> bool {
        self.stack.stats().buffered > (4 << 20) - (64 << 10)
    }

    fn take(&mut self, packet: &[u8], checksum: Checksum) {
        self.stack.handle_packet(packet, checksum, self.now);
    }

    fn act(&mut self, flow: u8, action: Action) {
        let Some(&id) = self.flows.get(usize::from(flow) % self.flows.len().max(1)) else {
            return;
        };
        match action {
            Action::Accept => {
                let accepted = self.stack.accept(id, self.now).is_ok();
                self.told.entry(id).or_default().accepted |= accepted;
            }
            Action::Refuse => self.stack.refuse(id),
            Action::Unreachable => self.stack.unreachable(id, Unreachable::Host),
            Action::Recv(most) => {
                if let Recv::Data(bytes) = self.stack.recv(id, most.into()) {
                    assert!((1..=usize::from(most)).contains(&bytes.len()));
                }
            }
            Action::Send(length) => {
                let room = self.stack.send_room(id);
                let sent = self.stack.send(id, &BYTES[..usize::from(length)]);
                assert_eq!(sent, room.min(length.into()));
            }
            Action::Shutdown => self.stack.shutdown(id),
            Action::Abort => self.stack.abort(id),
        }
    }

    /// Takes what the stack says, and judges it.
    fn look(&mut self) {
        while let Some(event) = self.stack.poll_event() {
            match event {
                Event::TcpRequested { flow, key } => {
                    assert_ne!(key.client, key.target);
                    let before = self.told.insert(flow, Told::default());
                    assert!(before.is_none(), "a name is given once");
                    self.flows.push(flow);
                }
                Event::TcpReadable { flow } | Event::TcpWritable { flow } => {
                    assert!(self.told[&flow].accepted);
                }
                Event::TcpClosed { flow, .. } => {
                    let told = self.told.get_mut(&flow).expect("it was requested");
                    assert!(!told.closed, "an end is told once");
                    told.closed = true;
                }
                Event::Reassembled { packet } => {
                    assert!(packet.len() <= 40 + 65_535);
                    self.take(&packet, Checksum::Unverified);
                }
                Event::Datagram { payload, .. } => assert!(payload.len() <= 65_527),
                Event::Echo { message, .. } => assert!((8..=65_535).contains(&message.len())),
            }
        }
        let stats = self.stack.stats();
        assert!(stats.flows <= MAX_FLOWS && stats.pending <= MAX_PENDING);
        assert!(stats.pooled_buffers <= 64);
        assert!(stats.buffered <= MOST_BUFFERED, "{}", stats.buffered);
    }

    /// Takes all packets, each of which has to be one that a kernel takes.
    fn poll(&mut self) {
        BUFFER.with_borrow_mut(|buffer| {
            while let Some(offload) = self.stack.poll_packet(buffer, self.now) {
                for packet in wire::complete(buffer.packet(), offload) {
                    assert!(packet.len() <= MTU);
                    judge::packet(&packet);
                    self.talk.hear(&packet);
                }
            }
        });
    }

    /// Whatever has happened: all can be ended, nothing is left, and the stack serves the next client.
    fn finish(mut self) {
        for id in std::mem::take(&mut self.flows) {
            self.stack.abort(id);
        }
        self.look();
        self.poll();
        self.now += Duration::from_secs(31);
        self.stack.handle_timeout(self.now);
        let stats = self.stack.stats();
        assert_eq!((stats.flows, stats.pending, stats.buffered), (0, 0, 0));
        let accepted = self.told.values().filter(|told| told.accepted);
        assert!(
            accepted.into_iter().all(|told| told.closed),
            "each end is told"
        );
        for v6 in [false, true] {
            self.serves(v6);
        }
    }

    fn serves(&mut self, v6: bool) {
        let (client, target): (SocketAddr, SocketAddr) = Endpoints::last(v6).addresses();
        let syn = craft::tcp(client, target, 1_000, 0, craft::SYN, 60_000, &[]);
        self.take(&syn, Checksum::Unverified);
        let flow = self.requested();
        self.stack
            .accept(flow, self.now)
            .expect("it was requested just now");
        self.told.entry(flow).or_default().accepted = true;
        self.poll();
        let ack = self.talk.heard_from(v6).expect("a SYN-ACK");
        let hello = craft::tcp(client, target, 1_001, ack, craft::ACK, 60_000, b"hello");
        self.take(&hello, Checksum::Unverified);
        let received = self.stack.recv(flow, 64);
        assert_eq!(received, Recv::Data(b"hello".as_slice().into()));
        self.stack.abort(flow);
        self.look();
    }

    fn requested(&mut self) -> FlowId {
        let known = self.flows.len();
        self.look();
        assert_eq!(self.flows.len(), known + 1, "a new client is heard");
        self.flows[known]
    }
}
