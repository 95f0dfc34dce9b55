//! The connection under a forward, with a node at its other end.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::heard::Heard;
use crate::written::Written;

/// Most bytes that a forward reads at once, and as many that it keeps.
const MOST_READ: usize = 256 << 10;

pub struct Connection {
    /// What the node said and nobody read yet.
    said: BytesMut,
    pub said_in_all: usize,
    pub heard: Heard,
    pub written: Written,
    /// Most bytes that go one way at once.
    pub piece: usize,
    /// How many bytes the node takes.
    pub room: usize,
    /// The node says nothing more.
    pub is_closed: bool,
    pub is_broken: bool,
    /// The forward was shut down.
    pub is_shut: bool,
    is_flushed: bool,
    pub waits_to_read: bool,
    pub waits_to_write: bool,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            said: BytesMut::new(),
            said_in_all: 0,
            heard: Heard::default(),
            written: Written::default(),
            piece: usize::MAX,
            room: usize::MAX,
            is_closed: false,
            is_broken: false,
            is_shut: false,
            is_flushed: true,
            waits_to_read: false,
            waits_to_write: false,
        }
    }
}

impl Connection {
    pub fn say(&mut self, bytes: &[u8]) {
        if !self.is_closed {
            self.said.extend_from_slice(bytes);
            self.said_in_all += bytes.len();
        }
    }

    /// Nothing waits to be written.
    pub fn owes_nothing(&self) -> bool {
        // One pong does for all pings that came before it was written.
        let last = self.heard.unanswered.last();
        self.written.is_complete() && last.is_none_or(|ping| self.written.last_pong == Some(*ping))
    }

    /// Whether a read had to fail that way.
    pub fn judge_failure(&self, error: &io::Error) {
        match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::NotConnected if self.is_broken => {}
            _ => self.heard.judge_failure(error),
        }
    }

    /// Whether a write, a flush or a shutdown had to come out that way; true when it failed.
    pub fn judge_write(&self, outcome: Poll<io::Result<()>>) -> bool {
        match outcome {
            Poll::Ready(Ok(())) => assert!(self.written.is_complete() && self.is_flushed),
            Poll::Ready(Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
                assert!(self.is_broken || self.is_shut);
                return true;
            }
            Poll::Pending => assert!(self.waits_to_write && self.room == 0),
        }
        false
    }
}

pub struct Shared(pub Rc<RefCell<Connection>>);

impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self.0.borrow_mut();
        assert!((1..=MOST_READ).contains(&buffer.remaining()));
        assert!(this.heard.is_empty(), "it reads on for nothing");
        if this.is_broken {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        }
        if this.said.is_empty() {
            if this.is_closed {
                this.heard.handle_closed();
                return Poll::Ready(Ok(()));
            }
            this.waits_to_read = true;
            return Poll::Pending;
        }
        let length = this.said.len().min(this.piece).min(buffer.remaining());
        this.heard.handle_read(&this.said[..length]);
        buffer.put_slice(&this.said[..length]);
        this.said.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Shared {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self.0.borrow_mut();
        if this.is_broken || this.is_shut {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        if this.room == 0 {
            this.waits_to_write = true;
            return Poll::Pending;
        }
        let length = bytes.len().min(this.piece).min(this.room);
        if this.room < usize::MAX {
            this.room -= length;
        }
        this.is_flushed = false;
        this.written
            .handle_written(&bytes[..length], &mut this.heard.unanswered);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().is_flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.0.borrow_mut();
        if this.is_broken {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        (this.is_flushed, this.is_shut) = (true, true);
        Poll::Ready(Ok(()))
    }
}
