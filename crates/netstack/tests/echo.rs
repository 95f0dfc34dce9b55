//! Ping: asked of the owner, answered only by it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::net::IpAddr;

use common::craft::{client, client6};
use common::{World, pattern, target, target6};
use kdev_netstack::{Event, MAX_ECHO};
use smoltcp::wire::checksum::{combine, data, pseudo_header};
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr};

/// An echo request as a kernel sends it.
fn request(from: IpAddr, to: IpAddr, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let (protocol, kind) = match from {
        IpAddr::V4(_) => (IpProtocol::Icmp, 8),
        IpAddr::V6(_) => (IpProtocol::Icmpv6, 128),
    };
    let mut message = vec![kind, 0, 0, 0, 0x12, 0x34];
    message.extend_from_slice(&sequence.to_be_bytes());
    message.extend_from_slice(payload);
    let (from, to) = (IpAddress::from(from), IpAddress::from(to));
    let pseudo = match kind {
        128 => pseudo_header(&from, &to, protocol, message.len() as u32),
        _ => 0,
    };
    let checksum = !combine(&[pseudo, data(&message)]);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let header = IpRepr::new(from, to, protocol, message.len(), 64);
    let mut packet = vec![0; header.buffer_len()];
    header.emit(&mut packet[..], &Default::default());
    packet[header.header_len()..].copy_from_slice(&message);
    packet
}

fn ends() -> [(IpAddr, IpAddr); 2] {
    [
        (client(1).ip(), target(1).ip()),
        (client6(1).ip(), target6(1).ip()),
    ]
}

#[test]
fn a_request_is_the_owners_to_answer() {
    for (client, target) in ends() {
        let mut world = World::plain();
        world.inject(&request(client, target, 7, b"are you there?"));
        let expected = Event::Echo {
            client,
            target,
            identifier: 0x1234,
            sequence: 7,
            payload: b"are you there?"[..].into(),
        };
        assert_eq!(world.events(), [expected]);
        world.settle();
        assert!(world.to_client.is_empty(), "nobody else answers");
    }
}

#[test]
fn a_reply_reads_back_as_the_request_that_it_answers() {
    for (client, target) in ends() {
        let mut world = World::plain();
        world.by_hand = true;
        let payload = pattern(0, 56);
        let sent = world
            .stack
            .send_echo_reply(target, client, 0x1234, 7, &payload);
        sent.unwrap();
        world.settle();
        // With the type of a request it is one, from the target to the client.
        let [reply] = &world.to_client[..] else {
            panic!("one packet")
        };
        let mut expected = request(target, client, 7, &payload);
        let at = expected.len() - payload.len() - 8;
        let (kind, checksum) = (expected[at], [expected[at + 2], expected[at + 3]]);
        expected[at] = reply[at];
        assert_eq!(
            (kind, reply[at]),
            if client.is_ipv4() { (8, 0) } else { (128, 129) }
        );
        // The sum changes by as much as the type does.
        let sum = |bytes: [u8; 2]| u32::from(u16::from_be_bytes(bytes));
        let difference = (u32::from(kind) << 8) + 0xffff - (u32::from(reply[at]) << 8);
        let moved = (sum(checksum) + difference) % 0xffff;
        assert_eq!(sum([reply[at + 2], reply[at + 3]]) % 0xffff, moved);
        expected[at + 2..at + 4].copy_from_slice(&reply[at + 2..at + 4]);
        assert_eq!(reply[at..], expected[at..]);
    }
}

#[test]
fn large_ones_pass_in_fragments_and_too_large_ones_are_refused() {
    for (client, target) in ends() {
        let mut world = World::plain();
        world.by_hand = true;
        let payload = pattern(0, 4_000);
        let sent = world.stack.send_echo_reply(target, client, 1, 1, &payload);
        sent.unwrap();
        world.settle();
        assert_eq!(world.to_client.len(), 3);
        assert!(world.to_client.iter().all(|packet| packet.len() <= 1_500));
        let too_large = vec![0; MAX_ECHO + 1];
        let refused = world
            .stack
            .send_echo_reply(target, client, 1, 1, &too_large);
        assert!(refused.is_err());
    }
}

#[test]
fn what_is_damaged_or_no_request_is_left_alone() {
    for (client, target) in ends() {
        let whole = request(client, target, 7, b"x");
        let at = whole.len() - 9;
        for (offset, flip) in [(0, 1), (1, 1), (2, 1), (8, 1)] {
            let mut damaged = whole.clone();
            damaged[at + offset] ^= flip;
            let mut world = World::plain();
            world.inject(&damaged);
            assert_eq!(world.events(), [], "byte {offset}");
        }
        let mut world = World::plain();
        world.inject(&whole[..whole.len() - 4]);
        assert_eq!(world.events(), []);
    }
}
