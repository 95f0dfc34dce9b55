//! Random programs from the first SYN to the last byte, against a simple model: every byte arrives once
//! and in order or the flow is reset, each flow is told of once and ended once, and what waits in the
//! stack stays within what its flows may hold.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::{Fate, KIB, World, pattern, target, target6};
use kdev_netstack::{Config, Event, FlowId, Recv, Unreachable};
use proptest::prelude::*;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

/// Flows of one program.
const MOST: usize = 5;
/// A ring of the stack's: little, so that it fills. Windows up to 64 KiB aren't scaled: a scaled one is
/// rounded down, and closes on bytes that are on their way.
const RING: usize = 48 * KIB;
/// A ring of the client's, whose window is scaled: the stack has to bear what is said of it.
/// It is more than any window promises at first: the model client, which is smoltcp, never rests with a FIN
/// behind bytes that fill a window exactly.
const CLIENT_RING: usize = 80 * KIB;
/// A ring that no program fills. The model client, which is smoltcp, loses what is on its way to a window
/// that closes; so where packets get lost, the stack's window never does.
const WIDE_RING: usize = 1024 * KIB;
/// What a ring may hold where all together may hold nothing. Each word of a window may round it up by less
/// than 32 bytes.
const LEAST: usize = 64 * KIB + 120 * 32;
/// What may wait beside the rings: answers that the device takes at the next turn.
const BESIDE: usize = 64 * KIB;

#[derive(Debug, Clone, Copy)]
enum Step {
    Open {
        v6: bool,
    },
    Decide(usize, Decision),
    ClientSends(usize, usize),
    ServerSends(usize, usize),
    ClientReads(usize),
    ServerReads(usize, usize),
    ClientCloses(usize),
    ServerCloses(usize),
    ClientResets(usize),
    ServerResets(usize),
    /// Packets move once, or until none moves any more.
    Move,
    Settle,
    Sleep(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Accept,
    Refuse,
    Unreachable,
}

fn decision() -> impl Strategy<Value = Decision> {
    prop_oneof![
        8 => Just(Decision::Accept),
        1 => Just(Decision::Refuse),
        1 => Just(Decision::Unreachable),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let flow = 0..MOST;
    prop_oneof![
        6 => any::<bool>().prop_map(|v6| Step::Open { v6 }),
        8 => (flow.clone(), decision()).prop_map(|(flow, how)| Step::Decide(flow, how)),
        12 => (flow.clone(), 1..150 * KIB).prop_map(|(flow, size)| Step::ClientSends(flow, size)),
        12 => (flow.clone(), 1..150 * KIB).prop_map(|(flow, size)| Step::ServerSends(flow, size)),
        8 => flow.clone().prop_map(Step::ClientReads),
        8 => (flow.clone(), 1..150 * KIB).prop_map(|(flow, size)| Step::ServerReads(flow, size)),
        2 => flow.clone().prop_map(Step::ClientCloses),
        2 => flow.prop_map(Step::ServerCloses),
        6 => Just(Step::Move),
        10 => Just(Step::Settle),
        4 => (1u64..3_000).prop_map(Step::Sleep),
    ]
}

fn step_or_reset() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => step(),
        1 => (0..MOST).prop_map(Step::ClientResets),
        1 => (0..MOST).prop_map(Step::ServerResets),
    ]
}

/// What the stack's owner knows of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// Its SYN hasn't arrived.
    Nothing,
    Requested(FlowId),
    Declined,
    Accepted(FlowId),
}

/// One flow, and what each side has sent and received.
#[derive(Debug)]
struct Talk {
    socket: SocketHandle,
    port: u16,
    known: Known,
    up_sent: usize,
    up_received: Vec<u8>,
    down_sent: usize,
    down_received: Vec<u8>,
    client_closed: bool,
    server_closed: bool,
    /// Somebody has given it up.
    given_up: bool,
    ended: Option<Recv>,
    /// How often it was said to be over, and whether by a reset.
    closings: Vec<bool>,
}

