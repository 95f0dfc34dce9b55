//! Whatever a device hands over, the stack lives.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod common;

use common::craft::{self, ACK, FIN, SYN, Segment};
use common::{KIB, World, pattern, target, target6};
use kdev_netstack::{Checksum, Config, Event, PacketBuffer};
use proptest::prelude::*;

fn checksum() -> impl Strategy<Value = Checksum> {
    prop_oneof![
        Just(Checksum::Verified),
        Just(Checksum::Partial),
        Just(Checksum::Unverified)
    ]
}

/// A world with an open flow, one half closed, one undecided, and the packets that made it so.
fn busy(segmentation: bool) -> (World, Vec<Vec<u8>>) {
    let mut world = World::new(Config {
        segmentation,
        ..Config::default()
    });
    let mut packets = Vec::new();
    for to in [target(80), target6(80)] {
        let (socket, flow) = world.connect(to);
        packets.append(&mut world.to_stack);
        world
            .client
            .tcp(socket)
            .send_slice(&pattern(0, 10 * KIB))
            .unwrap();
        world.stack.send(flow, &pattern(0, 10 * KIB));
        world.settle();
        packets.append(&mut world.to_stack);
        let (socket, _) = world.connect(to);
        world.client.tcp(socket).close();
        world.settle();
        packets.append(&mut world.to_stack);
        world.request(to, KIB);
        packets.append(&mut world.to_stack);
    }
    (world, packets)
}

/// Runs everything that could panic, and shows that the stack still serves.
fn exercise(world: &mut World) {
    let now = world.now();
    let mut buffer = PacketBuffer::new(0);
    for event in world.events() {
        match event {
            Event::TcpRequested { flow, .. } => {
                world.stack.accept(flow, now).unwrap();
            }
            Event::TcpReadable { flow } => {
                world.read_all(flow);
            }
            Event::TcpClosed { flow, .. } => world.stack.abort(flow),
            _ => {}
        }
    }
    while world.stack.poll_packet(&mut buffer, now).is_some() {}
    world
        .stack
        .handle_timeout(now + std::time::Duration::from_secs(2));
    while world.stack.poll_packet(&mut buffer, now).is_some() {}
}

/// What a mutation does to a packet.
#[derive(Debug, Clone)]
enum Mutation {
    Flip { at: prop::sample::Index, bit: u8 },
    Set { at: prop::sample::Index, value: u8 },
    Cut { at: prop::sample::Index },
    Extend { bytes: Vec<u8> },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip { at, bit }),
        4 => (any::<prop::sample::Index>(), any::<u8>())
            .prop_map(|(at, value)| Mutation::Set { at, value }),
        1 => any::<prop::sample::Index>().prop_map(|at| Mutation::Cut { at }),
        1 => prop::collection::vec(any::<u8>(), 1..40).prop_map(|bytes| Mutation::Extend { bytes }),
    ]
}

/// Mutates where headers are, mostly.
fn mutate(packet: &mut Vec<u8>, mutation: &Mutation) {
    let headers = packet.len().min(80);
    if headers == 0 {
        return;
    }
    match mutation {
        Mutation::Flip { at, bit } => packet[at.index(headers)] ^= 1 << bit,
        Mutation::Set { at, value } => packet[at.index(headers)] = *value,
        Mutation::Cut { at } => packet.truncate(at.index(packet.len())),
        Mutation::Extend { bytes } => packet.extend_from_slice(bytes),
    }
}

