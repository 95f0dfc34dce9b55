//! Honest answers to a connection request.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::craft::{self, ACK, FIN, PSH, RST, SYN, Segment, client, client6};
use common::{KIB, World, closings, target, target6};
use kdev_netstack::{AcceptError, Config, Event, Recv, Unreachable};
use smoltcp::socket::tcp::State;
use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket};

#[test]
fn the_syn_ack_is_held_until_the_flow_is_accepted() {
    for to in [target(80), target6(80)] {
        let mut world = World::plain();
        let (socket, flow, _) = world.request(to, 64 * KIB);
        assert_eq!(world.to_client.len(), 0);
        assert_eq!(world.client.tcp(socket).state(), State::SynSent);

        world.stack.accept(flow, world.now()).unwrap();
        world.settle();
        assert_eq!(world.client.tcp(socket).state(), State::Established);
        assert_eq!(world.stack.stats().accepted, 1);
    }
}

#[test]
fn a_refused_flow_is_reset_at_once() {
    for to in [target(80), target6(80)] {
        let mut world = World::plain();
        let (socket, flow, _) = world.request(to, 64 * KIB);
        world.stack.refuse(flow);
        world.settle();
        assert_eq!(world.client.tcp(socket).state(), State::Closed);
        assert_eq!(world.to_client.len(), 1);
        assert_eq!(world.stack.stats().flows, 0);
        assert_eq!(world.events(), []);
    }
}

#[test]
fn an_unreachable_target_is_told_by_icmp_with_the_syn_in_it() {
    let codes = [
        (Unreachable::Network, 0, 0),
        (Unreachable::Host, 1, 3),
        (Unreachable::Port, 3, 4),
        (Unreachable::Prohibited, 13, 1),
    ];
    for (reason, v4_code, v6_code) in codes {
        let mut world = World::plain();
        let (_, flow, key) = world.request(target(80), 64 * KIB);
        world.stack.unreachable(flow, reason);
        world.settle();
        let [bytes] = &world.to_client[..] else {
            panic!("one packet")
        };
        let ip = Ipv4Packet::new_checked(&bytes[..]).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!(IpAddress::from(ip.src_addr()), key.target.ip().into());
        let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum());
        assert_eq!((u8::from(icmp.msg_type()), icmp.msg_code()), (3, v4_code));
        let quoted = Ipv4Packet::new_checked(icmp.data()).unwrap();
        let syn = TcpPacket::new_checked(quoted.payload()).unwrap();
        assert_eq!((syn.src_port(), syn.dst_port()), (key.client.port(), 80));
        assert!(
            syn.syn() && syn.verify_checksum(&quoted.src_addr().into(), &quoted.dst_addr().into())
        );

        let mut world = World::offloading();
        let (_, flow, key) = world.request(target6(80), 64 * KIB);
        world.stack.unreachable(flow, reason);
        world.settle();
        let [bytes] = &world.to_client[..] else {
            panic!("one packet")
        };
        let ip = Ipv6Packet::new_checked(&bytes[..]).unwrap();
        let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()));
        assert_eq!((u8::from(icmp.msg_type()), icmp.msg_code()), (1, v6_code));
        let quoted = Ipv6Packet::new_checked(icmp.payload()).unwrap();
        let syn = TcpPacket::new_checked(quoted.payload()).unwrap();
        assert_eq!((syn.src_port(), syn.dst_port()), (key.client.port(), 80));
        // The client's checksum was left to a device that never saw it.
        assert!(
            syn.syn() && syn.verify_checksum(&quoted.src_addr().into(), &quoted.dst_addr().into())
        );
        assert_eq!(world.stack.stats().flows, 0);
    }
}

#[test]
fn a_target_that_says_nothing_leaves_the_client_to_its_own_patience() {
    let mut world = World::plain();
    let (socket, flow, key) = world.request(target(80), 64 * KIB);
    world.stack.forget(flow);
    world.settle();
    assert_eq!(world.to_client.len(), 0);
    assert_eq!(world.client.tcp(socket).state(), State::SynSent);
    assert_eq!(world.stack.stats().flows, 0);
    // It asks again, and may be answered then.
    world.sleep(Duration::from_secs(4));
    let [Event::TcpRequested { flow, key: again }] = world.events()[..] else {
        panic!("one flow")
    };
    assert_eq!(again, key);
    world.stack.accept(flow, world.now()).unwrap();
    world.settle();
    assert_eq!(world.client.tcp(socket).state(), State::Established);
}

#[test]
fn a_retransmitted_syn_makes_no_second_event() {
    let mut world = World::plain();
    let (socket, flow, _) = world.request(target(80), 64 * KIB);
    world.sleep(Duration::from_secs(4));
    assert_eq!(world.events(), []);
    assert!(world.stack.stats().repeated_syns >= 2);
    world.stack.accept(flow, world.now()).unwrap();
    world.settle();
    assert_eq!(world.client.tcp(socket).state(), State::Established);
}

