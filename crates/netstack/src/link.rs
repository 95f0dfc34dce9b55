//! The device that smoltcp believes in: one packet in, packets out, and what smoltcp leaves undone.
//!
//! With segmentation on, smoltcp is told of an MTU of 64 KiB and writes large packets without
//! checksums; this file then states how to cut them. smoltcp's own metadata is not used: version
//! 0.14 gives none for IPv6 and drops what exceeds the MTU there.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use smoltcp::iface;
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::wire::{HardwareAddress, IpProtocol};

use crate::MAX_PACKET;
use crate::clock::Clock;
use crate::ip;
use crate::offload::{Offload, PacketBuffer, SegmentKind, Segmentation};
use crate::segment::{self, CHECKSUM_AT, FIN, SYN, Segment, is_after};
use crate::window::Window;

/// How many bytes and packets may wait to be handed out, apart from what sockets hold.
const OUTBOX_BYTES: usize = 4 * 1024 * 1024;
const OUTBOX_PACKETS: usize = 4_096;
/// No fragment but the last is smaller at the smallest MTU.
const MIN_FRAGMENT: usize = 1_024;

const TCP_HEADER: usize = 20;

/// The MSS option comes first in smoltcp's SYN-ACK; its value is two bytes into it.
const MSS_VALUE_AT: usize = TCP_HEADER + 2;

/// Small packets that are complete before anybody asks for them.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    packets: VecDeque<(Vec<u8>, Offload)>,
    bytes: usize,
    pub(crate) dropped: u64,
}

impl Outbox {
    /// Returns whether so many bytes more would be too many.
    pub(crate) fn is_full_for(&self, bytes: usize) -> bool {
        self.bytes + bytes > OUTBOX_BYTES || self.packets.len() >= OUTBOX_PACKETS
    }

    /// Returns whether any single datagram would find room, with all its fragments.
    pub(crate) fn has_room_for_any(&self) -> bool {
        let fragments = MAX_PACKET / MIN_FRAGMENT + 1;
        self.bytes + 2 * MAX_PACKET <= OUTBOX_BYTES
            && self.packets.len() + fragments <= OUTBOX_PACKETS
    }

    /// Queues a packet, or drops it when the owner does not take earlier ones.
    pub(crate) fn push(&mut self, packet: Vec<u8>, offload: Offload) {
        if self.is_full_for(packet.len()) {
            self.dropped += 1;
            return;
        }
        self.bytes += packet.len();
        self.packets.push_back((packet, offload));
    }

    /// Returns how many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn pop(&mut self) -> Option<(Vec<u8>, Offload)> {
        let (packet, offload) = self.packets.pop_front()?;
        self.bytes -= packet.len();
        Some((packet, offload))
    }
}

/// What the packets of one flow look like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// The device's MTU in bytes.
    pub(crate) mtu: usize,
    /// The most bytes one segment may carry to the client.
    pub(crate) mss: usize,
    /// Whether the device cuts packets and finishes checksums.
    pub(crate) offload: bool,
    /// How many bytes more the client may send, whatever fits into its ring.
    pub(crate) room: usize,
}

/// What the stack last said to a client: enough to answer for a flow without asking its socket.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sent {
    started: bool,
    /// The sequence number behind the last byte sent.
    pub(crate) next: u32,
    /// Everything before it has arrived.
    pub(crate) ack: u32,
    /// The window field, as sent.
    pub(crate) window: u16,
    /// Whether a FIN was sent.
    pub(crate) fin: bool,
    /// What that window means.
    pub(crate) told: Window,
}

impl Sent {
    fn note(&mut self, segment: &Segment) {
        let end = segment.end();
        if !self.started || is_after(end, self.next) {
            self.next = end;
        }
        self.started = true;
        self.ack = segment.ack;
        self.window = segment.window;
        self.fin |= segment.has(FIN);
    }
}

/// Where packets go.
pub(crate) enum Sink<'a> {
    /// Behind those that wait already.
    Outbox(&'a mut Outbox),
    /// Right to the owner.
    Owner(&'a mut PacketBuffer, &'a mut Option<Offload>),
}

