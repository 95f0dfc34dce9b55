//! How conversations end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::craft::{self, ACK, FIN, RST, SYN, Segment};
use common::{KIB, MIB, World, closings, pattern, target, target6};
use kdev_netstack::{Config, Event, PacketBuffer, Recv};
use smoltcp::socket::tcp::State;

#[test]
fn a_client_that_is_done_sending_still_receives() {
    for to in [target(80), target6(80)] {
        let mut world = World::plain();
        let (socket, flow) = world.connect(to);
        world.client.tcp(socket).send_slice(b"request").unwrap();
        world.client.tcp(socket).close();
        world.settle();
        assert_eq!(world.read_all(flow), (b"request".to_vec(), Recv::End));
        assert_eq!(closings(&world.events(), flow), []);

        assert_eq!(world.stack.send(flow, &pattern(0, 100 * KIB)), 100 * KIB);
        world.settle();
        assert_eq!(world.client_read(socket), pattern(0, 100 * KIB));
        world.stack.shutdown(flow);
        world.settle();
        assert_eq!(closings(&world.events(), flow), [false]);
        assert_eq!(world.stack.stats().flows, 0);
        assert_eq!(world.stack.stats().pooled_buffers, 1);
    }
}

#[test]
fn a_server_that_is_done_sending_still_receives() {
    let mut world = World::plain();
    let (socket, flow) = world.connect(target(80));
    assert_eq!(world.stack.send(flow, b"all of it"), 9);
    world.stack.shutdown(flow);
    assert_eq!(world.stack.send(flow, b"too late"), 0);
    world.settle();
    assert_eq!(world.client_read(socket), b"all of it");
    assert_eq!(world.client.tcp(socket).state(), State::CloseWait);

    world
        .client
        .tcp(socket)
        .send_slice(&pattern(0, 100 * KIB))
        .unwrap();
    world.settle();
    assert_eq!(world.read_all(flow), (pattern(0, 100 * KIB), Recv::Empty));
    world.client.tcp(socket).close();
    world.settle();
    assert_eq!(world.read_all(flow), (vec![], Recv::End));
    assert_eq!(closings(&world.events(), flow), [false]);
    assert_eq!(world.stack.stats().flows, 0);
}

#[test]
fn a_fin_right_after_acceptance_comes_after_the_handshake() {
    let mut world = World::plain();
    let (socket, flow, _) = world.request(target(80), 64 * KIB);
    world.stack.accept(flow, world.now()).unwrap();
    world.stack.shutdown(flow);
    world.settle();
    assert_eq!(world.client.tcp(socket).state(), State::CloseWait);
}

#[test]
fn bytes_not_read_before_the_end_stay_readable_after_it() {
    let mut world = World::plain();
    let (socket, flow) = world.connect(target(80));
    world.client.tcp(socket).send_slice(b"last words").unwrap();
    world.client.tcp(socket).close();
    world.stack.shutdown(flow);
    world.settle();
    assert_eq!(closings(&world.events(), flow), [false]);
    assert_eq!(world.stack.stats().flows, 1);
    assert_eq!(world.read_all(flow), (b"last words".to_vec(), Recv::End));
    assert_eq!(world.stack.stats().flows, 0);
}

#[test]
fn a_reset_by_the_client_loses_nothing_it_sent_before() {
    let mut world = World::plain();
    let (socket, flow) = world.connect(target(80));
    world.client.tcp(socket).send_slice(b"last words").unwrap();
    world.settle();
    world.client.tcp(socket).abort();
    world.settle();
    let events = world.events();
    assert_eq!(closings(&events, flow), [true]);
    assert_eq!(world.stack.send(flow, b"too late"), 0);
    assert_eq!(world.read_all(flow), (b"last words".to_vec(), Recv::Reset));
    assert_eq!(world.stack.stats().flows, 0);
    assert_eq!(world.stack.recv(flow, 1), Recv::Reset);
}

#[test]
fn a_reset_by_the_server_reaches_the_client_at_once() {
    for to in [target(80), target6(80)] {
        let mut world = World::offloading();
        let (socket, flow) = world.connect(to);
        world.client.tcp(socket).send_slice(b"unheard").unwrap();
        world.settle();
        world.events();
        world.stack.abort(flow);
        world.settle();
        assert_eq!(world.client.tcp(socket).state(), State::Closed);
        assert_eq!(closings(&world.events(), flow), [true]);
        assert_eq!(world.stack.stats().flows, 0);
        world.stack.abort(flow);
        world.settle();
        assert_eq!(world.events(), []);
    }
}

