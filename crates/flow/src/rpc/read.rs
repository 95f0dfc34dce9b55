//! How bytes become frames.

use bytes::{Buf as _, Bytes, BytesMut};
use kdev_proto::v1::FlowFrame;
use prost::Message as _;
use tonic::Status;

use super::{PLAIN, PREFIX};

/// Most bytes of a message: the largest datagram, and the names in the frame that opens a flow.
const MOST: usize = 128 << 10;

/// Why no more frames come.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// What came isn't a frame: the other side breaks the protocol.
    #[error(transparent)]
    NoFrame(#[from] NoFrame),
    /// The carrier broke, or the other side gave the call up.
    #[error("the stream broke: {0}")]
    Carrier(#[source] Box<Status>),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Carrier(Box::new(status))
    }
}

/// Bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFrame {
    /// Compression was never asked for.
    #[error("a message is compressed")]
    Compressed,
    /// No frame has so many bytes.
    #[error("a message of {0} bytes")]
    TooLong(u32),
    /// What Protocol Buffers say of it.
    #[error("a message that can't be read: {0}")]
    Undecodable(#[from] prost::DecodeError),
}

/// Puts messages together from pieces that end anywhere.
///
/// A message has a buffer of its size, which goes with it: the payload of a frame keeps as much memory as
/// it has bytes, and a reader between two messages keeps none.
#[derive(Debug, Default)]
pub struct Reader {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are there.
    prefixed: usize,
    message: BytesMut,
    /// Bytes of the message that aren't.
    missing: usize,
}

impl Reader {
    /// Takes from the front of `piece` what the next frame needs; `None` when that was all, and more has to come.
    ///
    /// # Errors
    ///
    /// When the bytes are no frame. Nothing that follows makes sense then.
    pub fn next(&mut self, piece: &mut Bytes) -> Result<Option<FlowFrame>, NoFrame> {
        if self.prefixed < PREFIX {
            let count = (PREFIX - self.prefixed).min(piece.len());
            piece.copy_to_slice(&mut self.prefix[self.prefixed..][..count]);
            self.prefixed += count;
            if self.prefixed < PREFIX {
                return Ok(None);
            }
            self.missing = length(self.prefix)?;
            self.message = BytesMut::with_capacity(self.missing);
        }
        let now = piece.split_to(self.missing.min(piece.len()));
        self.message.extend_from_slice(&now);
        self.missing -= now.len();
        if self.missing > 0 {
            return Ok(None);
        }
        self.prefixed = 0;
        let message = std::mem::take(&mut self.message).freeze();
        Ok(Some(FlowFrame::decode(message)?))
    }

    /// Whether a message has begun and isn't whole.
    pub fn is_amid(&self) -> bool {
        self.prefixed > 0
    }
}

fn length(prefix: [u8; PREFIX]) -> Result<usize, NoFrame> {
    let [flag, length @ ..] = prefix;
    if flag != PLAIN {
        return Err(NoFrame::Compressed);
    }
    let length = u32::from_be_bytes(length);
    match usize::try_from(length) {
        Ok(bytes) if bytes <= MOST => Ok(bytes),
        _ => Err(NoFrame::TooLong(length)),
    }
}
