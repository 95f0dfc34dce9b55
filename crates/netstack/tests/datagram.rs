//! UDP: small, large, in fragments, and refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use common::craft::{client, client6, transport};
use common::{World, pattern, target, target6, wire};
use kdev_netstack::{
    Checksum, Config, Event, MAX_DATAGRAM, PacketBuffer, SendDatagramError, Stack, Unreachable,
};
use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, Ipv4Packet, Ipv6Packet, UdpPacket};

/// Returns the packets that a datagram from a client is, made by another stack's sending half.
fn from_client(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<Vec<u8>> {
    let mut world = World::plain();
    world.by_hand = true;
    world.stack.send_datagram(from, to, payload).unwrap();
    world.settle();
    world.to_client
}

/// The largest payload that a family can carry.
fn largest(family: SocketAddr) -> usize {
    if family.is_ipv4() {
        MAX_DATAGRAM
    } else {
        MAX_DATAGRAM + 20
    }
}

fn datagrams(world: &mut World) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
    let events = world.events().into_iter().map(|event| match event {
        Event::Datagram {
            client,
            target,
            payload,
        } => (client, target, payload.to_vec()),
        other => panic!("{other:?}"),
    });
    events.collect()
}

#[test]
fn a_datagram_comes_in_whole_whatever_its_size() {
    for (from, to) in [(client(4_000), target(53)), (client6(4_000), target6(53))] {
        for size in [0, 1, 512, 1_452, 1_472, 1_473, 9_000, largest(from)] {
            let mut world = World::plain();
            for packet in from_client(from, to, &pattern(0, size)) {
                world.inject(&packet);
            }
            assert_eq!(
                datagrams(&mut world),
                [(from, to, pattern(0, size))],
                "{size} bytes"
            );
        }
    }
}

#[test]
fn a_datagram_goes_out_whole_whatever_its_size() {
    for segmentation in [false, true] {
        for (from, to) in [(target(53), client(4_000)), (target6(53), client6(4_000))] {
            for size in [0, 1, 512, 1_452, 1_472, 1_473, 9_000, largest(from)] {
                let mut world = World::new(Config {
                    segmentation,
                    ..Config::default()
                });
                world.by_hand = true;
                world
                    .stack
                    .send_datagram(from, to, &pattern(0, size))
                    .unwrap();
                world.settle();
                // Another stack stands for the kernel: it verifies every checksum.
                let mut kernel = World::plain();
                for packet in &world.to_client {
                    assert!(packet.len() <= 1_500);
                    kernel.inject(packet);
                }
                assert_eq!(
                    datagrams(&mut kernel),
                    [(from, to, pattern(0, size))],
                    "{size} bytes"
                );
            }
        }
    }
}

#[test]
fn fragments_may_come_in_any_order_and_other_datagrams_between_them() {
    let (from, to) = (client(4_000), target(53));
    let mut world = World::plain();
    let mut large = from_client(from, to, &pattern(0, 5_000));
    large.reverse();
    for packet in large {
        world.inject(&packet);
        world.inject(&from_client(from, target(54), b"between")[0]);
    }
    let received = datagrams(&mut world);
    assert_eq!(received.len(), 5);
    assert!(received.contains(&(from, to, pattern(0, 5_000))));
}

#[test]
fn an_incomplete_datagram_is_forgotten_in_time() {
    let mut world = World::plain();
    let packets = from_client(client(4_000), target(53), &pattern(0, 5_000));
    world.inject(&packets[0]);
    world.sleep(Duration::from_secs(31));
    for packet in &packets[1..] {
        world.inject(packet);
    }
    assert_eq!(datagrams(&mut world), []);
    assert_eq!(world.stack.stats().reassembly_failed, 1);
}

#[test]
fn a_datagram_with_a_wrong_checksum_is_dropped_unless_it_was_vouched_for() {
    for (from, to) in [(client(4_000), target(53)), (client6(4_000), target6(53))] {
        let mut world = World::plain();
        let mut packet = from_client(from, to, b"payload").remove(0);
        *packet.last_mut().unwrap() ^= 1;
        world.inject(&packet);
        assert_eq!(datagrams(&mut world), []);
        assert_eq!(world.stack.stats().bad_checksum, 1);
        for checksum in [Checksum::Partial, Checksum::Verified] {
            world.stack.handle_packet(&packet, checksum, world.now());
        }
        world.settle();
        assert_eq!(datagrams(&mut world).len(), 2);
    }
}

