//! Large packets and what the metadata says about them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod common;

use common::craft::{self, ACK, SYN, Segment};
use common::{World, pattern, target, target6, wire};
use kdev_netstack::{Config, Event, PacketBuffer, SegmentKind};
use proptest::prelude::*;
use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket};

/// A SYN with the options of a real client.
fn syn(v6: bool, mss: u16, scale: u8) -> Vec<u8> {
    let (from, to) = if v6 {
        (craft::client6(5_000), target6(80))
    } else {
        (craft::client(5_000), target(80))
    };
    let plain = Segment {
        seq: 1_000,
        flags: SYN,
        window: 65_535,
        ..Segment::default()
    };
    let mut bytes = plain.packet(from, to);
    let ip_len = if v6 { 40 } else { 20 };
    bytes[ip_len + 12] = 7 << 4;
    bytes.extend_from_slice(&[2, 4, (mss >> 8) as u8, mss as u8, 3, 3, scale, 0]);
    let (source, target) = (IpAddress::from(from.ip()), IpAddress::from(to.ip()));
    if v6 {
        Ipv6Packet::new_unchecked(&mut bytes[..]).set_payload_len(28);
    } else {
        let mut ip = Ipv4Packet::new_unchecked(&mut bytes[..]);
        ip.set_total_len(48);
        ip.fill_checksum();
    }
    TcpPacket::new_unchecked(&mut bytes[ip_len..]).fill_checksum(&source, &target);
    bytes
}

fn verify(packet: &[u8]) -> bool {
    if packet[0] >> 4 == 4 {
        let ip = Ipv4Packet::new_checked(packet).unwrap();
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        ip.verify_checksum() && tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into())
    } else {
        let ip = Ipv6Packet::new_checked(packet).unwrap();
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn cutting_a_packet_by_its_metadata_gives_valid_segments_of_the_same_bytes(
        v6: bool,
        mtu in 1_280usize..3_000,
        mss in 100u16..3_000,
        length in 1usize..300_000,
        fin: bool,
    ) {
        let mut world = World::new(Config { mtu, ..Config::default() });
        let now = world.now();
        let (from, to) = if v6 {
            (craft::client6(5_000), target6(80))
        } else {
            (craft::client(5_000), target(80))
        };
        let stack = &mut world.stack;
        let mut buffer = PacketBuffer::new(12);
        stack.handle_packet(&syn(v6, mss, 7), kdev_netstack::Checksum::Unverified, now);
        let Some(Event::TcpRequested { flow, .. }) = stack.poll_event() else { panic!() };
        stack.accept(flow, now).unwrap();
        let offload = stack.poll_packet(&mut buffer, now).unwrap();
        let syn_ack = wire::complete(buffer.packet(), offload).remove(0);
        prop_assert!(verify(&syn_ack));
        let options = &craft::transport(&syn_ack)[20..24];
        let ours = mtu - if v6 { 60 } else { 40 };
        prop_assert_eq!(options, [2, 4, (ours >> 8) as u8, ours as u8], "the MSS of the real MTU");

        let seq = craft::tcp(&syn_ack).seq.wrapping_add(1);
        let ack = Segment { seq: 1_001, ack: seq, flags: ACK, window: 65_535, payload: vec![] };
        let ack = ack.packet(from, to);
        stack.handle_packet(&ack, kdev_netstack::Checksum::Unverified, now);
        prop_assert_eq!(stack.send(flow, &pattern(0, length)), length);
        if fin {
            stack.shutdown(flow);
        }
        let mut received = Vec::new();
        let mut fins = 0;
        while let Some(offload) = stack.poll_packet(&mut buffer, now) {
            let checksum = offload.checksum.unwrap();
            prop_assert_eq!(usize::from(checksum.start), if v6 { 40 } else { 20 });
            prop_assert_eq!(checksum.offset, 16);
            if let Some(segmentation) = offload.segmentation {
                prop_assert_eq!(segmentation.kind == SegmentKind::TcpV6, v6);
                prop_assert_eq!(usize::from(segmentation.size), ours.min(mss.into()));
            }
            for packet in wire::complete(buffer.packet(), offload) {
                prop_assert!(packet.len() <= mtu);
                prop_assert!(verify(&packet));
                let segment = craft::tcp(&packet);
                prop_assert!(segment.payload.len() <= usize::from(mss));
                prop_assert_eq!(segment.seq, seq.wrapping_add(received.len() as u32));
                fins += u32::from(segment.flags & craft::FIN);
                received.extend_from_slice(&segment.payload);
            }
        }
        prop_assert!(received == pattern(0, length), "the bytes differ");
        prop_assert_eq!(fins, u32::from(fin));
    }
}