#[test]
fn a_client_that_lost_the_syn_ack_gets_it_again() {
    let mut world = World::plain();
    let (socket, flow, _) = world.request(target(80), 64 * KIB);
    let mut lost = 0;
    world.loss = Some(Box::new(move |_| {
        lost += 1;
        lost == 1
    }));
    world.stack.accept(flow, world.now()).unwrap();
    world.settle();
    assert_eq!(world.client.tcp(socket).state(), State::SynSent);
    world.sleep(Duration::from_secs(3));
    assert_eq!(world.client.tcp(socket).state(), State::Established);
}

#[test]
fn a_flow_is_decided_once() {
    let mut world = World::plain();
    let (_, flow, _) = world.request(target(80), 64 * KIB);
    world.stack.accept(flow, world.now()).unwrap();
    assert!(matches!(
        world.stack.accept(flow, world.now()),
        Err(AcceptError::NotPending)
    ));
    world.stack.refuse(flow);
    world.stack.unreachable(flow, Unreachable::Host);
    world.settle();
    assert_eq!(world.stack.stats().flows, 1);
}

#[test]
fn a_client_that_resets_before_the_decision_is_told_of() {
    let mut world = World::plain();
    let (socket, flow, key) = world.request(target(80), 64 * KIB);
    let syn = craft::tcp(&world.to_stack[0]);
    world.client.sockets.remove(socket);

    let far_off = Segment {
        seq: syn.seq.wrapping_add(1_000),
        flags: RST,
        ..Segment::default()
    };
    world.inject(&far_off.packet(key.client, key.target));
    assert_eq!(world.events(), []);

    let reset = Segment {
        seq: syn.seq.wrapping_add(1),
        flags: RST,
        ..Segment::default()
    };
    world.inject(&reset.packet(key.client, key.target));
    let events = world.events();
    assert_eq!(closings(&events, flow), [true]);
    assert!(matches!(
        world.stack.accept(flow, world.now()),
        Err(AcceptError::NotPending)
    ));
    assert_eq!(world.stack.recv(flow, 1), Recv::Reset);
    assert_eq!(
        (world.stack.stats().flows, world.stack.stats().pending),
        (0, 0)
    );
}

#[test]
fn a_client_that_begins_anew_from_the_same_port_is_the_same_wish() {
    let mut world = World::plain();
    world.by_hand = true;
    let (from, to) = (client(5_000), target(80));
    let syn = |seq| {
        Segment {
            seq,
            flags: SYN,
            ..Segment::default()
        }
        .packet(from, to)
    };
    world.inject(&syn(1_000));
    let events = world.events();
    let [Event::TcpRequested { flow, .. }] = events[..] else {
        panic!("{events:?}")
    };
    world.inject(&syn(90_000));
    assert_eq!(world.events(), []);
    world.stack.accept(flow, world.now()).unwrap();
    world.settle();
    let answer = craft::tcp(&world.to_client[0]);
    assert_eq!((answer.flags, answer.ack), (SYN | ACK, 90_001));
}

#[test]
fn data_on_a_syn_waits_for_its_retransmission() {
    let mut world = World::plain();
    world.by_hand = true;
    let (from, to) = (client(5_000), target(80));
    let syn = Segment {
        seq: 1_000,
        flags: SYN,
        payload: b"early".to_vec(),
        ..Segment::default()
    };
    world.inject(&syn.packet(from, to));
    let events = world.events();
    let [Event::TcpRequested { flow, .. }] = events[..] else {
        panic!("{events:?}")
    };
    world.stack.accept(flow, world.now()).unwrap();
    world.settle();
    assert_eq!(craft::tcp(&world.to_client[0]).ack, 1_001);
}

#[test]
fn segments_of_no_flow_are_reset_as_rfc_9293_says() {
    for (from, to) in [(client(5_000), target(80)), (client6(5_000), target6(80))] {
        let mut world = World::plain();
        let base = Segment {
            seq: 1_000,
            ack: 2_000,
            ..Segment::default()
        };
        let data = |flags| Segment {
            flags,
            payload: b"12345".to_vec(),
            ..base.clone()
        };

        world.inject(&data(ACK | PSH).packet(from, to));
        let answer = craft::tcp(&world.to_client[0]);
        assert_eq!((answer.flags, answer.seq), (RST, 2_000));

        world.inject(&data(FIN).packet(from, to));
        let answer = craft::tcp(&world.to_client[0]);
        assert_eq!(
            (answer.flags, answer.seq, answer.ack),
            (RST | ACK, 0, 1_006)
        );

        world.inject(
            &Segment {
                flags: SYN | ACK,
                ..base.clone()
            }
            .packet(from, to),
        );
        let answer = craft::tcp(&world.to_client[0]);
        assert_eq!((answer.flags, answer.seq), (RST, 2_000));

        world.inject(
            &Segment {
                flags: RST | ACK,
                ..base
            }
            .packet(from, to),
        );
        assert_eq!(world.to_client.len(), 0);
        assert_eq!(world.stack.stats().stray_resets, 3);
        assert_eq!(world.events(), []);
    }
}

