//! Whether a destination speaks HTTP/2 at all: what doesn't answers the preface in its own way, as HTTP/1 or TLS does,
//! which as frames would be one that is far too large.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Join, ReadBuf, ReadHalf, WriteHalf, join, split};

/// Where a frame's type is, and that of the one which comes first: SETTINGS, RFC 9113 sections 3.4 and 4.1.
const TYPE_AT: usize = 3;
const SETTINGS: u8 = 4;

const NOTHING: u8 = 0;
const HTTP2: u8 = 1;
const SOMETHING_ELSE: u8 = 2;

/// What is known of a destination, shared with its streams.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spoken(Arc<AtomicU8>);

impl Spoken {
    /// Whether what it has said isn't HTTP/2. One that ended before it said anything may speak it.
    pub(crate) fn is_something_else(&self) -> bool {
        self.0.load(Ordering::Relaxed) == SOMETHING_ELSE
    }
}

/// A connection to a destination, which breaks where that answers in another way than HTTP/2's.
pub(crate) type Watched<S> = Join<Listener<ReadHalf<S>>, WriteHalf<S>>;

/// Watches a connection.
pub(crate) fn watched<S: AsyncRead + AsyncWrite>(stream: S, spoken: Spoken) -> Watched<S> {
    let (stream, write) = split(stream);
    let heard = 0;
    let listener = Listener {
        stream,
        spoken,
        heard,
    };
    join(listener, write)
}

/// What a destination says.
#[derive(Debug)]
pub(crate) struct Listener<S> {
    stream: S,
    spoken: Spoken,
    /// How many bytes were heard before it is known.
    heard: usize,
}

impl<S> Listener<S> {
    /// Looks at the first bytes.
    fn look(&mut self, bytes: &[u8]) -> io::Result<()> {
        let kind = bytes.get(TYPE_AT - self.heard);
        let what = match kind {
            None => NOTHING,
            Some(&SETTINGS) => HTTP2,
            Some(_) => SOMETHING_ELSE,
        };
        self.heard += bytes.len();
        self.spoken.0.store(what, Ordering::Relaxed);
        if what == SOMETHING_ELSE {
            let what = "the destination doesn't answer as HTTP/2 does";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listener<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        if self.heard <= TYPE_AT {
            self.look(&into.filled()[before..])?;
        }
        Poll::Ready(Ok(()))
    }
}
