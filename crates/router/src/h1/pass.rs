//! Passes one message on, byte for byte and no further.

use std::io;

use bytes::Buf as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::Body;
use super::chunked::BadChunk;
use crate::peer::{Reader, Writer};

/// What is to be passed on of a message. Its bytes are the first that a reader hasn't used.
#[derive(Debug)]
pub(crate) struct Message {
    /// So many bytes in the reader's buffer are known to belong to it.
    ready: usize,
    body: Body,
    bad: bool,
}

/// How a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    Whole,
    /// Its side ended before.
    Cut,
}

/// Why a message could not be passed on.
#[derive(Debug)]
pub(crate) enum PassError {
    Read(io::Error),
    Write(io::Error),
    /// Where it ends can't be known. The bytes that say so are in the reader's buffer.
    Unclear,
}

impl Message {
    /// A message whose head has so many bytes.
    pub(crate) fn new(head: usize, body: Body) -> Self {
        Self {
            ready: head,
            body,
            bad: false,
        }
    }

    /// Everything that a side says until it ends.
    pub(crate) fn all() -> Self {
        Self::new(0, Body::UntilClose)
    }

    /// How many bytes, known to belong to it, are still in the reader's buffer.
    pub(crate) fn ready(&self) -> usize {
        self.ready
    }

    /// How many of these bytes, that begin with the first that weren't used, belong to it.
    pub(crate) fn come(&mut self, buffer: &[u8]) -> usize {
        self.look(buffer);
        self.ready
    }

    /// Passes it on. Cancel safe: called again, it goes on where it was.
    pub(crate) async fn pass<R, W>(
        &mut self,
        from: &mut Reader<R>,
        to: &mut Writer<W>,
    ) -> Result<Passed, PassError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            self.look(&from.buffer);
            if self.ready > 0 {
                let written = to.write(&mut from.buffer, self.ready).await;
                self.ready -= written.map_err(PassError::Write)?;
                continue;
            }
            to.flush().await.map_err(PassError::Write)?;
            if self.bad {
                return Err(PassError::Unclear);
            }
            if self.body.is_done() {
                return Ok(Passed::Whole);
            }
            if !from.fill().await.map_err(PassError::Read)? {
                if self.body == Body::UntilClose {
                    return Ok(Passed::Whole);
                }
                // A line of a chunk may have begun.
                while !from.buffer.is_empty() {
                    let rest = from.buffer.len();
                    let written = to.write(&mut from.buffer, rest).await;
                    written.map_err(PassError::Write)?;
                }
                to.flush().await.map_err(PassError::Write)?;
                return Ok(Passed::Cut);
            }
        }
    }

    /// Reads it for nobody, unless it is longer than that.
    pub(crate) async fn drain<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut Reader<R>,
        mut most: u64,
    ) -> Passed {
        loop {
            self.look(&from.buffer);
            let count = std::mem::take(&mut self.ready);
            from.buffer.advance(count);
            if self.body.is_done() {
                return Passed::Whole;
            }
            most = most.saturating_sub(count as u64);
            if self.bad || most == 0 || !matches!(from.fill().await, Ok(true)) {
                return Passed::Cut;
            }
        }
    }

    fn look(&mut self, buffer: &[u8]) {
        if self.bad || self.body.is_done() {
            return;
        }
        match self.body.take(&buffer[self.ready..]) {
            Ok(count) => self.ready += count,
            Err(BadChunk) => self.bad = true,
        }
    }
}
