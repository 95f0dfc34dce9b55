//! Bytes both ways: all of them, once, in order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::{KIB, MIB, World, pattern, target, target6};
use kdev_netstack::{Config, Event, FlowId, Recv};
use smoltcp::iface::SocketHandle;

const TOTAL: usize = 10 * MIB;

fn upload(world: &mut World, socket: SocketHandle, flow: FlowId, total: usize) {
    let mut sent = 0;
    let mut received = Vec::with_capacity(total);
    while received.len() < total {
        if sent < total {
            let chunk = pattern(sent, (total - sent).min(256 * KIB));
            sent += world.client.tcp(socket).send_slice(&chunk).unwrap();
        }
        world.settle();
        let (bytes, end) = world.read_all(flow);
        assert_eq!(end, Recv::Empty);
        let stuck = bytes.is_empty();
        received.extend_from_slice(&bytes);
        if stuck && received.len() < total {
            world.sleep_until_wake();
        }
    }
    assert!(received == pattern(0, total), "the bytes differ");
}

fn download(world: &mut World, socket: SocketHandle, flow: FlowId, total: usize) {
    let mut sent = 0;
    let mut received = Vec::with_capacity(total);
    while received.len() < total {
        if sent < total {
            sent += world
                .stack
                .send(flow, &pattern(sent, (total - sent).min(256 * KIB)));
        }
        world.settle();
        let bytes = world.client_read(socket);
        let stuck = bytes.is_empty();
        received.extend_from_slice(&bytes);
        if stuck && received.len() < total {
            world.sleep_until_wake();
        }
    }
    assert!(received == pattern(0, total), "the bytes differ");
}

fn worlds() -> [(World, std::net::SocketAddr); 4] {
    [
        (World::plain(), target(80)),
        (World::plain(), target6(80)),
        (World::offloading(), target(80)),
        (World::offloading(), target6(80)),
    ]
}

#[test]
fn ten_mebibytes_go_up() {
    for (mut world, to) in worlds() {
        let (socket, flow) = world.connect(to);
        let before = world.stack.stats();
        upload(&mut world, socket, flow, TOTAL);
        let packets = world.stack.stats().packets_in - before.packets_in;
        if world.client.queues.offload {
            assert!(
                packets < 400,
                "{packets} packets came in: they were not large"
            );
        }
    }
}

#[test]
fn ten_mebibytes_go_down() {
    for (mut world, to) in worlds() {
        let (socket, flow) = world.connect(to);
        let before = world.stack.stats();
        download(&mut world, socket, flow, TOTAL);
        let packets = world.stack.stats().packets_out - before.packets_out;
        if world.client.queues.offload {
            assert!(
                packets < 400,
                "{packets} packets went out: they were not large"
            );
        }
    }
}

#[test]
fn a_batch_of_segments_is_acknowledged_once() {
    let mut world = World::plain();
    let (socket, flow) = world.connect(target(80));
    // What the window of a SYN-ACK lets the client send at once.
    let batch = pattern(0, 60 * KIB);
    world.client.tcp(socket).send_slice(&batch).unwrap();
    let before = world.stack.stats();
    world.round();
    let after = world.stack.stats();
    assert!(after.packets_in - before.packets_in >= 40);
    assert_eq!(after.packets_out - before.packets_out, 1);
    assert!(world.read_all(flow).0 == batch);
}

#[test]
fn every_byte_arrives_once_and_in_order_although_packets_are_lost() {
    for segmentation in [false, true] {
        let mut world = World::new(Config {
            segmentation,
            ..Config::default()
        });
        let (socket, flow) = world.connect(target(80));
        let mut seed = 1u32;
        world.loss = Some(Box::new(move |_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 24 < 5
        }));
        upload(&mut world, socket, flow, MIB);
        download(&mut world, socket, flow, MIB);
    }
}

#[test]
fn a_window_that_was_held_back_opens_as_soon_as_there_is_room() {
    for segmentation in [false, true] {
        let mut world = World::new(Config {
            segmentation,
            max_buffered: 0,
            ..Config::default()
        });
        let (socket, flow) = world.connect_with(target(80), MIB);
        let sent = world.client.tcp(socket).send_slice(&pattern(0, MIB));
        assert_eq!(sent, Ok(MIB));
        let (mut received, begin) = (Vec::new(), world.now());
        while received.len() < MIB {
            world.settle();
            let buffered = world.stack.stats().buffered;
            assert!((1..=64 * KIB).contains(&buffered), "{buffered} bytes");
            received.extend_from_slice(&world.read_all(flow).0);
        }
        assert!(received == pattern(0, MIB));
        assert_eq!(world.now(), begin, "it took a timer to go on");
    }
}

