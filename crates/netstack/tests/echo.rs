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

/// Type of requests, and of replies.
fn types(family: IpAddr) -> (u8, u8) {
    if family.is_ipv4() { (8, 0) } else { (128, 129) }
}

/// An echo message without checksum, as the far end's kernel hands it over.
fn message(kind: u8, identifier: u16, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend_from_slice(&identifier.to_be_bytes());
    message.extend_from_slice(&7_u16.to_be_bytes());
    message.extend_from_slice(payload);
    message
}

/// The packet that an echo message is.
fn packet(from: IpAddr, to: IpAddr, mut message: Vec<u8>) -> Vec<u8> {
    let protocol = match from {
        IpAddr::V4(_) => IpProtocol::Icmp,
        IpAddr::V6(_) => IpProtocol::Icmpv6,
    };
    let (from, to) = (IpAddress::from(from), IpAddress::from(to));
    let pseudo = match protocol {
        IpProtocol::Icmpv6 => pseudo_header(&from, &to, protocol, message.len() as u32),
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

/// An echo request as a kernel sends it.
fn request(from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    packet(from, to, message(types(from).0, 0x1234, payload))
}

#[test]
fn a_request_is_the_owners_to_answer() {
    for (client, target) in ends() {
        let mut world = World::plain();
        let request = request(client, target, b"are you there?");
        world.inject(&request);
        let events = world.events();
        let [
            Event::Echo {
                client: from,
                target: to,
                identifier,
                message,
            },
        ] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!((*from, *to, *identifier), (client, target, 0x1234));
        assert!(request.ends_with(message));
        assert_eq!(&message[8..], b"are you there?");
        world.settle();
        assert!(world.to_client.is_empty(), "nobody else answers");
    }
}

#[test]
fn a_reply_bears_the_identifier_of_its_request() {
    for (client, target) in ends() {
        let mut world = World::plain();
        world.by_hand = true;
        let (_, reply) = types(client);
        let payload = pattern(0, 56);
        // The far end's kernel knows the request by an identifier of its own.
        let foreign = message(reply, 0xffff, &payload);
        let sent = world
            .stack
            .send_echo_reply(target, client, 0x1234, &foreign);
        sent.unwrap();
        world.settle();
        let expected = packet(target, client, message(reply, 0x1234, &payload));
        assert_eq!(world.to_client, [expected]);
    }
}

#[test]
fn large_ones_pass_in_fragments_and_what_is_no_reply_is_refused() {
    for (client, target) in ends() {
        let mut world = World::plain();
        world.by_hand = true;
        let (request, reply) = types(client);
        let mut send = |message: &[u8]| world.stack.send_echo_reply(target, client, 1, message);
        send(&message(reply, 1, &pattern(0, 4_000))).unwrap();
        let most = if client.is_ipv4() {
            MAX_ECHO
        } else {
            MAX_ECHO + 20
        };
        assert!(send(&message(reply, 1, &vec![0; most - 7])).is_err());
        assert!(send(&message(request, 1, b"x")).is_err());
        assert!(send(&[reply]).is_err());
        world.settle();
        assert_eq!(world.to_client.len(), 3);
        assert!(world.to_client.iter().all(|packet| packet.len() <= 1_500));
        world.to_client.clear();
        let largest = message(reply, 1, &vec![0; most - 8]);
        world
            .stack
            .send_echo_reply(target, client, 1, &largest)
            .unwrap();
        world.settle();
        // A piece begins at a multiple of eight bytes.
        let piece = if client.is_ipv4() { 1_480 } else { 1_448 };
        assert_eq!(world.to_client.len(), largest.len().div_ceil(piece));
    }
}

#[test]
fn what_is_damaged_or_no_request_is_left_alone() {
    for (client, target) in ends() {
        let whole = request(client, target, b"x");
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
        // A reply is nobody's request.
        world.inject(&packet(client, target, message(types(client).1, 1, b"x")));
        assert_eq!(world.events(), []);
    }
}