#[test]
fn an_abort_before_the_handshake_is_finished_refuses_the_client() {
    let mut world = World::plain();
    let (socket, flow, _) = world.request(target(80), 64 * KIB);
    world.stack.accept(flow, world.now()).unwrap();
    world.stack.abort(flow);
    world.settle();
    assert_eq!(world.client.tcp(socket).state(), State::Closed);
    assert_eq!(world.stack.stats().flows, 0);
}

#[test]
fn a_client_that_is_gone_when_the_flow_is_accepted_resets_it() {
    let mut world = World::plain();
    let (socket, flow, _) = world.request(target(80), 64 * KIB);
    world.client.sockets.remove(socket);
    world.stack.accept(flow, world.now()).unwrap();
    world.settle();
    assert_eq!(closings(&world.events(), flow), [true]);
    assert_eq!(world.stack.stats().flows, 0);
}

#[test]
fn both_may_close_at_the_same_time() {
    let mut world = World::plain();
    let (socket, flow) = world.connect(target(80));
    world.client.tcp(socket).close();
    world.stack.shutdown(flow);
    world.settle();
    assert_eq!(world.read_all(flow), (vec![], Recv::End));
    world.settle();
    assert_eq!(closings(&world.events(), flow), [false]);
    assert_eq!(world.stack.stats().flows, 0);
}

#[test]
fn a_fin_whose_acknowledgement_was_lost_is_acknowledged_again_without_a_flow() {
    let mut world = World::plain();
    let (socket, flow) = world.connect(target(80));
    world.stack.shutdown(flow);
    world.settle();
    world.client.tcp(socket).close();
    let mut seen_fin = false;
    world.loss = Some(Box::new(move |packet| {
        let segment = craft::tcp(packet);
        // The first answer to the client's FIN is lost.
        let lose = seen_fin && segment.flags == ACK;
        seen_fin = segment.flags & FIN != 0;
        lose
    }));
    world.settle();
    assert_eq!(world.client.tcp(socket).state(), State::LastAck);
    assert_eq!(world.read_all(flow), (vec![], Recv::End));
    assert_eq!(world.stack.stats().flows, 0);
    world.loss = None;
    world.sleep(Duration::from_secs(3));
    assert_eq!(world.client.tcp(socket).state(), State::Closed);
    assert_eq!(world.stack.stats().stray_resets, 0);
}

#[test]
fn the_same_port_may_connect_again_right_after_the_end() {
    let mut world = World::plain();
    world.by_hand = true;
    let (from, to) = (craft::client(5_000), target(80));
    let mut segment = Segment {
        seq: 1_000,
        flags: SYN,
        ..Segment::default()
    };
    world.inject(&segment.packet(from, to));
    let Some(Event::TcpRequested { flow, .. }) = world.events().pop() else {
        panic!()
    };
    world.stack.accept(flow, world.now()).unwrap();
    world.settle();
    let syn_ack = craft::tcp(&world.to_client[0]);
    segment = Segment {
        seq: 1_001,
        ack: syn_ack.seq.wrapping_add(1),
        flags: ACK,
        ..segment
    };
    world.inject(&segment.packet(from, to));
    world.stack.shutdown(flow);
    world.settle();
    segment.ack = segment.ack.wrapping_add(1);
    segment.flags = FIN | ACK;
    world.inject(&segment.packet(from, to));
    assert_eq!(closings(&world.events(), flow), [false]);

    segment = Segment {
        seq: 500,
        ack: 0,
        flags: SYN,
        ..segment
    };
    world.inject(&segment.packet(from, to));
    let events = world.events();
    assert!(
        matches!(events[..], [Event::TcpRequested { .. }]),
        "{events:?}"
    );
}

#[test]
fn data_cut_at_the_edge_of_the_window_is_not_lost_by_the_fin_behind_it() {
    let mut world = World::new(Config {
        rx_buffer: 16 * KIB,
        ..Config::default()
    });
    world.by_hand = true;
    let (from, to) = (craft::client(5_000), target(80));
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
    let all = pattern(0, 16 * KIB + 10);
    let data = Segment {
        seq: 1_001,
        ack,
        flags: ACK | FIN,
        payload: all.clone(),
        ..syn
    };
    world.inject(&data.packet(from, to));
    assert!(world.read_all(flow) == (all[..16 * KIB].to_vec(), Recv::Empty));
    world.settle();
    world.inject(&data.packet(from, to));
    assert_eq!(world.read_all(flow), (all[16 * KIB..].to_vec(), Recv::End));
}

