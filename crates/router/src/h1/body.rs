//! How far a message's body reaches. No IO.

use super::chunked::{BadChunk, Chunked};

/// What is missing of a message's body, RFC 9112 section 6.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks and trailers.
    Chunked(Chunked),
    /// All until the connection ends.
    UntilClose,
}

impl Body {
    pub(crate) const NONE: Self = Self::Length(0);

    pub(crate) fn chunked() -> Self {
        Self::Chunked(Chunked::default())
    }

    /// How many of the bytes that follow those taken before belong to the body; see [`Chunked::take`].
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        match self {
            Self::UntilClose => Ok(bytes.len()),
            Self::Chunked(chunked) => chunked.take(bytes),
            Self::Length(left) => {
                let count =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= count as u64;
                Ok(count)
            }
        }
    }

    /// How many bytes are missing, where that is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Whether nothing is missing.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::UntilClose => false,
        }
    }
}
