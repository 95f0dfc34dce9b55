//! The flow protocol between a machine and the traffic manager.
//!
//! One gRPC stream carries one flow. Its first frame opens; the answer says what the far end said, so
//! that the near end can say the same. Then data, an end per direction, or a reset:
//!
//! ```text
//! open ──►                 open ──►
//!      ◄── opened               ◄── failed(refused | unreachable | …)
//! data ◄─► data
//! end  ◄─► end             reset ◄─► at any time
//! ```
//!
//! A TCP flow outlives its carrier: both sides keep what the other hasn't acknowledged ([`ledger`]),
//! and go on from there over another one ([`carry`]).
//!
//! [`frame`] is the vocabulary, [`open`] the side that asks, [`socket`] joins an opened flow with a
//! connection of the kernel's, [`pipe`] with a byte stream in this process, [`datagram`] does so for UDP; [`datagram_queue`]
//! is between a socket or a stack and the flows of its datagrams.
//! [`splice`] joins two of the kernel's. [`outgoing`] is the way of all frames to their stream, [`rpc`] the streams themselves.

pub mod attempts;
pub mod backlog;
pub mod budget;
mod carrier;
pub mod carry;
pub mod datagram;
pub mod datagram_queue;
mod farewell;
pub mod frame;
pub mod ledger;
#[cfg(test)]
mod near;
pub mod open;
pub mod outgoing;
mod pieces;
pub mod pipe;
mod receive_buffer;
mod reset;
pub mod rpc;
pub mod socket;
pub mod splice;
#[cfg(test)]
mod testing;

pub use carrier::Carrier;
pub use farewell::farewell;

/// Most bytes in one data frame: one HTTP/2 frame.
pub const CHUNK: usize = 60 << 10;
