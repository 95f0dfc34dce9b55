//! What was lost is sent again, and a window that opens is heard, whoever has closed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::craft::{self, ACK, FIN, SYN, Segment};
use common::{KIB, World, closings, pattern, target};
use kdev_netstack::{Event, FlowId, Recv};

#[test]
fn a_lost_fin_is_repeated_however_often_the_rest_was_acknowledged() {
    for client_closes in [false, true] {
        let mut client = ByHand::connect();
        if client_closes {
            client.says(FIN | ACK, 60_000);
        }
        client.world.stack.send(client.flow, b"the end");
        client.world.stack.shutdown(client.flow);
        client.world.settle();
        client.ack = client.ack.wrapping_add(7);
        for _ in 0..5 {
            client.says(ACK, 60_000);
        }
        let start = client.world.now();
        for _ in 0..3 {
            let again = client.waits();
            assert_eq!(again.len(), 1);
            assert_eq!((again[0].flags & FIN, again[0].seq), (FIN, client.ack));
        }
        assert!(client.world.now() - start < Duration::from_secs(10));
        client.ack = client.ack.wrapping_add(1);
        client.says(ACK, 60_000);
        if !client_closes {
            client.says(FIN | ACK, 60_000);
        }
        assert_eq!(client.world.read_all(client.flow).1, Recv::End);
        assert_eq!(closings(&client.world.events(), client.flow), [false]);
    }
}

#[test]
fn a_lost_fin_is_repeated_though_what_the_client_says_meanwhile_is_lost_as_well() {
    for lost in [0, 1_000] {
        let mut client = ByHand::connect();
        client.world.stack.send(client.flow, b"the end");
        client.world.stack.shutdown(client.flow);
        client.world.settle();
        client.ack = client.ack.wrapping_add(7);
        // It has no room, and then has, while so many bytes of its own are on their way.
        client.seq = client.seq.wrapping_add(lost);
        for window in [0, 0, 60_000, 60_000, 0, 60_000, 60_000, 60_000] {
            client.says(ACK, window);
        }
        let start = client.world.now();
        for _ in 0..3 {
            let again = client.waits();
            assert_eq!((again[0].flags & FIN, again[0].seq), (FIN, client.ack));
        }
        assert!(client.world.now() - start < Duration::from_secs(10));
    }
}

#[test]
fn a_window_that_opens_is_heard_whoever_has_closed() {
    for (client_closes, server_closes) in
        [(false, false), (true, false), (false, true), (true, true)]
    {
        let mut client = ByHand::connect();
        client.says(if client_closes { FIN | ACK } else { ACK }, 0);
        client.world.stack.send(client.flow, &pattern(0, 10 * KIB));
        if server_closes {
            client.world.stack.shutdown(client.flow);
        }
        client.world.settle();
        // The stack asks from time to time; the client answers that there is no room.
        for _ in 0..4 {
            assert!(client.waits().iter().all(|probe| probe.payload.len() <= 1));
            client.says(ACK, 0);
        }
        let opened = client.says(ACK, 60_000);
        client.takes(&opened);
        assert_eq!(
            client.received.len(),
            10 * KIB,
            "closed: {client_closes}, {server_closes}"
        );
    }
}

#[test]
fn bytes_that_a_closed_window_swallowed_are_sent_again_when_it_opens() {
    for server_closes in [false, true] {
        let mut client = ByHand::connect();
        client.world.stack.send(client.flow, &pattern(0, 10 * KIB));
        if server_closes {
            client.world.stack.shutdown(client.flow);
        }
        client.world.settle();
        // The client takes a part, drops the rest, and closes its window.
        client.received = pattern(0, 4 * KIB);
        client.ack = client.ack.wrapping_add(4 * KIB as u32);
        client.says(ACK, 0);
        for _ in 0..4 {
            let probes = client.waits();
            assert!(
                probes.iter().all(|probe| probe.seq == client.ack),
                "{probes:?}"
            );
            client.says(ACK, 0);
        }
        let mut sent = client.says(ACK, 60_000);
        assert!(
            sent.iter().any(|segment| segment.seq == client.ack),
            "not at once"
        );
        let start = client.world.now();
        while client.received.len() < 10 * KIB {
            client.takes(&sent);
            sent = client.says(ACK, 60_000);
            if sent.is_empty() && client.received.len() < 10 * KIB {
                sent = client.waits();
            }
        }
        assert!(client.received == pattern(0, 10 * KIB), "the bytes differ");
        assert!(client.world.now() - start < Duration::from_secs(60));
    }
}

