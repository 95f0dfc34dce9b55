//! What a device does with a packet and its offload metadata, written from the virtio
//! specification and not from the stack.

use kdev_netstack::{Offload, SegmentKind};
use smoltcp::wire::checksum::{combine, data, pseudo_header};
use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};

/// Returns the complete packets an offloaded one stands for.
pub fn complete(packet: &[u8], offload: Offload) -> Vec<Vec<u8>> {
    let Some(segmentation) = offload.segmentation else {
        let mut packet = packet.to_vec();
        if let Some(checksum) = offload.checksum {
            let start = usize::from(checksum.start);
            let at = start + usize::from(checksum.offset);
            let sum = !data(&packet[start..]);
            packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        return vec![packet];
    };
    let checksum = offload
        .checksum
        .expect("a packet to cut has an unfinished checksum");
    let (headers, payload) = packet.split_at(usize::from(segmentation.header_len));
    let ip_len = usize::from(checksum.start);
    let v4 = segmentation.kind == SegmentKind::TcpV4;
    assert_eq!(packet[0] >> 4, if v4 { 4 } else { 6 });
    let size = usize::from(segmentation.size);
    assert!(payload.len() > size, "nothing to cut");
    let count = payload.len().div_ceil(size);
    let cut = payload.chunks(size).enumerate().map(|(index, chunk)| {
        let mut bytes = [headers, chunk].concat();
        let len = bytes.len();
        let (source, target): (IpAddress, IpAddress);
        if v4 {
            let mut header = Ipv4Packet::new_unchecked(&mut bytes[..]);
            header.set_total_len(len as u16);
            header.set_ident(header.ident().wrapping_add(index as u16));
            header.fill_checksum();
            (source, target) = (header.src_addr().into(), header.dst_addr().into());
        } else {
            let mut header = Ipv6Packet::new_unchecked(&mut bytes[..]);
            header.set_payload_len((len - 40) as u16);
            (source, target) = (header.src_addr().into(), header.dst_addr().into());
        }
        let mut tcp = TcpPacket::new_unchecked(&mut bytes[ip_len..]);
        tcp.set_seq_number(tcp.seq_number() + index * size);
        if index + 1 < count {
            tcp.set_fin(false);
            tcp.set_psh(false);
        }
        tcp.set_checksum(0);
        let pseudo = pseudo_header(&source, &target, IpProtocol::Tcp, (len - ip_len) as u32);
        let sum = !combine(&[pseudo, data(&bytes[ip_len..])]);
        let at = ip_len + usize::from(checksum.offset);
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    });
    cut.collect()
}
