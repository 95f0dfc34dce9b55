//! The frames of a flow, and what an error of the kernel's becomes in them.

use std::fmt;
use std::io;

use bytes::Bytes;
use kdev_proto::v1::flow_failed::Reason;
use kdev_proto::v1::flow_frame::Kind;

use kdev_proto::v1::{
    FlowAck, FlowBlocked, FlowEnd, FlowFailed, FlowFrame, FlowOpen, FlowOpened, FlowReset,
};

fn frame(kind: Kind) -> FlowFrame {
    FlowFrame { kind: Some(kind) }
}

/// The frame that asks for a flow.
pub fn open(open: FlowOpen) -> FlowFrame {
    frame(Kind::Open(Box::new(open)))
}

/// The answer that the far end accepted.
pub fn opened() -> FlowFrame {
    resumed(0)
}

/// The answer that a flow goes on, and how much of it was received.
pub fn resumed(received: u64) -> FlowFrame {
    frame(Kind::Opened(FlowOpened { received }))
}

/// How much was handed on, and how much more than that may be under way.
pub fn ack(delivered: u64, window: u64) -> FlowFrame {
    frame(Kind::Ack(FlowAck { delivered, window }))
}

/// More is to be said than was granted.
pub fn blocked() -> FlowFrame {
    frame(Kind::Blocked(FlowBlocked { full: false }))
}

/// More is to be said than may be kept until something is acknowledged.
pub fn full() -> FlowFrame {
    frame(Kind::Blocked(FlowBlocked { full: true }))
}

/// The answer that it didn't, and why.
pub fn failed(failure: &Failed) -> FlowFrame {
    frame(Kind::Failed(FlowFailed {
        reason: failure.reason.into(),
        detail: failure.detail.clone(),
    }))
}

/// The next bytes, or one datagram.
pub fn data(bytes: Bytes) -> FlowFrame {
    frame(Kind::Data(bytes))
}

/// No more data from this side.
pub fn end() -> FlowFrame {
    frame(Kind::End(FlowEnd {}))
}

/// The connection broke.
pub fn reset() -> FlowFrame {
    frame(Kind::Reset(FlowReset {}))
}

/// Why the far end of a flow can't be had, as the far end's kernel said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What the near end tells its program.
    pub reason: Reason,
    /// For the log.
    pub detail: String,
}

impl Failed {
    /// Makes one from its parts.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Failed {}

impl From<FlowFailed> for Failed {
    fn from(failed: FlowFailed) -> Self {
        Self {
            reason: failed.reason(),
            detail: failed.detail,
        }
    }
}

/// See connect(2) for which error says what.
impl From<&io::Error> for Failed {
    fn from(error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Reason::Refused,
            io::ErrorKind::NetworkUnreachable => Reason::NetworkUnreachable,
            io::ErrorKind::TimedOut => Reason::TimedOut,
            io::ErrorKind::PermissionDenied => Reason::Prohibited,
            _ => Reason::HostUnreachable,
        };
        Self::new(reason, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_what_the_near_end_hears() {
        let table = [
            (io::ErrorKind::ConnectionRefused, Reason::Refused),
            (io::ErrorKind::HostUnreachable, Reason::HostUnreachable),
            (
                io::ErrorKind::NetworkUnreachable,
                Reason::NetworkUnreachable,
            ),
            (io::ErrorKind::TimedOut, Reason::TimedOut),
            (io::ErrorKind::PermissionDenied, Reason::Prohibited),
            (io::ErrorKind::AddrNotAvailable, Reason::HostUnreachable),
        ];
        for (kind, reason) in table {
            assert_eq!(
                Failed::from(&io::Error::from(kind)).reason,
                reason,
                "{kind:?}"
            );
        }
    }
}