/// A client may take the last byte, and the end behind it, from who asks for room, and have none all the same.
#[test]
fn an_end_that_a_closed_window_took_is_the_last_that_is_said() {
    for client_closes in [false, true] {
        let mut client = ByHand::connect();
        client.says(if client_closes { FIN | ACK } else { ACK }, 0);
        client.world.stack.send(client.flow, b"x");
        client.world.stack.shutdown(client.flow);
        client.world.settle();
        let mut has_ended = false;
        while !has_ended {
            let asked = client.waits();
            client.takes(&asked);
            has_ended = asked.iter().any(|segment| segment.flags & FIN != 0);
            client.ack = client.ack.wrapping_add(u32::from(has_ended));
            client.says(ACK, 0);
        }
        assert_eq!(client.received, b"x");
        let before = client.world.stack.stats().packets_out;
        client.world.sleep(Duration::from_secs(600));
        let more = client.world.stack.stats().packets_out - before;
        assert!(more < 20, "{more} packets, closed: {client_closes}");
    }
}

/// A client made by hand: its flow, what it sends and acknowledges next, and what it has received.
struct ByHand {
    world: World,
    flow: FlowId,
    seq: u32,
    ack: u32,
    received: Vec<u8>,
}

impl ByHand {
    fn connect() -> Self {
        let mut world = World::plain();
        world.by_hand = true;
        let syn = Segment {
            seq: 1_000,
            flags: SYN,
            ..Segment::default()
        };
        world.inject(&syn.packet(craft::client(5_000), target(80)));
        let Some(Event::TcpRequested { flow, .. }) = world.events().pop() else {
            panic!()
        };
        world.stack.accept(flow, world.now()).unwrap();
        world.settle();
        let ack = craft::tcp(&world.to_client[0]).seq.wrapping_add(1);
        let mut client = Self {
            world,
            flow,
            seq: 1_001,
            ack,
            received: vec![],
        };
        client.says(ACK, 60_000);
        client
    }

    /// Sends a segment without data and returns what the stack sends in return.
    fn says(&mut self, flags: u8, window: u16) -> Vec<Segment> {
        let segment = Segment {
            seq: self.seq,
            ack: self.ack,
            flags,
            window,
            payload: vec![],
        };
        self.seq = self.seq.wrapping_add(u32::from(flags & FIN));
        self.world
            .inject(&segment.packet(craft::client(5_000), target(80)));
        self.answers()
    }

    fn answers(&self) -> Vec<Segment> {
        self.world
            .to_client
            .iter()
            .map(|packet| craft::tcp(packet))
            .collect()
    }

    /// Waits for the stack to send something by itself.
    fn waits(&mut self) -> Vec<Segment> {
        for _ in 0..20 {
            self.world.sleep_until_wake();
            if !self.world.to_client.is_empty() {
                return self.answers();
            }
        }
        panic!("the stack sends nothing");
    }

    /// Takes what comes next in order out of some segments.
    fn takes(&mut self, segments: &[Segment]) {
        for segment in segments
            .iter()
            .filter(|segment| !segment.payload.is_empty())
        {
            if segment.seq == self.ack {
                self.ack = self.ack.wrapping_add(segment.payload.len() as u32);
                self.received.extend_from_slice(&segment.payload);
            }
        }
    }
}
