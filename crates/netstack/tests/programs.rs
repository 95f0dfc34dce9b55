//! Random programs against a simple model: every byte once, in order, and every flow ends once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::{KIB, World, closings, pattern, target, target6};
use kdev_netstack::{Config, Event, FlowId, Recv};
use proptest::prelude::*;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

const FLOWS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    ClientSends(usize),
    ServerSends(usize),
    ClientReads,
    ServerReads(usize),
    ClientCloses,
    ServerCloses,
    ClientResets,
    ServerResets,
    Settle,
    Sleep(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![20 => step_of_data(), 1 => Just(Step::ClientCloses), 1 => Just(Step::ServerCloses)]
}

fn step_of_data() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1usize..200 * KIB).prop_map(Step::ClientSends),
        6 => (1usize..200 * KIB).prop_map(Step::ServerSends),
        3 => Just(Step::ClientReads),
        3 => (1usize..300 * KIB).prop_map(Step::ServerReads),
        6 => Just(Step::Settle),
        2 => (1u64..3_000).prop_map(Step::Sleep),
    ]
}

fn step_or_reset() -> impl Strategy<Value = Step> {
    prop_oneof![20 => step(), 1 => Just(Step::ClientResets), 1 => Just(Step::ServerResets)]
}

/// One flow, and what each side has sent and received.
struct Talk {
    socket: SocketHandle,
    flow: FlowId,
    up_sent: usize,
    up_received: Vec<u8>,
    down_sent: usize,
    down_received: Vec<u8>,
    client_closed: bool,
    server_closed: bool,
    reset: bool,
    ended: Option<Recv>,
}

impl Talk {
    fn step(&mut self, step: &Step, world: &mut World) {
        match *step {
            Step::ClientSends(length) if !self.client_closed => {
                let chunk = pattern(self.up_sent, length);
                self.up_sent += world
                    .client
                    .tcp(self.socket)
                    .send_slice(&chunk)
                    .unwrap_or(0);
            }
            Step::ServerSends(length) if !self.server_closed => {
                self.down_sent += world
                    .stack
                    .send(self.flow, &pattern(self.down_sent, length));
            }
            Step::ClientReads => self.client_reads(world),
            Step::ServerReads(max) => self.server_reads(max, world),
            Step::ClientCloses => {
                self.client_closed = true;
                world.client.tcp(self.socket).close();
            }
            Step::ServerCloses => {
                self.server_closed = true;
                world.stack.shutdown(self.flow);
            }
            Step::ClientResets => {
                self.reset = true;
                self.client_closed = true;
                world.client.tcp(self.socket).abort();
            }
            Step::ServerResets => {
                self.reset = true;
                self.server_closed = true;
                world.stack.abort(self.flow);
            }
            Step::Settle => world.settle(),
            Step::Sleep(millis) => world.sleep(Duration::from_millis(millis)),
            Step::ClientSends(_) | Step::ServerSends(_) => {}
        }
    }

    fn client_reads(&mut self, world: &mut World) {
        let bytes = world.client_read(self.socket);
        self.down_received.extend(bytes);
    }

