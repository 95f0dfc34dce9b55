//! A copy of what a client says, for somebody whose answers nobody hears.
//!
//! Whoever passes bytes on lets a [`Tap`] have them as well, and never waits for it. At its other end is a
//! client of its own ([`Tapped`]), served like any other, but by one destination only: so copies reach it as
//! requests do, on connections that are kept.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use kdev_rules::Head;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::{DialError, RouterError};
use crate::limits::Limits;
use crate::serve::serve;
use crate::waiting::Waiting;
use crate::ways::{First, Ways};

/// Pieces that wait at most.
const PIECES: usize = 4096;
/// Bytes that wait at most; who is slower than the client by more than that loses the copy.
const WAITING: usize = 16 << 20;
/// How long after the client's end, and after the last word of an answer, the copy's connection stays: some
/// programs stop working for a client that has ended.
const LINGER: Duration = Duration::from_secs(10);

/// What both ends know.
#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicUsize,
    broken: Notify,
}

/// Where copies go.
#[derive(Debug)]
pub(crate) struct Tap {
    pieces: Option<mpsc::Sender<Waiting>>,
    shared: Arc<Shared>,
}

/// Makes both ends.
pub(crate) fn tap() -> (Tap, Tapped) {
    let (sender, pieces) = mpsc::channel(PIECES);
    let shared = Arc::<Shared>::default();
    let tap = Tap {
        pieces: Some(sender),
        shared: Arc::clone(&shared),
    };
    let tapped = Tapped {
        pieces,
        shared,
        current: Bytes::new(),
        ended: false,
        linger: Box::pin(sleep_until(Instant::now())),
    };
    (tap, tapped)
}

impl Tap {
    /// Copies some bytes, and never waits: a copy that can't keep up breaks off.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        let Some(pieces) = &self.pieces else {
            return;
        };
        let before = self.shared.waiting.fetch_add(bytes.len(), Ordering::AcqRel);
        let fits = before + bytes.len() <= WAITING;
        let piece = Waiting::new(bytes.len(), || Bytes::copy_from_slice(bytes));
        let taken = piece.filter(|_| fits).map(|piece| pieces.try_send(piece));
        if !matches!(taken, Some(Ok(()))) {
            self.break_off();
        }
    }

    /// Nothing more is copied, and what waits is dropped.
    fn break_off(&mut self) {
        self.pieces = None;
        self.shared.broken.notify_one();
    }

    /// Whether it has broken off.
    pub(crate) fn is_broken(&self) -> bool {
        self.pieces.as_ref().is_none_or(mpsc::Sender::is_closed)
    }
}

/// The client that a copy is of, as its destination sees it.
#[derive(Debug)]
pub struct Tapped {
    pieces: mpsc::Receiver<Waiting>,
    shared: Arc<Shared>,
    current: Bytes,
    ended: bool,
    /// Until when a client that has ended is still there.
    linger: Pin<Box<Sleep>>,
}

impl Tapped {
    /// Serves it by one destination until it ends, or the destination does.
    ///
    /// # Errors
    ///
    /// See [`serve()`](crate::serve()).
    pub async fn serve<W: Ways>(
        self,
        ways: Arc<W>,
        to: W::Key,
        limits: &Limits,
    ) -> Result<(), RouterError> {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            served = serve(self, Arc::new(Only { ways, to }), limits) => served,
            // Whoever it is for may not read, and then nobody would look here again.
            () = shared.broken.notified() => {
                Err(RouterError::Client(io::ErrorKind::ConnectionReset.into()))
            }
        }
    }

    fn stay(&mut self) {
        self.linger.as_mut().reset(Instant::now() + LINGER);
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            if self.ended {
                ready!(self.linger.as_mut().poll(cx));
                return Poll::Ready(Ok(()));
            }
            match ready!(self.pieces.poll_recv(cx)) {
                Some(piece) => self.current = piece.take(),
                None => {
                    self.ended = true;
                    self.stay();
                }
            }
        }
        let count = self.current.len().min(into.remaining());
        into.put_slice(&self.current[..count]);
        self.current.advance(count);
        self.shared.waiting.fetch_sub(count, Ordering::AcqRel);
        Poll::Ready(Ok(()))
    }
}

/// Nobody hears the answers.
impl AsyncWrite for Tapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.ended {
            self.stay();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Everything for one destination.
struct Only<W: Ways> {
    ways: Arc<W>,
    to: W::Key,
}

impl<W: Ways> Ways for Only<W> {
    type Stream = W::Stream;
    type Key = ();
    const OVERHEARD: bool = true;

    fn route(&self, _: &Head<'_>) -> Option<()> {
        Some(())
    }

    async fn dial(&self, _: Option<&()>, first: First<'_>) -> Result<Self::Stream, DialError> {
        self.ways.dial(Some(&self.to), first).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_ended_stays_while_it_is_answered() {
        let (mut tap, mut tapped) = tap();
        tap.say(b"hello");
        drop(tap);
        let mut said = [0; 5];
        tapped.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
        let ended = Instant::now();
        assert!(
            tokio::time::timeout(LINGER - Duration::from_secs(1), tapped.read(&mut said))
                .await
                .is_err()
        );
        tapped.write_all(b"an answer").await.unwrap();
        assert_eq!(tapped.read(&mut said).await.unwrap(), 0);
        assert!(ended.elapsed() > LINGER);
    }

    #[tokio::test]
    async fn a_copy_that_is_too_slow_breaks_off_and_holds_nobody_back() {
        let (mut tap, tapped) = tap();
        for _ in 0..=WAITING / 65_536 {
            tap.say(&[0; 65_536]);
        }
        assert!(tap.is_broken());
        tap.say(b"more");
        // At once, though what it is for takes nothing.
        let limits = Limits::default();
        let served = tapped.serve(Arc::new(Never), (), &limits);
        let served = tokio::time::timeout(Duration::from_secs(20), served).await;
        assert!(matches!(served, Ok(Err(RouterError::Client(_)))));
    }

    struct Never;

    impl Ways for Never {
        type Stream = tokio::net::TcpStream;
        type Key = ();

        fn route(&self, _: &Head<'_>) -> Option<()> {
            None
        }

        async fn dial(&self, _: Option<&()>, _: First<'_>) -> Result<Self::Stream, DialError> {
            std::future::pending().await
        }
    }
}
