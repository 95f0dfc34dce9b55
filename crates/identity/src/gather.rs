//! Writing once what several tasks have said: small writes wait until everybody who can speak now has
//! spoken. Each write wakes every process on the way, and those cost more than its bytes.
//!
//! For tasks that read each time that they run, as that of HTTP/2 does: a flush is a promise, kept when the
//! task runs again, behind all that are ready.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a write that isn't worth a copy.
const LARGE: usize = 16 << 10;
/// Most bytes that wait.
const MOST: usize = 64 << 10;

/// A stream that writes at once, until it is told to [`gather`](Gather::gather).
#[derive(Debug)]
pub struct Gather<S> {
    stream: S,
    gathers: bool,
    waiting: Vec<u8>,
    /// How much of `waiting` has been written.
    written: usize,
    /// The task runs again, and what waits is written then.
    promised: bool,
    /// It has run again, and not all was taken yet.
    due: bool,
}

impl<S> Gather<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            gathers: false,
            waiting: Vec::new(),
            written: 0,
            promised: false,
            due: false,
        }
    }

    /// From now on, what is small waits for the flush after the next.
    pub(crate) fn gather(&mut self) {
        self.gathers = true;
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
        (self.promised, self.due) = (false, false);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.due |= self.promised;
        // What can't be written now is with the next write or flush.
        if self.due
            && let Poll::Ready(written) = self.poll_drain(cx)
        {
            written?;
        }
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
        if !self.gathers {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        }
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
        if !self.waiting.is_empty() {
            if !self.due {
                self.promised = true;
                // A task that wakes itself is behind all that are ready.
                cx.waker().wake_by_ref();
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_drain(cx))?;
        }
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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

    impl AsyncRead for Wire {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// The task of HTTP/2 runs again.
    async fn run_again(gather: &mut Gather<Wire>) {
        assert!(gather.read_u8().now_or_never().is_none(), "nothing comes");
        gather.flush().await.unwrap();
    }

    #[tokio::test]
    async fn all_that_is_said_until_the_task_runs_again_leaves_together() {
        let mut gather = Gather::new(Wire::default());
        gather.write_all(b"hands").await.unwrap();
        assert_eq!(gather.stream.writes, [b"hands"], "before it gathers");
        gather.gather();
        for word in [b"one ", b"two ", b"six "] {
            gather.write_all(word).await.unwrap();
            gather.flush().now_or_never().unwrap().unwrap();
        }
        assert_eq!(gather.stream.writes.len(), 1);
        run_again(&mut gather).await;
        assert_eq!(gather.stream.writes[1..], [b"one two six "]);
        run_again(&mut gather).await;
        gather.write_all(b"end").await.unwrap();
        gather.shutdown().await.unwrap();
        assert_eq!(gather.stream.writes[2..], [b"end"]);
    }

    #[tokio::test]
    async fn who_flushes_once_runs_again_and_what_was_said_leaves_however_little_is_taken() {
        let mut gather = Gather::new(Wire::default());
        gather.gather();
        gather.stream.takes = [0, 2, 0].into();
        gather.write_all(b"word").await.unwrap();
        gather.flush().await.unwrap();
        std::future::poll_fn(|cx| {
            let mut byte = [0];
            let read = Pin::new(&mut gather).poll_read(cx, &mut ReadBuf::new(&mut byte));
            assert!(read.is_pending());
            match gather.stream.writes.len() {
                2 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
        assert_eq!(gather.stream.writes, [b"wo", b"rd"]);
    }

    #[tokio::test]
    async fn bytes_keep_their_order_whatever_their_sizes_and_however_little_is_taken() {
        let mut gather = Gather::new(Wire::default());
        gather.gather();
        gather.stream.takes = [3, 0, 70_000, 0, 1, 5, 0, 9_000].into();
        let text: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
        let mut rest = &text[..];
        for length in [10, 20_000, 1, 60_000, 5, 9_000, 9_000, 9_000, 100_000, 7].repeat(9) {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            gather.write_all(piece).await.unwrap();
            rest = after;
            if length == 5 {
                run_again(&mut gather).await;
            }
            assert!(gather.waiting.len() <= MOST);
        }
        gather.flush().await.unwrap();
        run_again(&mut gather).await;
        assert_eq!(
            gather.stream.writes.concat(),
            text[..text.len() - rest.len()]
        );
        assert!(rest.is_empty());
    }
}