/// The world with its flows.
struct Model {
    world: World,
    talks: Vec<Talk>,
    /// Both rings of a flow.
    rings: usize,
}

impl Model {
    fn new(segmentation: bool, rx_buffer: usize) -> Self {
        Self::of(Config {
            segmentation,
            rx_buffer,
            tx_buffer: RING,
            ..Config::default()
        })
    }

    /// The rings take much, and hold little.
    fn held(segmentation: bool) -> Self {
        let config = Config {
            segmentation,
            rx_buffer: WIDE_RING,
            tx_buffer: WIDE_RING,
            max_buffered: 0,
            ..Config::default()
        };
        Self {
            rings: 2 * LEAST,
            ..Self::of(config)
        }
    }

    fn of(config: Config) -> Self {
        Self {
            rings: config.rx_buffer + config.tx_buffer,
            world: World::new(config),
            talks: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open { v6 } => self.open(v6),
            Step::Move => drop(self.world.round()),
            Step::Settle => self.world.settle(),
            Step::Sleep(millis) => self.world.sleep(Duration::from_millis(millis)),
            Step::Decide(flow, _)
            | Step::ClientSends(flow, _)
            | Step::ServerSends(flow, _)
            | Step::ClientReads(flow)
            | Step::ServerReads(flow, _)
            | Step::ClientCloses(flow)
            | Step::ServerCloses(flow)
            | Step::ClientResets(flow)
            | Step::ServerResets(flow) => {
                if let Some(talk) = self.talks.get_mut(flow) {
                    talk.step(step, &mut self.world);
                }
            }
        }
        self.look();
    }

    fn open(&mut self, v6: bool) {
        if self.talks.len() == MOST {
            return;
        }
        let to = if v6 { target6(80) } else { target(80) };
        let socket = self.world.client.connect(to, CLIENT_RING);
        let port = self.world.client.tcp(socket).local_endpoint().unwrap().port;
        self.talks.push(Talk {
            socket,
            port,
            known: Known::Nothing,
            up_sent: 0,
            up_received: vec![],
            down_sent: 0,
            down_received: vec![],
            client_closed: false,
            server_closed: false,
            given_up: false,
            ended: None,
            closings: vec![],
        });
    }

    /// Takes what the stack says, and looks at what it holds.
    fn look(&mut self) {
        for event in self.world.events() {
            match event {
                Event::TcpRequested { flow, key } => {
                    let talk = self
                        .talks
                        .iter_mut()
                        .find(|talk| talk.port == key.client.port());
                    let talk = talk.expect("somebody connects");
                    let before = std::mem::replace(&mut talk.known, Known::Requested(flow));
                    // A client that didn't hear that it was refused asks again, and the SYN of one that
                    // has given up may arrive once more.
                    let asks_again = match before {
                        Known::Nothing | Known::Declined => true,
                        Known::Requested(_) => !talk.closings.is_empty(),
                        Known::Accepted(_) => false,
                    };
                    assert!(asks_again, "{before:?}");
                    talk.closings.clear();
                }
                Event::TcpClosed { flow, reset } => {
                    let is_it = |talk: &&mut Talk| matches!(talk.known, Known::Requested(id) | Known::Accepted(id) if id == flow);
                    let talk = self.talks.iter_mut().find(is_it).expect("it was requested");
                    talk.closings.push(reset);
                }
                _ => {}
            }
        }
        for talk in &mut self.talks {
            // The model client forgets what was not read when its TIME-WAIT is over.
            if self.world.client.tcp(talk.socket).state() == State::TimeWait {
                talk.client_reads(&mut self.world);
            }
        }
        let stats = self.world.stack.stats();
        assert!(stats.flows <= self.talks.len());
        let most = stats.flows * self.rings + BESIDE;
        assert!(stats.buffered <= most, "{} of {most} bytes", stats.buffered);
    }

