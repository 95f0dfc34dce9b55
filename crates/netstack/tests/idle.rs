//! What many flows cost that do nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::craft::{self, ACK, SYN, Segment};
use common::{KIB, MIB, World, pattern, target};
use kdev_netstack::{Config, Event, FlowId};

/// Held by every test here: they measure the memory of the whole process.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The resident memory of this process in bytes.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 4
        * KIB
}

/// Opens a flow by hand, so that the model client's own buffers do not count, and returns it with
/// the number of the first byte it would send.
fn open(world: &mut World, port: u16) -> (FlowId, u32) {
    let (from, to) = (craft::client(port), target(80));
    let syn = Segment {
        seq: 1_000,
        flags: SYN,
        ..Segment::default()
    };
    world.inject(&syn.packet(from, to));
    let Some(Event::TcpRequested { flow, .. }) = world.events().pop() else {
        panic!()
    };
    world.stack.accept(flow, world.now()).unwrap();
    world.settle();
    let ack = craft::tcp(&world.to_client[0]).seq.wrapping_add(1);
    world.inject(
        &Segment {
            seq: 1_001,
            ack,
            flags: ACK,
            ..syn.clone()
        }
        .packet(from, to),
    );
    let hello = Segment {
        seq: 1_001,
        ack,
        flags: ACK,
        payload: b"hello".to_vec(),
        ..syn
    };
    world.inject(&hello.packet(from, to));
    assert_eq!(world.read_all(flow).0, b"hello");
    world.settle();
    (flow, ack)
}

#[test]
#[cfg(target_os = "linux")]
fn five_thousand_idle_flows_cost_little_and_slow_nobody_down() {
    let _alone = alone();
    let mut world = World::new(Config {
        segmentation: false,
        ..Config::default()
    });
    world.by_hand = true;
    let before = resident();
    for port in 0..5_000 {
        open(&mut world, 10_000 + port);
    }
    let grown = resident().saturating_sub(before);
    assert_eq!(world.stack.stats().flows, 5_000);
    assert!(
        grown < 100 * MIB,
        "5,000 idle flows made {} MiB resident",
        grown / MIB
    );

    // A flow that has said only a few bytes has still written to a page of its own.
    world.sleep(Duration::from_secs(30));
    let idle = resident().saturating_sub(before);
    assert!(
        idle + 15 * MIB < grown,
        "{} MiB of {} MiB are still resident",
        idle / MIB,
        grown / MIB
    );

    // Once those are given back, each flow is looked at every few minutes.
    let wake = world.stack.poll_timeout().unwrap();
    assert!(
        wake > world.now() + Duration::from_secs(60),
        "somebody is awake"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_flow_that_fell_idle_gives_its_memory_back_and_goes_on() {
    let _alone = alone();
    let mut world = World::offloading();
    let (socket, flow) = world.connect_with(target(80), 64 * KIB);
    let mut flows = vec![(socket, flow)];
    for _ in 0..15 {
        flows.push(world.connect_with(target(80), 64 * KIB));
    }
    let before = resident();
    for (socket, flow) in &flows {
        let mut received = 0;
        while received < 2 * MIB {
            world
                .client
                .tcp(*socket)
                .send_slice(&pattern(received, 32 * KIB))
                .unwrap();
            world.settle();
            received += world.read_all(*flow).0.len();
        }
    }
    let busy = resident().saturating_sub(before);
    assert!(
        busy > 14 * MIB,
        "{} KiB: the test shows nothing",
        busy / KIB
    );
    world.sleep(Duration::from_secs(30));
    let idle = resident().saturating_sub(before);
    assert!(
        idle < busy / 2,
        "{} MiB of {} MiB are still resident",
        idle / MIB,
        busy / MIB
    );

    for (socket, flow) in &flows {
        world
            .client
            .tcp(*socket)
            .send_slice(&pattern(7, 32 * KIB))
            .unwrap();
        world.settle();
        assert!(
            world.read_all(*flow).0 == pattern(7, 32 * KIB),
            "the bytes differ"
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn many_that_fall_idle_one_after_the_other_never_have_much_memory() {
    let _alone = alone();
    let mut world = World::offloading();
    let before = resident();
    let mut most = 0;
    for _ in 0..200 {
        let (socket, flow) = world.connect_with(target(80), 64 * KIB);
        let mut received = 0;
        while received < 2 * MIB {
            let sent = pattern(received, 32 * KIB);
            world.client.tcp(socket).send_slice(&sent).unwrap();
            world.settle();
            received += world.read_all(flow).0.len();
        }
        world.sleep(Duration::from_millis(10));
        most = most.max(resident().saturating_sub(before));
    }
    // Together they have been through 200 MiB of rings. The client's own are here as well: 25 MiB.
    assert!(most < 110 * MIB, "{} MiB were resident", most / MIB);
}

#[test]
fn bytes_that_wait_behind_a_gap_survive_a_long_silence() {
    let _alone = alone();
    let mut world = World::plain();
    world.by_hand = true;
    let (flow, ack) = open(&mut world, 5_000);
    let (from, to) = (craft::client(5_000), target(80));
    let (step, count) = (15 * KIB, 10);
    let all = pattern(0, count * step);
    let piece = |index: usize| {
        let payload = all[index * step..(index + 1) * step].to_vec();
        let seq = 1_006 + (index * step) as u32;
        Segment {
            seq,
            ack,
            flags: ACK,
            payload,
            ..Segment::default()
        }
        .packet(from, to)
    };
    // Enough goes through to make the flow worth trimming, then one piece is missing.
    let mut received = Vec::new();
    for index in 0..=6 {
        world.inject(&piece(index));
        received.extend(world.read_all(flow).0);
        world.settle();
    }
    world.inject(&piece(8));
    world.inject(&piece(9));
    world.sleep(Duration::from_secs(60));
    world.inject(&piece(7));
    received.extend(world.read_all(flow).0);
    assert!(received == all, "the bytes differ");
}

#[test]
fn buffers_of_ended_flows_serve_the_next_ones() {
    let _alone = alone();
    let mut world = World::plain();
    for round in 0..200 {
        let (socket, flow) = world.connect_with(target(80), 4 * KIB);
        world
            .client
            .tcp(socket)
            .send_slice(&pattern(round, KIB))
            .unwrap();
        world.settle();
        assert_eq!(world.read_all(flow).0, pattern(round, KIB));
        world.stack.abort(flow);
        world.settle();
        world.client.sockets.remove(socket);
        assert_eq!(world.stack.stats().pooled_buffers, 1);
    }
    assert_eq!(world.stack.stats().accepted, 200);
}