/// Makes the IPv4 header checksum right again, so that mutants get past it.
fn repair(packet: &mut [u8]) {
    let header_len = usize::from(packet.first().map_or(0, |first| first & 15)) * 4;
    if packet.len() >= header_len && header_len >= 20 && packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        let sum = !smoltcp::wire::checksum::data(&packet[..header_len]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// A segment for a live flow with numbers near the ones that count.
fn hostile_segment() -> impl Strategy<Value = Segment> {
    (
        any::<u8>(),
        -5i64..70_000,
        -70_000i64..70_000,
        any::<u16>(),
        0usize..3_000,
    )
        .prop_map(|(flags, seq, ack, window, length)| Segment {
            seq: 1_001u32.wrapping_add(seq as u32),
            ack: ack as u32,
            flags: flags & 0x3f,
            window,
            payload: pattern(0, length),
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn random_bytes_are_counted_and_dropped(
        packets in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..200), prop_oneof![Just(0x45), Just(0x60), any::<u8>()]),
            1..50,
        ),
        checksum in checksum(),
    ) {
        let mut world = World::plain();
        for (mut packet, first) in packets {
            if let Some(byte) = packet.first_mut() {
                *byte = first;
            }
            world.stack.handle_packet(&packet, checksum, world.now());
            repair(&mut packet);
            world.stack.handle_packet(&packet, checksum, world.now());
        }
        while let Some(event) = world.stack.poll_event() {
            world.events.push(event);
        }
        exercise(&mut world);
    }

    #[test]
    fn mutants_of_valid_packets_never_panic_and_other_flows_go_on(
        segmentation: bool,
        mutants in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::collection::vec(mutation(), 1..4), checksum()),
            1..60,
        ),
    ) {
        let (mut world, packets) = busy(segmentation);
        world.by_hand = true;
        for (index, mutations, checksum) in &mutants {
            let mut packet = index.get(&packets).clone();
            for mutation in mutations {
                mutate(&mut packet, mutation);
            }
            repair(&mut packet);
            world.stack.handle_packet(&packet, *checksum, world.now());
            world.settle();
        }
        exercise(&mut world);
        world.by_hand = false;
        let (socket, flow) = world.connect(target(4_242));
        world.client.tcp(socket).send_slice(b"still serving").unwrap();
        world.settle();
        prop_assert_eq!(world.read_all(flow).0, b"still serving");
    }

    #[test]
    fn a_hostile_client_harms_only_itself(
        segments in prop::collection::vec((hostile_segment(), 0u8..5), 1..60),
        segmentation: bool,
    ) {
        let mut world = World::new(Config { segmentation, rx_buffer: 16 * KIB, ..Config::default() });
        world.by_hand = true;
        let (from, to) = (craft::client(5_000), target(80));
        let mut flow = None;
        let mut base = 0u32;
        world.stack.handle_packet(
            &Segment { seq: 1_000, flags: SYN, ..Segment::default() }.packet(from, to),
            Checksum::Unverified,
            world.now(),
        );
        for (segment, action) in segments {
            world.settle();
            for event in world.events() {
                if let Event::TcpRequested { flow: id, .. } = event {
                    flow = Some(id);
                    world.stack.accept(id, world.now()).unwrap();
                }
            }
            world.settle();
            if let Some(packet) = world.to_client.iter().find(|packet| {
                packet[9] == 6 && craft::tcp(packet).flags & SYN != 0
            }) {
                base = craft::tcp(packet).seq.wrapping_add(1);
                let ack = Segment { seq: 1_001, ack: base, flags: ACK, ..Segment::default() };
                world.stack.handle_packet(&ack.packet(from, to), Checksum::Unverified, world.now());
            }
            if let Some(flow) = flow {
                match action {
                    0 => {
                        world.stack.send(flow, &pattern(0, 50 * KIB));
                    }
                    1 => {
                        world.stack.recv(flow, 1_000);
                    }
                    2 if segment.flags & FIN != 0 => world.stack.shutdown(flow),
                    _ => {}
                }
            }
            let segment = Segment { ack: base.wrapping_add(segment.ack), ..segment };
            world.stack.handle_packet(&segment.packet(from, to), Checksum::Unverified, world.now());
        }
        world.settle();
        exercise(&mut world);
    }
}

#[test]
fn what_is_dropped_is_counted_for_what_it_is() {
    let mut world = World::plain();
    let now = world.now();
    let good = Segment {
        flags: ACK,
        ..Segment::default()
    };
    let packet = good.packet(craft::client(1), target(80));

    let mut wrong = packet.clone();
    *wrong.last_mut().unwrap() ^= 1;
    world.stack.handle_packet(&wrong, Checksum::Unverified, now);
    assert_eq!(world.stack.stats().bad_checksum, 1);

    world
        .stack
        .handle_packet(&packet[..30], Checksum::Unverified, now);
    assert_eq!(world.stack.stats().malformed, 1);

    let spoofed = good.packet(([224, 0, 0, 1], 5).into(), target(80));
    world
        .stack
        .handle_packet(&spoofed, Checksum::Unverified, now);
    assert_eq!(world.stack.stats().martian, 1);

    let mut ping = packet.clone();
    ping[9] = 1;
    repair(&mut ping);
    world.stack.handle_packet(&ping, Checksum::Unverified, now);
    assert_eq!(world.stack.stats().icmp_ignored, 1);

    let mut other = packet;
    other[9] = 132;
    repair(&mut other);
    world.stack.handle_packet(&other, Checksum::Unverified, now);
    assert_eq!(world.stack.stats().unsupported, 1);

    world.settle();
    assert_eq!((world.to_client.len(), world.events.len()), (0, 0));
}