    /// Decides, reads and closes until every flow has ended, within a bounded time.
    fn finish(&mut self) {
        for _ in 0..600 {
            self.step(Step::Settle);
            for flow in 0..self.talks.len() {
                self.step(Step::Decide(flow, Decision::Accept));
                self.step(Step::ServerCloses(flow));
                // Closed before it is open, it never would be.
                if self.world.client.tcp(self.talks[flow].socket).state() != State::SynSent {
                    self.step(Step::ClientCloses(flow));
                }
            }
            let Self { world, talks, .. } = self;
            // All are asked, as that reads what there is.
            let finished = talks.iter_mut().map(|talk| talk.is_finished(world));
            if finished.fold(true, |all, one| all & one) {
                return;
            }
            self.step(Step::Sleep(500));
        }
        let states = self.talks.iter().map(|talk| {
            let state = self
                .world
                .client
                .sockets
                .get::<smoltcp::socket::tcp::Socket<'_>>(talk.socket)
                .state();
            (state, &talk.known, &talk.ended, talk.given_up)
        });
        panic!("no end: {:?}", states.collect::<Vec<_>>());
    }

    fn judge(mut self) {
        self.step(Step::Sleep(120_000));
        for talk in &self.talks {
            talk.judge();
        }
        let stats = self.world.stack.stats();
        assert_eq!((stats.flows, stats.pending, stats.buffered), (0, 0, 0));
        assert!(stats.pooled_buffers <= self.talks.len());
        assert_eq!(self.world.stack.poll_timeout(), None);
    }
}

impl Talk {
    fn flow(&self) -> Option<FlowId> {
        match self.known {
            Known::Accepted(flow) => Some(flow),
            _ => None,
        }
    }

    fn step(&mut self, step: Step, world: &mut World) {
        match (step, self.flow()) {
            (Step::Decide(_, decision), _) => self.decide(decision, world),
            (Step::ClientSends(_, length), _)
                if !self.client_closed && self.up_sent + CLIENT_RING < WIDE_RING =>
            {
                let tcp = world.client.tcp(self.socket);
                let sent = tcp.send_slice(&pattern(self.up_sent, length));
                self.up_sent += sent.unwrap_or(0);
            }
            (Step::ServerSends(_, length), Some(flow)) if !self.server_closed => {
                let sent = world.stack.send(flow, &pattern(self.down_sent, length));
                self.down_sent += sent;
            }
            (Step::ClientReads(_), _) => self.client_reads(world),
            (Step::ServerReads(_, most), Some(flow)) => self.server_reads(flow, most, world),
            (Step::ClientCloses(_), _) => {
                let tcp = world.client.tcp(self.socket);
                self.given_up |= tcp.state() == State::SynSent;
                self.client_closed = true;
                tcp.close();
            }
            (Step::ServerCloses(_), Some(flow)) => {
                self.server_closed = true;
                world.stack.shutdown(flow);
            }
            (Step::ClientResets(_), _) => {
                (self.given_up, self.client_closed) = (true, true);
                world.client.tcp(self.socket).abort();
            }
            (Step::ServerResets(_), Some(flow)) => {
                (self.given_up, self.server_closed) = (true, true);
                world.stack.abort(flow);
            }
            _ => {}
        }
    }

    fn decide(&mut self, decision: Decision, world: &mut World) {
        let Known::Requested(flow) = self.known else {
            return;
        };
        if !self.closings.is_empty() {
            // The client gave up before.
            self.known = Known::Declined;
            assert!(world.stack.accept(flow, world.now()).is_err());
            return;
        }
        self.known = Known::Declined;
        match decision {
            Decision::Accept => {
                world.stack.accept(flow, world.now()).unwrap();
                self.known = Known::Accepted(flow);
            }
            Decision::Refuse => world.stack.refuse(flow),
            Decision::Unreachable => {
                world.stack.unreachable(flow, Unreachable::Host);
                // The model client doesn't listen to ICMP.
                world.client.tcp(self.socket).abort();
            }
        }
    }

    fn client_reads(&mut self, world: &mut World) {
        let bytes = world.client_read(self.socket);
        self.down_received.extend(bytes);
    }

