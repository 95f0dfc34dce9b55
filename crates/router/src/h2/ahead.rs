//! A connection to a destination that is written to before it is there, so that what is said first can travel with the
//! question for it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// What was said before there was a connection, shared by both its ends.
type Said = Arc<Mutex<BytesMut>>;

fn lock(said: &Said) -> MutexGuard<'_, BytesMut> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connection: it hears nothing, and is told as much as anybody likes, until it is there.
#[derive(Debug)]
pub(crate) struct Ahead<S>(State<S>);

#[derive(Debug)]
enum State<S> {
    Before {
        said: Said,
        comes: oneshot::Receiver<S>,
    },
    /// With what was said before and isn't written yet.
    There {
        stream: S,
        said: BytesMut,
    },
    Never,
}

/// Where the connection is to come.
#[derive(Debug)]
pub(crate) struct Coming<S> {
    said: Said,
    comes: oneshot::Sender<S>,
}

/// Makes a connection, and the end by which it comes. Without it, it breaks.
pub(crate) fn ahead<S>() -> (Ahead<S>, Coming<S>) {
    let (sender, comes) = oneshot::channel();
    let said = Said::default();
    let coming = Coming {
        said: Arc::clone(&said),
        comes: sender,
    };
    (Ahead(State::Before { said, comes }), coming)
}

impl<S> Coming<S> {
    /// What has been said.
    pub(crate) fn said(&self) -> Bytes {
        Bytes::copy_from_slice(&lock(&self.said))
    }

    /// It is there; what was said is written to it first.
    pub(crate) fn come(self, stream: S) {
        // Who doesn't wait for it any more drops it.
        let _ = self.comes.send(stream);
    }
}

impl<S: AsyncWrite + Unpin> Ahead<S> {
    /// Waits until it is there, and goes on writing what was said before as far as it can.
    fn poll_there(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(&mut S, bool)>> {
        if let State::Before { said, comes } = &mut self.0 {
            self.0 = match ready!(Pin::new(comes).poll(cx)) {
                Ok(stream) => {
                    let said = std::mem::take(&mut *lock(said));
                    State::There { stream, said }
                }
                Err(_) => State::Never,
            };
        }
        let State::There { stream, said } = &mut self.0 else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while !said.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, said)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => said.advance(count),
                Poll::Pending => return Poll::Ready(Ok((stream, false))),
            }
        }
        Poll::Ready(Ok((stream, true)))
    }

    /// The same for who writes more.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut S>> {
        match ready!(self.poll_there(cx))? {
            (stream, true) => Poll::Ready(Ok(stream)),
            (_, false) => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (stream, _) = ready!(self.poll_there(cx))?;
        Pin::new(stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(stream) = self.poll_written(cx)? {
            return Pin::new(stream).poll_write(cx, bytes);
        }
        let State::Before { said, .. } = &self.0 else {
            return Poll::Pending;
        };
        lock(said).extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(stream) = self.poll_written(cx)? {
            return Pin::new(stream).poll_flush(cx);
        }
        match self.0 {
            // All that can be done is done.
            State::Before { .. } => Poll::Ready(Ok(())),
            State::There { .. } | State::Never => Poll::Pending,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = ready!(self.poll_written(cx))?;
        Pin::new(stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split};

    #[tokio::test]
    async fn what_was_said_before_it_is_there_is_written_first() {
        let (mut near, coming) = ahead();
        near.write_all(b"first ").await.unwrap();
        near.flush().await.unwrap();
        assert_eq!(coming.said(), "first ");
        let (stream, mut far) = duplex(64);
        coming.come(stream);
        near.write_all(b"second").await.unwrap();
        let mut heard = [0; 12];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"first second");
    }

    #[tokio::test]
    async fn who_only_listens_writes_it_too() {
        let (mut near, coming) = ahead();
        near.write_all(b"question").await.unwrap();
        // Less fits than was said.
        let (stream, far) = duplex(3);
        coming.come(stream);
        let (mut hear, mut say) = split(far);
        let answer = async {
            let mut heard = [0; 8];
            hear.read_exact(&mut heard).await.unwrap();
            say.write_all(b"yes").await.unwrap();
            heard
        };
        let mut heard = [0; 3];
        let (said, read) = tokio::join!(answer, near.read_exact(&mut heard));
        read.unwrap();
        assert_eq!((&said, &heard), (b"question", b"yes"));
    }

    #[tokio::test]
    async fn it_says_nothing_before_and_breaks_where_it_never_comes() {
        let (mut near, coming) = ahead::<tokio::io::DuplexStream>();
        assert!(near.read(&mut [0]).now_or_never().is_none());
        drop(coming);
        assert!(near.read(&mut [0]).await.is_err());
        assert!(near.write(b"more").await.is_err());
    }
}