    fn server_reads(&mut self, max: usize, world: &mut World) {
        match world.stack.recv(self.flow, max) {
            Recv::Data(bytes) => {
                assert!(bytes.len() <= max && !bytes.is_empty());
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
        loop {
            let before = self.up_received.len();
            if self.ended.is_none() {
                self.server_reads(64 * KIB, world);
            }
            if self.up_received.len() == before {
                break;
            }
        }
        self.client_reads(world);
        let state = world.client.tcp(self.socket).state();
        matches!(state, State::Closed | State::TimeWait) && self.ended.is_some()
    }
}

/// Reads until everything sent has arrived, within a bounded time.
fn drain(talks: &mut [Talk], world: &mut World) {
    for _ in 0..1_200 {
        world.settle();
        let mut missing = 0;
        for talk in talks.iter_mut() {
            talk.is_finished(world);
            missing += talk.up_sent - talk.up_received.len();
            missing += talk.down_sent - talk.down_received.len();
        }
        if missing == 0 {
            return;
        }
        world.sleep(Duration::from_millis(500));
    }
    panic!("bytes are missing");
}

/// Reads and closes until every flow has ended, within a bounded time.
fn finish(talks: &mut [Talk], world: &mut World) {
    for talk in talks.iter_mut() {
        talk.step(&Step::ClientCloses, world);
        talk.step(&Step::ServerCloses, world);
    }
    for _ in 0..1_200 {
        world.settle();
        let mut finished = 0;
        for talk in talks.iter_mut() {
            finished += usize::from(talk.is_finished(world));
        }
        if finished == talks.len() {
            return;
        }
        world.sleep(Duration::from_millis(500));
    }
    let states: Vec<_> = talks
        .iter()
        .map(|talk| (world.client.tcp(talk.socket).state(), talk.ended.clone()))
        .collect();
    panic!("no end: {states:?}");
}

fn run(steps: &[(usize, Step)], segmentation: bool, loss: u32) {
    let mut world = World::new(Config {
        segmentation,
        ..Config::default()
    });
    let mut talks: Vec<Talk> = (0..FLOWS)
        .map(|index| {
            let to = if index == 1 { target6(80) } else { target(80) };
            let (socket, flow) = world.connect_with(to, 256 * KIB);
            Talk {
                socket,
                flow,
                up_sent: 0,
                up_received: vec![],
                down_sent: 0,
                down_received: vec![],
                client_closed: false,
                server_closed: false,
                reset: false,
                ended: None,
            }
        })
        .collect();
    let mut events = world.events();
    let mut seed = 1u32;
    world.loss = Some(Box::new(move |_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % 100 < loss
    }));
    for (index, step) in steps {
        talks[*index].step(step, &mut world);
        for talk in &mut talks {
            // The model client forgets what was not read when its TIME-WAIT is over.
            if world.client.tcp(talk.socket).state() == State::TimeWait {
                talk.client_reads(&mut world);
            }
        }
    }
    if loss > 0 {
        // Losing FINs is tested elsewhere: the model client has its own faults there.
        drain(&mut talks, &mut world);
        world.loss = None;
    }
    finish(&mut talks, &mut world);
    world.sleep(Duration::from_secs(120));
    events.extend(world.events());
    for talk in &talks {
        let up = pattern(0, talk.up_sent);
        let down = pattern(0, talk.down_sent);
        let closings = closings(&events, talk.flow);
        assert_eq!(closings.len(), 1, "{closings:?}");
        if talk.reset {
            assert!(up.starts_with(&talk.up_received), "bytes up differ");
            assert!(down.starts_with(&talk.down_received), "bytes down differ");
        } else {
            assert!(up == talk.up_received, "bytes up differ");
            assert!(down == talk.down_received, "bytes down differ");
            assert_eq!((closings[0], &talk.ended), (false, &Some(Recv::End)));
        }
    }
    let requested = events
        .iter()
        .filter(|event| matches!(event, Event::TcpRequested { .. }));
    assert_eq!(requested.count(), 0);
    assert_eq!(world.stack.stats().flows, 0);
    assert_eq!(world.stack.stats().pooled_buffers, FLOWS);
    assert_eq!(world.stack.poll_timeout(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn every_byte_arrives_once_and_in_order(
        steps in prop::collection::vec((0..FLOWS, step()), 1..60),
        segmentation: bool,
    ) {
        run(&steps, segmentation, 0);
    }

    #[test]
    fn every_byte_arrives_once_and_in_order_on_a_lossy_way(
        steps in prop::collection::vec((0..FLOWS, step_of_data()), 1..40),
        segmentation: bool,
        loss in 1u32..8,
    ) {
        run(&steps, segmentation, loss);
    }

    #[test]
    fn a_reset_at_any_time_ends_a_flow_once(
        steps in prop::collection::vec((0..FLOWS, step_or_reset()), 1..60),
        segmentation: bool,
    ) {
        run(&steps, segmentation, 0);
    }
}
