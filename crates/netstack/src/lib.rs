//! IP packets to flows: a smoltcp facade without IO.
//!
//! A [`Stack`] stands behind a TUN device and answers for every address routed there. TCP
//! connections become flows, whose handshake waits until the owner knows whether the target can be
//! reached; UDP datagrams become events. The stack has no socket, no thread and no clock: packets,
//! decisions and times go in, packets and events come out.
//!
//! Decisive for its speed (each measured):
//! - every flow has a smoltcp socket set of its own, found by its addresses: a shared set is
//!   scanned for every packet;
//! - what leaves is up to 64 KiB per packet, cut by the device ([`Offload`]), and so is what
//!   comes in;
//! - packets are written into the caller's buffer when polled, once per batch;
//! - buffers are large, but resident only where bytes were written.

mod clock;
mod config;
mod echo;
mod event;
mod events;
mod flow;
mod flow_id;
mod fragments;
mod held;
mod held_syn;
mod ip;
mod link;
mod memory;
mod offload;
mod reassembly;
mod reply;
mod segment;
mod socket;
mod stack;
mod stats;
mod tcp;
mod time_wait;
mod udp;
mod window;
mod workaround;

pub use config::{Config, MAX_PACKET};
pub use echo::MAX_ECHO;
pub use event::{AcceptError, Event, Recv, SendDatagramError, Unreachable};
pub use flow_id::{FlowId, FlowKey};
pub use offload::{Checksum, Offload, PacketBuffer, SegmentKind, Segmentation, UnfinishedChecksum};
pub use stack::Stack;
pub use stats::Stats;
pub use udp::MAX_DATAGRAM;
