//! The gRPC service `Flows` (`proto/kdev/v1/manager.proto`), without tonic's streams of messages.
//!
//! tonic writes and reads the messages of a stream through buffers that stay as large as the largest message
//! was, for as long as the stream lives: some 100 KB for a flow that carried a page once and is idle since.
//! It copies every byte into them, too. Here a message of data is a few bytes and the payload itself, what
//! comes has a buffer of its size, and between messages a stream keeps nothing. HTTP/2, and what else gRPC
//! needs, is hyper's and tonic's; the protocol is "gRPC over HTTP2" in gRPC's documentation.
//!
//! [`client`] and [`server`] are the two ends of a call, `write` and [`read`] are how frames become bytes
//! and bytes frames.

mod body;
pub mod client;
pub mod read;
pub mod server;
mod write;

pub use body::Incoming;

/// Where the calls are found.
const SERVICE: &str = "kdev.v1.Flows";
const FLOW: &str = "/kdev.v1.Flows/Flow";
const ACCEPT: &str = "/kdev.v1.Flows/Accept";
/// What gRPC's requests and answers say that they are.
const CONTENT_TYPE: &str = "application/grpc";

/// Bytes before a message: one for compression, four for its length ("Length-Prefixed-Message").
const PREFIX: usize = 5;
/// The message that follows isn't compressed; nothing of ours ever is.
const PLAIN: u8 = 0;

#[cfg(test)]
mod tests;
