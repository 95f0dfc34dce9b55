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
/// What of a request may have been taken, but not written.
const SEND_BUFFER: usize = 256 << 10;
/// How many streams a client may have at once: more than most servers allow, as calls that wait for something are many on
/// one connection.
const STREAMS: u32 = 1000;
/// What of an answer may have been taken, but not written: all of one client's together are bounded by this and [`STREAMS`].
const ANSWER_BUFFER: usize = 64 << 10;
/// What may be under way of who speaks to somebody else, and keeps to what that one allows.
const OVERHEARD_WINDOW: u32 = 16 << 20;
/// The largest frame, and how much of heads may be referred to, where somebody else has said what is allowed.
const OVERHEARD_FRAME: u32 = (1 << 24) - 1;
const OVERHEARD_TABLE: u32 = 1 << 20;