    fn server_reads(&mut self, flow: FlowId, most: usize, world: &mut World) {
        match world.stack.recv(flow, most) {
            Recv::Data(bytes) => {
                assert!((1..=most).contains(&bytes.len()));
                assert_eq!(self.ended, None, "bytes after the end");
                self.up_received.extend_from_slice(&bytes);
            }
            Recv::Empty => assert_eq!(self.ended, None),
            end => {
                self.ended.get_or_insert(end);
            }
        }
    }

    /// Reads what there is; true if nothing is left to say.
    fn is_finished(&mut self, world: &mut World) -> bool {
        self.client_reads(world);
        let state = world.client.tcp(self.socket).state();
        let client_is = matches!(state, State::Closed | State::TimeWait);
        let Some(flow) = self.flow() else {
            return client_is && !matches!(self.known, Known::Requested(_));
        };
        while self.ended.is_none() {
            let before = self.up_received.len();
            self.server_reads(flow, 64 * KIB, world);
            if self.up_received.len() == before {
                break;
            }
        }
        client_is && self.ended.is_some()
    }

    fn judge(&self) {
        let (up, down) = (pattern(0, self.up_sent), pattern(0, self.down_sent));
        assert!(up.starts_with(&self.up_received), "bytes up differ");
        assert!(down.starts_with(&self.down_received), "bytes down differ");
        match self.known {
            Known::Accepted(_) => {
                assert_eq!(self.closings.len(), 1, "{self:?}");
                let in_order = !self.closings[0] && self.ended == Some(Recv::End);
                assert!(in_order || self.given_up, "nobody gave it up: {self:?}");
                if !self.given_up {
                    assert!(up == self.up_received, "bytes up are missing");
                    assert!(down == self.down_received, "bytes down are missing");
                }
            }
            _ => {
                assert!(self.up_received.is_empty() && self.down_received.is_empty());
                assert!(self.closings.len() <= 1);
            }
        }
    }
}

/// How much trouble there is on the way, in percent of the packets.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    lost: u32,
    twice: u32,
    late: u32,
}

fn trouble() -> impl Strategy<Value = Trouble> {
    (0u32..6, 0u32..10, 0u32..10).prop_map(|(lost, twice, late)| Trouble { lost, twice, late })
}

impl Trouble {
    fn way(self, mut seed: u32) -> common::Way {
        Box::new(move |_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let roll = (seed >> 16) % 100;
            let Self { lost, twice, late } = self;
            match roll {
                _ if roll < lost => Fate::Lost,
                _ if roll < lost + twice => Fate::Twice,
                _ if roll < lost + twice + late => Fate::Late,
                _ => Fate::Arrives,
            }
        })
    }
}

fn run(steps: &[Step], segmentation: bool, trouble: Option<(Trouble, u32)>) {
    let rx_buffer = if trouble.is_some() { WIDE_RING } else { RING };
    let mut model = Model::new(segmentation, rx_buffer);
    model.world.way = trouble.map(|(trouble, seed)| trouble.way(seed));
    model.run(steps);
}

impl Model {
    fn run(mut self, steps: &[Step]) {
        for step in steps {
            self.step(*step);
        }
        self.finish();
        self.world.way = None;
        self.judge();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn from_the_first_syn_on_every_byte_arrives_once_and_in_order(
        steps in prop::collection::vec(step(), 1..120),
        segmentation: bool,
    ) {
        run(&steps, segmentation, None);
    }

    #[test]
    fn held_to_little_no_ring_holds_more_and_every_byte_arrives(
        steps in prop::collection::vec(step(), 1..120),
        segmentation: bool,
    ) {
        Model::held(segmentation).run(&steps);
    }

    #[test]
    fn whoever_gives_a_flow_up_and_whenever_it_ends_once_and_alone(
        steps in prop::collection::vec(step_or_reset(), 1..120),
        segmentation: bool,
    ) {
        run(&steps, segmentation, None);
    }

    #[test]
    fn loss_repetition_and_another_order_change_nothing(
        steps in prop::collection::vec(step(), 1..80),
        segmentation: bool,
        trouble in trouble(),
        seed: u32,
    ) {
        run(&steps, segmentation, Some((trouble, seed)));
    }
}
