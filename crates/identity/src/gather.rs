//! Writing once what several tasks have said: small writes wait until everybody who can speak now has
//! spoken. Each write wakes every process on the way, and those cost more than its bytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a write that isn't worth a copy.
const LARGE: usize = 16 << 10;
/// Most bytes that wait.
const MOST: usize = 64 << 10;

/// A stream whose first flush lets all other tasks that are ready run before it writes.
#[derive(Debug)]
pub struct Gather<S> {
    stream: S,
    waiting: Vec<u8>,
    /// How much of `waiting` has been written.
    written: usize,
    /// The others have had their turn.
    yielded: bool,
}

impl<S> Gather<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            waiting: Vec::new(),
            written: 0,
            yielded: false,
        }
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    /// Writes what waits.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            let rest = &self.waiting[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.waiting.clear();
        self.written = 0;
        self.yielded = false;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if count >= LARGE || self.waiting.len() + count > MOST {
            ready!(self.poll_drain(cx))?;
        }
        if count >= LARGE {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        }
        for piece in pieces {
            self.waiting.extend_from_slice(piece);
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.waiting.is_empty() && !self.yielded {
            self.yielded = true;
            // A task that wakes itself is behind all that are ready.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    use futures::FutureExt as _;
    use tokio::io::AsyncWriteExt as _;

    /// Keeps each write apart, takes at most so many bytes of one, and now and then none at all.
    #[derive(Default)]
    struct Wire {
        writes: Vec<Vec<u8>>,
        takes: VecDeque<usize>,
    }

    impl AsyncWrite for Wire {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let takes = self.takes.pop_front().unwrap_or(usize::MAX);
            if takes == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let count = takes.min(bytes.len());
            self.writes.push(bytes[..count].to_vec());
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_said_before_the_flush_is_done_leaves_together() {
        let mut gather = Gather::new(Wire::default());
        gather.write_all(b"one ").await.unwrap();
        assert!(gather.flush().now_or_never().is_none(), "nobody else spoke");
        gather.write_all(b"two").await.unwrap();
        assert!(gather.stream.writes.is_empty());
        gather.flush().await.unwrap();
        assert_eq!(gather.stream.writes, [b"one two"]);
        gather.flush().now_or_never().unwrap().unwrap();
        gather.write_all(b"three").await.unwrap();
        gather.shutdown().await.unwrap();
        assert_eq!(gather.stream.writes[1..], [b"three"]);
    }

    #[tokio::test]
    async fn bytes_keep_their_order_whatever_their_sizes_and_however_little_is_taken() {
        let mut gather = Gather::new(Wire::default());
        gather.stream.takes = [3, 0, 70_000, 0, 1, 5, 0, 9_000].into();
        let text: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
        let mut rest = &text[..];
        for length in [10, 20_000, 1, 60_000, 5, 9_000, 9_000, 9_000, 100_000, 7].repeat(9) {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            gather.write_all(piece).await.unwrap();
            rest = after;
            if length == 5 {
                gather.flush().await.unwrap();
            }
            assert!(gather.waiting.len() <= MOST);
        }
        gather.flush().await.unwrap();
        assert_eq!(
            gather.stream.writes.concat(),
            text[..text.len() - rest.len()]
        );
        assert!(rest.is_empty());
    }
}
