//! Questions to a manager that tell whether a connection to it passes anything.

use bytes::Bytes;

use crate::v1::EchoMessage;

impl EchoMessage {
    /// The most that is said back, in bytes: more than a packet takes on any usual link, jumbo frames included, so that what drops
    /// large ones only doesn't pass it (RFC 2923 section 2.1).
    pub const MAX: usize = 16 << 10;

    /// As little as can be said.
    pub fn small() -> Self {
        Self::default()
    }

    /// Full packets, both ways.
    pub fn full() -> Self {
        Self {
            payload: Bytes::from_static(&[0; Self::MAX]),
        }
    }
}
