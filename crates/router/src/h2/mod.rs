//! HTTP/2: each stream of the client's connection becomes one on the connection of its destination.

mod ahead;
mod answer;
mod body;
mod copy;
mod head;
mod pipe;
mod serve;
mod spoken;
mod stream;
mod upstream;

pub(crate) use serve::serve;

/// What may be under way on one stream, and on a connection, before the other side has taken it.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// What one stream may have taken, but not written.
const SEND_BUFFER: usize = 256 << 10;
/// How many streams a client may have at once.
const STREAMS: u32 = 250;
