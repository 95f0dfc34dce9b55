//! HTTP/1.0 and HTTP/1.1: the client's bytes, each request where it belongs.

mod answer;
mod body;
mod chunked;
mod exchange;
mod framing;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod head;
mod kept;
mod pass;
mod serve;
mod upgrade;

pub use head::repeatable;
pub(crate) use serve::serve;