#[test]
fn what_stands_still_is_bounded_together_and_the_others_go_on() {
    let mut world = World::new(Config {
        max_buffered: 4 * MIB,
        ..Config::default()
    });
    let stalled: Vec<_> = (100..160)
        .map(|port| world.connect_with(target(port), MIB))
        .collect();
    for (socket, _) in &stalled {
        let sent = world.client.tcp(*socket).send_slice(&pattern(0, MIB));
        assert_eq!(sent, Ok(MIB));
    }
    world.settle();
    let up = world.stack.stats().buffered;
    for (_, flow) in &stalled {
        while world.stack.send(*flow, &pattern(0, MIB)) > 0 {}
    }
    let both = world.stack.stats().buffered;
    let most = 4 * MIB + 60 * 64 * KIB;
    assert!(up <= most, "{up} bytes");
    assert!(both <= most + 60 * 64 * KIB, "{both} bytes");
    world.settle();
    world.events();
    let (socket, flow) = world.connect(target(80));
    upload(&mut world, socket, flow, MIB);
    download(&mut world, socket, flow, MIB);
}

#[test]
fn a_stalled_reader_stops_only_its_own_client() {
    let mut world = World::offloading();
    let (stalled, stalled_flow) = world.connect_with(target(80), 4 * MIB);
    let (socket, flow) = world.connect(target(81));

    let mut taken = 0;
    for _ in 0..100 {
        taken += world
            .client
            .tcp(stalled)
            .send_slice(&pattern(taken, 256 * KIB))
            .unwrap();
        world.settle();
    }
    assert!(
        taken <= 5 * MIB,
        "{taken} bytes were taken from a client whose reader is stalled"
    );
    upload(&mut world, socket, flow, 2 * MIB);
    download(&mut world, socket, flow, 2 * MIB);

    // The client asks again and again whether there is room, and when there is it goes on.
    world.sleep(Duration::from_secs(120));
    let mut received = Vec::new();
    while received.len() < taken {
        let (bytes, end) = world.read_all(stalled_flow);
        assert_eq!(end, Recv::Empty);
        received.extend_from_slice(&bytes);
        world.settle();
        if bytes.is_empty() {
            world.sleep_until_wake();
        }
    }
    assert!(received == pattern(0, taken), "the bytes differ");
}

#[test]
fn a_stalled_client_stops_only_its_own_sender() {
    let mut world = World::offloading();
    let (stalled, stalled_flow) = world.connect_with(target(80), 64 * KIB);
    let (socket, flow) = world.connect(target(81));

    let mut sent = 0;
    for _ in 0..100 {
        sent += world.stack.send(stalled_flow, &pattern(sent, 256 * KIB));
        world.settle();
    }
    assert!(
        // What it holds itself makes it hold less.
        (MIB * 3 / 4..=MIB + 64 * KIB).contains(&sent),
        "{sent} bytes were taken"
    );
    assert_eq!(world.stack.send_room(stalled_flow), 0);
    upload(&mut world, socket, flow, 2 * MIB);
    download(&mut world, socket, flow, 2 * MIB);
    world.sleep(Duration::from_secs(3_600));

    world.settle();
    world.events();
    let mut received = world.client_read(stalled);
    while received.len() < sent {
        world.settle();
        let bytes = world.client_read(stalled);
        if bytes.is_empty() {
            world.sleep_until_wake();
        }
        received.extend_from_slice(&bytes);
    }
    assert!(received == pattern(0, sent), "the bytes differ");
    let writable = Event::TcpWritable { flow: stalled_flow };
    assert_eq!(
        world
            .events()
            .iter()
            .filter(|event| **event == writable)
            .count(),
        1
    );
}

#[test]
fn readable_is_said_once_until_everything_was_read() {
    let mut world = World::plain();
    let (socket, flow) = world.connect(target(80));
    let readable = Event::TcpReadable { flow };
    for round in 0..3 {
        world.client.tcp(socket).send_slice(b"hello").unwrap();
        world.settle();
        world.client.tcp(socket).send_slice(b"again").unwrap();
        world.settle();
        assert_eq!(
            world.events(),
            std::slice::from_ref(&readable),
            "round {round}"
        );
        assert_eq!(world.stack.recv(flow, 7), Recv::Data("helloag".into()));
        world.client.tcp(socket).send_slice(b"!").unwrap();
        world.settle();
        assert_eq!(world.events(), []);
        assert_eq!(world.read_all(flow), (b"ain!".to_vec(), Recv::Empty));
    }
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let mut world = World::plain();
    let (socket, flow, _) = world.request(target(80), 64 * KIB);
    world.stack.accept(flow, world.now()).unwrap();
    // The client has not answered yet: nothing is taken, and the event says when to try again.
    assert_eq!(world.stack.send(flow, b"220 ready"), 0);
    world.settle();
    assert_eq!(world.events(), [Event::TcpWritable { flow }]);
    assert_eq!(world.stack.send(flow, b"220 ready"), 9);
    world.settle();
    assert_eq!(world.client_read(socket), b"220 ready");
}
