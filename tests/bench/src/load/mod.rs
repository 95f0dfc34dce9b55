//! What makes the traffic: one program that serves in a pod and asks on the laptop.
//!
//! A connection begins with one byte that says what it is for ([`protocol`]); the `G` of a `GET` is one. Throughput is counted
//! where the bytes arrive, between two moments well inside the transfer, so no queue on the way is
//! taken for a fast path. Nothing depends on a connection that is closed in one direction, as some
//! of the ways don't carry that.

pub mod connections;
mod http;
pub mod idle;
pub mod lookups;
pub mod protocol;
pub mod relay;
pub mod report;
pub mod requests;
pub mod round_trips;
pub mod server;
pub mod throughput;
