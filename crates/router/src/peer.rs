//! One side of a client's connection: its two directions, and what has been read and not been used.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf,
};

use crate::tap::Tap;

/// How much is read at once of a side that says little, and of one that says much.
const LITTLE: usize = 8 << 10;
const MUCH: usize = 64 << 10;

/// The client, or a destination.
#[derive(Debug)]
pub(crate) struct Peer<S> {
    pub(crate) read: Reader<S>,
    pub(crate) write: Writer<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) fn new(stream: S) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            read: Reader {
                half: read,
                buffer: BytesMut::new(),
                next: LITTLE,
            },
            write: Writer {
                half: write,
                dirty: false,
                taps: Vec::new(),
                heard: 0,
            },
        }
    }

    /// The connection itself, at the first byte that hasn't been used.
    pub(crate) fn into_stream(self) -> Unread<S> {
        Unread {
            buffer: self.read.buffer,
            taps: self.write.taps,
            stream: self.read.half.unsplit(self.write.half),
        }
    }
}

/// The direction from a side.
#[derive(Debug)]
pub(crate) struct Reader<S> {
    half: ReadHalf<S>,
    /// What was read and not used.
    pub(crate) buffer: BytesMut,
    next: usize,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    /// Reads more into the buffer; false at the end. Cancel safe.
    pub(crate) async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(self.next);
        let room = self.buffer.capacity() - self.buffer.len();
        let count = self.half.read_buf(&mut self.buffer).await?;
        self.next = if count == room { MUCH } else { LITTLE };
        Ok(count > 0)
    }

    /// Waits until a side, that has nothing to say, speaks or ends. What it says is lost.
    pub(crate) fn poll_stirs(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut byte = [0];
        let read = Pin::new(&mut self.half).poll_read(cx, &mut ReadBuf::new(&mut byte));
        read.map(|_| ())
    }

    /// Puts what was used back before what wasn't.
    pub(crate) fn put_back(&mut self, used: &[u8]) {
        self.replace(0, used);
    }

    /// Puts other bytes where the first so many are.
    pub(crate) fn replace(&mut self, first: usize, by: &[u8]) {
        let rest = &self.buffer[first..];
        let mut buffer = BytesMut::with_capacity(by.len() + rest.len());
        buffer.extend_from_slice(by);
        buffer.extend_from_slice(rest);
        self.buffer = buffer;
    }

    /// Gives memory back while nothing is expected.
    pub(crate) fn rest(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > LITTLE {
            self.buffer = BytesMut::new();
            self.next = LITTLE;
        }
    }
}

/// The direction to a side.
#[derive(Debug)]
pub(crate) struct Writer<S> {
    half: WriteHalf<S>,
    dirty: bool,
    /// Who hears what is handed over as well.
    pub(crate) taps: Vec<Tap>,
    /// So many bytes they have heard already.
    pub(crate) heard: usize,
}

impl<S: AsyncWrite + Unpin> Writer<S> {
    /// Hands over some of the buffer's first bytes, and takes them off it. Cancel safe.
    pub(crate) async fn write(&mut self, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
        let most = most.min(buffer.len());
        let count = self.half.write(&buffer[..most]).await?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let heard = self.heard.min(count);
        self.heard -= heard;
        self.taps
            .iter_mut()
            .for_each(|tap| tap.say(&buffer[heard..count]));
        buffer.advance(count);
        self.dirty = true;
        Ok(count)
    }

    /// Sends what a stream may have kept back. Cancel safe.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        if self.dirty {
            self.half.flush().await?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Hands over all.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.half.write_all(bytes).await?;
        self.half.flush().await
    }

    /// Says that nothing more comes.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        self.half.shutdown().await
    }
}

/// A connection of which more has been read than used.
#[derive(Debug)]
pub(crate) struct Unread<S> {
    buffer: BytesMut,
    taps: Vec<Tap>,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Unread<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        let count = self.buffer.len().min(into.remaining());
        into.put_slice(&self.buffer[..count]);
        self.buffer.advance(count);
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unread<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.taps
            .iter_mut()
            .for_each(|tap| tap.say(&bytes[..count]));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