#[test]
fn an_idle_client_that_lives_keeps_its_flow() {
    let mut world = World::plain();
    let (socket, flow) = world.connect(target(80));
    let before = world.stack.stats().packets_out;
    world.sleep(Duration::from_secs(24 * 3_600));
    assert_eq!(world.events(), []);
    assert_eq!(world.client.tcp(socket).state(), State::Established);
    let asked = world.stack.stats().packets_out - before;
    assert!((280..=300).contains(&asked), "{asked} keep-alives in a day");
    assert_eq!(world.stack.send(flow, b"still here"), 10);
    world.settle();
    assert_eq!(world.client_read(socket), b"still here");
}

#[test]
fn a_client_that_vanished_does_not_keep_its_flow() {
    for unread in [0, 10] {
        let mut world = World::plain();
        let (_, flow) = world.connect(target(80));
        world.loss = Some(Box::new(|_| true));
        world.stack.send(flow, &vec![0; unread]);
        world.sleep(Duration::from_secs(900));
        assert_eq!(world.events(), []);
        world.sleep(Duration::from_secs(900));
        assert_eq!(closings(&world.events(), flow), [true]);
        assert_eq!(world.stack.stats().flows, 0);
    }
}

#[test]
fn a_stack_that_was_suspended_asks_before_it_gives_a_client_up() {
    let mut world = World::plain();
    let (socket, flow) = world.connect(target(80));
    world.events();
    for _ in 0..3 {
        world.wake_after(Duration::from_secs(8 * 3_600));
        assert_eq!(world.events(), []);
    }
    assert_eq!(world.stack.send(flow, b"good morning"), 12);
    world.settle();
    assert_eq!(world.client_read(socket), b"good morning");
}

#[test]
fn an_event_made_by_polling_packets_is_not_slept_over() {
    let mut world = World::plain();
    let (_, flow) = world.connect(target(80));
    world.events();
    let mut buffer = PacketBuffer::new(0);
    let mut now = world.now();
    loop {
        let wake = world.stack.poll_timeout().unwrap();
        if wake <= now {
            break;
        }
        now = wake;
        world.stack.handle_timeout(now);
        while world.stack.poll_packet(&mut buffer, now).is_some() {}
    }
    let events: Vec<_> = std::iter::from_fn(|| world.stack.poll_event()).collect();
    assert_eq!(closings(&events, flow), [true]);
    assert_eq!(world.stack.poll_timeout(), None);
}

#[test]
fn a_client_that_never_finishes_the_handshake_does_not_keep_its_flow() {
    let mut world = World::plain();
    let (_, flow, _) = world.request(target(80), 64 * KIB);
    world.loss = Some(Box::new(|_| true));
    world.stack.accept(flow, world.now()).unwrap();
    world.sleep(Duration::from_secs(70));
    assert_eq!(closings(&world.events(), flow), [true]);
    assert_eq!(world.stack.stats().flows, 0);
}

#[test]
fn a_forgetful_client_resets_by_a_keep_alive() {
    let mut world = World::plain();
    let (socket, flow) = world.connect(target(80));
    world.client.sockets.remove(socket);
    world.sleep(Duration::from_secs(301));
    assert_eq!(closings(&world.events(), flow), [true]);
}

#[test]
fn a_reset_outside_the_window_ends_nothing() {
    let mut world = World::plain();
    let (socket, flow, key) = world.request(target(80), 64 * KIB);
    world.stack.accept(flow, world.now()).unwrap();
    world.settle();
    let last = craft::tcp(world.to_stack.last().unwrap());
    let seq = last.seq.wrapping_add(2 * MIB as u32);
    let reset = Segment {
        seq,
        flags: RST,
        ..Segment::default()
    };
    world.inject(&reset.packet(key.client, key.target));
    assert_eq!(world.events(), []);
    assert_eq!(world.client.tcp(socket).state(), State::Established);
}

#[test]
fn a_fin_that_waits_for_a_closed_window_waits_quietly() {
    let mut world = World::plain();
    let ring = 48 * KIB;
    let (socket, flow) = world.connect_with(target(80), ring);
    let sent = world.stack.send(flow, &pattern(0, ring));
    assert_eq!(sent, ring);
    world.stack.shutdown(flow);
    for _ in 0..20 {
        world.sleep(Duration::from_secs(1));
    }
    let before = world.stack.stats().packets_out;
    world.sleep(Duration::from_secs(60));
    assert!(world.stack.stats().packets_out - before < 100);
    assert!(world.client_read(socket) == pattern(0, ring));
    for _ in 0..20 {
        world.sleep(Duration::from_secs(10));
    }
    assert_eq!(world.client.tcp(socket).state(), State::CloseWait);
}