/// The device for one call to smoltcp about one flow.
pub(crate) struct Port<'a> {
    pub(crate) packet: Option<&'a [u8]>,
    pub(crate) sink: Sink<'a>,
    pub(crate) shape: Shape,
    pub(crate) sent: &'a mut Sent,
}

pub(crate) struct Incoming<'a>(&'a [u8]);

pub(crate) struct Outgoing<'b, 'a>(&'b mut Port<'a>);

impl phy::RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl phy::TxToken for Outgoing<'_, '_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let Port {
            sink, shape, sent, ..
        } = self.0;
        match sink {
            Sink::Outbox(outbox) => {
                let mut packet = vec![0; len];
                let result = write(&mut packet);
                let offload = finish(&mut packet, *shape, sent);
                outbox.push(packet, offload);
                result
            }
            Sink::Owner(buffer, offload) => {
                let packet = buffer.reserve(len);
                let result = write(packet);
                **offload = Some(finish(packet, *shape, sent));
                result
            }
        }
    }
}

impl<'a> phy::Device for Port<'a> {
    type RxToken<'b>
        = Incoming<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Outgoing<'b, 'a>
    where
        Self: 'b;

    fn receive(
        &mut self,
        _: smoltcp::time::Instant,
    ) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        Some((Incoming(self.packet.take()?), Outgoing(self)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Self::TxToken<'_>> {
        Some(Outgoing(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.shape.mtu;
        // Incoming checksums are verified before smoltcp sees a packet.
        capabilities.checksum.ipv4 = phy::Checksum::Tx;
        capabilities.checksum.tcp = phy::Checksum::Tx;
        if self.shape.offload {
            capabilities.max_transmission_unit = MAX_PACKET;
            capabilities.checksum.tcp = phy::Checksum::None;
            capabilities.segmentation.tcpv4 = NonZeroUsize::new(MAX_PACKET);
            capabilities.segmentation.tcpv6 = NonZeroUsize::new(MAX_PACKET);
        }
        capabilities
    }
}

/// Makes the one interface that serves every flow of a stack.
pub(crate) fn interface(mtu: usize, offload: bool, seed: u64, clock: &Clock) -> iface::Interface {
    let mut port = Port {
        packet: None,
        sink: Sink::Outbox(&mut Outbox::default()),
        shape: Shape {
            mtu,
            mss: mtu,
            offload,
            room: usize::MAX,
        },
        sent: &mut Sent::default(),
    };
    let mut config = iface::Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = iface::Interface::new(config, &mut port, clock.smoltcp());
    // Every target is ours to answer for.
    interface.set_any_ip(true);
    interface
}

/// Notes what a packet says, and turns what smoltcp wrote into what the device takes.
fn finish(packet: &mut [u8], shape: Shape, sent: &mut Sent) -> Offload {
    let (from, to) = ip::addresses(packet);
    let ip_len = ip::header_len(from);
    let tcp = &mut packet[ip_len..];
    let Some(mut segment) = Segment::parse(tcp) else {
        return Offload::default();
    };
    let window = sent
        .told
        .tell(&segment, segment::window_shift(tcp), shape.room);
    if window != segment.window {
        segment.window = window;
        segment::set_window(tcp, window);
    }
    sent.note(&segment);
    if !shape.offload {
        return Offload::default();
    }
    if segment.has(SYN) && segment.header_len >= MSS_VALUE_AT + 2 {
        // smoltcp announced what it believes the MTU to be.
        let mss = (shape.mtu - ip_len - TCP_HEADER) as u16;
        tcp[MSS_VALUE_AT..MSS_VALUE_AT + 2].copy_from_slice(&mss.to_be_bytes());
    }
    let pseudo = ip::pseudo_sum(from, to, IpProtocol::Tcp, tcp.len());
    tcp[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&pseudo.to_be_bytes());
    let mut offload = Offload::checksum(ip_len, CHECKSUM_AT);
    if segment.payload_len > shape.mss {
        offload.segmentation = Some(Segmentation {
            kind: if from.is_ipv4() {
                SegmentKind::TcpV4
            } else {
                SegmentKind::TcpV6
            },
            size: shape.mss as u16,
            header_len: (ip_len + segment.header_len) as u16,
        });
    }
    offload
}