#[test]
fn ipv4_may_do_without_a_checksum_and_ipv6_may_not() {
    for (from, to, received) in [(client(1), target(53), 1), (client6(1), target6(53), 0)] {
        let mut world = World::plain();
        let mut packet = from_client(from, to, b"payload").remove(0);
        let at = packet.len() - 7 - 2;
        packet[at..at + 2].fill(0);
        world.inject(&packet);
        assert_eq!(datagrams(&mut world).len(), received);
    }
}

#[test]
fn an_unreachable_datagram_is_told_by_icmp_with_both_ends_in_it() {
    let mut world = World::plain();
    world.by_hand = true;
    world
        .stack
        .datagram_unreachable(client(4_000), target(53), Unreachable::Port);
    world.settle();
    let ip = Ipv4Packet::new_checked(&world.to_client[0][..]).unwrap();
    let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
    assert!(icmp.verify_checksum());
    assert_eq!((u8::from(icmp.msg_type()), icmp.msg_code()), (3, 3));
    let quoted = Ipv4Packet::new_checked(icmp.data()).unwrap();
    let udp = UdpPacket::new_checked(quoted.payload()).unwrap();
    assert_eq!((udp.src_port(), udp.dst_port()), (4_000, 53));

    world
        .stack
        .datagram_unreachable(client6(4_000), target6(53), Unreachable::Port);
    world.settle();
    let ip = Ipv6Packet::new_checked(&world.to_client[0][..]).unwrap();
    let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
    assert!(icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()));
    assert_eq!((u8::from(icmp.msg_type()), icmp.msg_code()), (1, 4));
    assert_eq!(transport(icmp.payload())[..4], [0x0f, 0xa0, 0, 53]);
}

#[test]
fn an_unreachable_echo_request_is_told_by_icmp_with_its_header_in_it() {
    let mut world = World::plain();
    world.by_hand = true;
    let request = [8, 0, 0x12, 0x34, 0x0f, 0xa0, 0, 7];
    let (to, from) = (target(0).ip(), client(0).ip());
    world
        .stack
        .echo_unreachable(from, to, &request[..7], Unreachable::Host);
    world.settle();
    assert!(world.to_client.is_empty(), "no header, no message");
    world
        .stack
        .echo_unreachable(from, to, &request, Unreachable::Host);
    world.settle();
    let ip = Ipv4Packet::new_checked(&world.to_client[0][..]).unwrap();
    let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
    assert!(icmp.verify_checksum());
    assert_eq!((u8::from(icmp.msg_type()), icmp.msg_code()), (3, 1));
    let quoted = Ipv4Packet::new_checked(icmp.data()).unwrap();
    assert_eq!(IpAddr::from(quoted.src_addr()), from);
    assert_eq!(IpAddr::from(quoted.dst_addr()), to);
    assert_eq!(quoted.payload(), request);
}

#[test]
fn what_waits_in_either_direction_is_bounded() {
    let mut world = World::plain();
    world.by_hand = true;
    let (from, to) = (target(53), client(4_000));
    let full = (0..10_000)
        .find_map(|_| world.stack.send_datagram(from, to, &[0; 1_000]).err())
        .expect("the queue is bounded");
    assert_eq!(full, SendDatagramError::QueueFull);
    world.settle();
    world.stack.send_datagram(from, to, &[0; 1_000]).unwrap();

    let packet = from_client(to, from, &[0; 1_000]).remove(0);
    for _ in 0..10_000 {
        world
            .stack
            .handle_packet(&packet, Checksum::Unverified, world.now());
    }
    let stats = world.stack.stats();
    assert!(stats.datagrams_in < 5_000);
    assert_eq!(stats.datagrams_in + stats.datagrams_dropped, 10_000);
}

#[test]
fn a_small_datagram_leaves_its_checksum_to_a_device_that_offers() {
    let now = std::time::Instant::now();
    let mut stack = Stack::new(Config::default(), now);
    stack
        .send_datagram(target(53), client(4_000), b"answer")
        .unwrap();
    let mut buffer = PacketBuffer::new(10);
    let offload = stack.poll_packet(&mut buffer, now).unwrap();
    assert!(offload.checksum.is_some());
    assert_eq!(buffer.frame().len(), 10 + buffer.packet().len());
    let [packet] = &wire::complete(buffer.packet(), offload)[..] else {
        panic!("one packet")
    };
    let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
    let udp = UdpPacket::new_checked(ip.payload()).unwrap();
    assert!(udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
}