#[test]
fn a_syn_on_a_live_flow_is_challenged_and_the_flow_lives() {
    let mut world = World::plain();
    let (socket, flow, key) = world.request(target(80), 64 * KIB);
    world.stack.accept(flow, world.now()).unwrap();
    world.settle();
    let last = craft::tcp(world.to_stack.last().unwrap());
    let syn = Segment {
        seq: 77_777,
        flags: SYN,
        ..Segment::default()
    };
    world.inject(&syn.packet(key.client, key.target));
    let answer = craft::tcp(&world.to_client[0]);
    assert_eq!(
        (answer.flags, answer.seq, answer.ack),
        (ACK, last.ack, last.seq)
    );
    assert_eq!(world.events(), []);
    assert_eq!(world.client.tcp(socket).state(), State::Established);
}

#[test]
fn too_many_undecided_flows_leave_a_syn_unanswered_until_there_is_room() {
    let mut world = World::new(Config {
        max_pending: 2,
        ..Config::default()
    });
    let (_, first, _) = world.request(target(1), 64 * KIB);
    world.request(target(2), 64 * KIB);
    let third = world.client.connect(target(3), 64 * KIB);
    world.settle();
    assert_eq!(world.events(), []);
    assert_eq!(world.to_client.len(), 0);
    assert_eq!(world.stack.stats().dropped_max_pending, 1);

    world.stack.refuse(first);
    world.sleep(Duration::from_secs(2));
    let events = world.events();
    let [Event::TcpRequested { flow, key }] = events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(key.target, target(3));
    world.stack.accept(flow, world.now()).unwrap();
    world.settle();
    assert_eq!(world.client.tcp(third).state(), State::Established);
}

#[test]
fn among_too_many_undecided_flows_who_waits_longest_makes_room_after_a_second() {
    let mut world = World::new(Config {
        max_pending: 2,
        ..Config::default()
    });
    let (_, first, _) = world.request(target(1), 64 * KIB);
    world.sleep(Duration::from_millis(900));
    let (_, second, _) = world.request(target(2), 64 * KIB);
    world.sleep(Duration::from_millis(200));
    let third = world.client.connect(target(3), 64 * KIB);
    world.settle();
    let events = world.events();
    let [closed, Event::TcpRequested { flow, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        *closed,
        Event::TcpClosed {
            flow: first,
            reset: true
        }
    );
    // Who was forgotten hears nothing, and asks again; what was decided late changes nothing.
    assert_eq!(world.to_client.len(), 0);
    let late = world.stack.accept(first, world.now());
    assert!(matches!(late, Err(AcceptError::NotPending)), "{late:?}");
    for decided in [second, *flow] {
        world.stack.accept(decided, world.now()).unwrap();
    }
    world.settle();
    assert_eq!(world.client.tcp(third).state(), State::Established);
    assert_eq!(world.stack.stats().pending, 0);
    assert_eq!(world.stack.stats().forgotten, 1);
}

#[test]
fn too_many_flows_leave_a_syn_unanswered() {
    let mut world = World::new(Config {
        max_flows: 1,
        ..Config::default()
    });
    world.connect(target(1));
    world.client.connect(target(2), 64 * KIB);
    world.settle();
    assert_eq!(world.stack.stats().dropped_max_flows, 1);
    assert_eq!(world.to_client.len(), 0);
}

#[test]
fn a_segment_in_fragments_is_shown_whole_and_opens_a_flow_when_it_is_handed_back() {
    let mut world = World::plain();
    let (from, to) = (client(4_000), target(80));
    let syn = Segment {
        flags: SYN,
        payload: vec![7; 100],
        ..Segment::default()
    };
    for fragment in in_two(&syn.packet(from, to)) {
        world.inject(&fragment);
    }
    let [Event::Reassembled { packet }] = &world.events()[..] else {
        panic!("one whole segment")
    };
    assert_eq!(craft::tcp(packet), syn);
    world.inject(packet);
    let [Event::TcpRequested { key, .. }] = world.events()[..] else {
        panic!("one request")
    };
    assert_eq!((key.client, key.target), (from, to));
}

/// Cuts an IPv4 packet without options after 64 bytes of its payload.
fn in_two(packet: &[u8]) -> [Vec<u8>; 2] {
    const HEADER: usize = 20;
    const CUT: usize = 64;
    let piece = |payload: &[u8], offset: usize, more: bool| {
        let mut bytes = [&packet[..HEADER], payload].concat();
        let length = bytes.len() as u16;
        let mut header = Ipv4Packet::new_unchecked(&mut bytes[..]);
        header.set_total_len(length);
        header.set_dont_frag(false);
        header.set_frag_offset(offset as u16);
        header.set_more_frags(more);
        header.fill_checksum();
        bytes
    };
    let (first, second) = packet[HEADER..].split_at(CUT);
    [piece(first, 0, true), piece(second, CUT, false)]
}
