//! How much of everything a connection may have.

use std::time::Duration;

/// How much of everything a client's connection may have. The defaults suit most services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The bytes of a request's head; a client that sends more is answered 431 (RFC 6585 section 5).
    pub head_bytes: usize,
    /// The header lines of a request; as `head_bytes`.
    pub headers: usize,
    /// How long a client may be silent before the pods are asked to speak: in some protocols the server does first.
    pub first_byte: Duration,
    /// How long a head may take from its first byte to its last.
    pub head_time: Duration,
    /// How long an upstream connection is kept without a request.
    pub idle_upstream: Duration,
    /// How many upstream connections are kept for one HTTP/1 client; the one longest unused makes room.
    pub upstreams: usize,
    /// How much of a body that nobody wants is read so that the connection stays usable.
    pub drain: u64,
    /// How long a connection that was closed from here is read, so that the client still sees the last answer.
    pub linger: Duration,
}

/// A limit that a client has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    /// It was silent for [`Limits::first_byte`], so that the pods are listened to as well; or it said that long not what it
    /// wants of TLS, and the pods have it.
    FirstByte,
    /// Its head took longer than [`Limits::head_time`]; the pods have it, or it was answered 408.
    HeadTime,
    /// Its head was larger than [`Limits::head_bytes`] or had more lines than [`Limits::headers`]; it was answered 431.
    HeadSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 << 10,
            headers: 256,
            first_byte: Duration::from_secs(1),
            head_time: Duration::from_secs(10),
            idle_upstream: Duration::from_secs(300),
            upstreams: 16,
            drain: 256 << 10,
            linger: Duration::from_secs(1),
        }
    }
}
