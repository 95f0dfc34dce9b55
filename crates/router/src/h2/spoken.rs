//! Whether a destination speaks HTTP/2 at all: what doesn't answers the preface as HTTP/1 does, which as frames would
//! be one that is far too large.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What an answer of HTTP/1 begins with, RFC 9112 section 4.
const HTTP1: &[u8] = b"HTTP/1.";

/// What is known of a destination, shared with its streams.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spoken(Arc<AtomicBool>);

impl Spoken {
    /// Whether it has said anything that may be HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection to a destination, which breaks where that answers as HTTP/1 does.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    spoken: Spoken,
    /// How much of an answer of HTTP/1 was heard.
    heard: usize,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, spoken: Spoken) -> Self {
        Self {
            stream,
            spoken,
            heard: 0,
        }
    }

    /// Looks at the first bytes.
    fn look(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            if HTTP1.get(self.heard) != Some(byte) {
                self.spoken.0.store(true, Ordering::Relaxed);
                return Ok(());
            }
            self.heard += 1;
            if self.heard == HTTP1.len() {
                let what = "the destination answers as HTTP/1 does";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        if !self.spoken.is_http2() {
            self.look(&into.filled()[before..])?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
