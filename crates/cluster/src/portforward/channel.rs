//! The frames of `v4.channel.k8s.io` for one forwarded port. Pure.
//!
//! Every WebSocket message begins with its channel: 0 carries data, 1 an error of the far end. The
//! first message of each channel holds nothing but the port, little-endian
//! (`k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go`).

use bytes::{Buf, Bytes};
use thiserror::Error;

/// The channel that carries the connection's bytes, both ways.
pub(super) const DATA: u8 = 0;

/// The channel on which the kubelet says why it gave up.
const ERROR: u8 = 1;

/// What one message from the pod means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Nothing to do: a channel's announcement, or an empty message.
    Nothing,
    /// Bytes from the pod.
    Data(Bytes),
    /// The forwarding ended with this error.
    Failed(PodError),
}

/// A message that breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The channel is neither data nor error.
    #[error("the message is for the unknown channel {0}")]
    UnknownChannel(u8),
    /// The channel's first message doesn't announce the port that was asked for.
    #[error("channel {0} doesn't announce the port that was asked for")]
    Announcement(u8),
}

/// An error that the kubelet or the container runtime reports about the forwarded port.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}: {message}", kind.text())]
pub struct PodError {
    /// The kind, read from the message.
    pub kind: PodErrorKind,
    /// The far end's own words.
    pub message: String,
}

/// The kinds of [`PodError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodErrorKind {
    /// Nothing in the pod listens on the port.
    Refused,
    /// The pod, or its sandbox, is gone.
    Gone,
    /// Anything else.
    Other,
}

impl PodErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::Refused => "nothing in the pod listens on the port",
            Self::Gone => "the pod is gone",
            Self::Other => "the forwarding failed",
        }
    }
}

impl PodError {
    /// Reads the kind from the far end's words, which have no structure.
    pub(super) fn parse(message: String) -> Self {
        let text = message.to_lowercase();
        let has = |part: &str| text.contains(part);
        let kind = if has("connection refused") {
            PodErrorKind::Refused
        } else if has("not found")
            || has("no such file or directory")
            || has("not running")
            || has("network namespace for sandbox") && has("closed")
        {
            PodErrorKind::Gone
        } else {
            PodErrorKind::Other
        };
        Self { kind, message }
    }
}

/// Which channels have announced themselves.
#[derive(Debug)]
pub(super) struct Channels {
    port: u16,
    announced: [bool; 2],
}

impl Channels {
    pub(super) fn new(port: u16) -> Self {
        Self {
            port,
            announced: [false; 2],
        }
    }

    /// Reads one binary message.
    pub(super) fn handle_message(&mut self, mut message: Bytes) -> Result<Frame, ProtocolError> {
        let Some(&channel) = message.first() else {
            return Ok(Frame::Nothing);
        };
        message.advance(1);
        let announced = self
            .announced
            .get_mut(usize::from(channel))
            .ok_or(ProtocolError::UnknownChannel(channel))?;
        if !*announced {
            if message[..] != self.port.to_le_bytes() {
                return Err(ProtocolError::Announcement(channel));
            }
            *announced = true;
            return Ok(Frame::Nothing);
        }
        Ok(match channel {
            _ if message.is_empty() => Frame::Nothing,
            ERROR => {
                let text = String::from_utf8_lossy(&message).trim().to_owned();
                Frame::Failed(PodError::parse(text))
            }
            _ => Frame::Data(message),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Channels {
        let mut channels = Channels::new(8080);
        for channel in [0, 1] {
            let hello = Bytes::from(vec![channel, 0x90, 0x1f]);
            assert_eq!(channels.handle_message(hello), Ok(Frame::Nothing));
        }
        channels
    }

    #[test]
    fn data_comes_without_its_channel() {
        let frame = open().handle_message(Bytes::from_static(b"\0hello"));
        assert_eq!(frame, Ok(Frame::Data(Bytes::from_static(b"hello"))));
    }

    #[test]
    fn data_that_looks_like_an_announcement_is_data_after_the_announcement() {
        let frame = open().handle_message(Bytes::from_static(b"\0\x90\x1f"));
        assert_eq!(frame, Ok(Frame::Data(Bytes::from_static(b"\x90\x1f"))));
    }

    #[test]
    fn empty_messages_mean_nothing() {
        for message in [&b""[..], b"\0", b"\x01"] {
            assert_eq!(
                open().handle_message(Bytes::from_static(message)),
                Ok(Frame::Nothing)
            );
        }
    }

    #[test]
    fn an_error_is_told_by_its_words() {
        let table = [
            (
                "error forwarding port 8080 to pod abc, uid : failed to execute portforward in network \
                 namespace \"/var/run/netns/cni-1\": failed to connect to localhost:8080 inside \
                 namespace \"abc\", IPv4: dial tcp4 127.0.0.1:8080: connect: connection refused IPv6 \
                 dial tcp6: address localhost: no suitable address found",
                PodErrorKind::Refused,
            ),
            (
                "error forwarding port 1 to pod x, uid : exit status 1: 2020/01/01 socat[1] E \
                 connect(5, AF=2 127.0.0.1:1, 16): Connection refused",
                PodErrorKind::Refused,
            ),
            (
                "error forwarding port 1 to pod x, uid : failed to find sandbox \"x\" in store: not found",
                PodErrorKind::Gone,
            ),
            (
                "error forwarding port 1 to pod x, uid : failed to execute portforward in network \
                 namespace \"/n\": failed to open netns: no such file or directory",
                PodErrorKind::Gone,
            ),
            (
                "error forwarding port 1 to pod x, uid : context deadline exceeded",
                PodErrorKind::Other,
            ),
        ];
        for (text, kind) in table {
            let message = [b"\x01", text.as_bytes()].concat();
            let frame = open().handle_message(message.into());
            let Ok(Frame::Failed(error)) = frame else {
                panic!("{frame:?}")
            };
            assert_eq!((error.kind, error.message.as_str()), (kind, text));
        }
    }

    #[test]
    fn a_wrong_port_and_an_unknown_channel_break_the_protocol() {
        let mut channels = Channels::new(8080);
        let wrong = channels.handle_message(Bytes::from_static(b"\0\x91\x1f"));
        assert_eq!(wrong, Err(ProtocolError::Announcement(0)));
        let short = channels.handle_message(Bytes::from_static(b"\x01\x90"));
        assert_eq!(short, Err(ProtocolError::Announcement(1)));
        let unknown = channels.handle_message(Bytes::from_static(b"\x02x"));
        assert_eq!(unknown, Err(ProtocolError::UnknownChannel(2)));
    }

    proptest::proptest! {
        #[test]
        fn any_messages_are_read_without_a_panic(messages: Vec<Vec<u8>>) {
            let mut channels = Channels::new(8080);
            for message in messages {
                let _ = channels.handle_message(message.into());
            }
        }
    }
}
