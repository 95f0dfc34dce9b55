//! Upstream connections between requests.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use crate::peer::Peer;

/// Upstream connections that wait for the next request of one client, at most one per destination.
pub(crate) struct Kept<K, S> {
    entries: Vec<Entry<K, S>>,
    most: usize,
    idle: Duration,
}

struct Entry<K, S> {
    to: Option<K>,
    peer: Peer<S>,
    since: Instant,
}

/// Why there is one connection less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Its destination ended it.
    Ended,
    /// It was idle for too long.
    Idle,
}

impl<K: Eq, S: AsyncRead + AsyncWrite + Unpin> Kept<K, S> {
    /// Keeps so many for so long.
    pub(crate) fn new(most: usize, idle: Duration) -> Self {
        Self {
            entries: Vec::new(),
            most,
            idle,
        }
    }

    /// The connection to a destination, unless it has been ended.
    pub(crate) fn take(&mut self, to: Option<&K>) -> Option<Peer<S>> {
        let at = self.entries.iter().position(|it| it.to.as_ref() == to)?;
        let mut peer = self.entries.remove(at).peer;
        let stirs = poll_fn(|cx| peer.read.poll_stirs(cx)).now_or_never();
        stirs.is_none().then_some(peer)
    }

    /// Keeps a connection. When they are too many, the one longest unused ends.
    pub(crate) async fn put(&mut self, to: Option<K>, mut peer: Peer<S>) {
        peer.read.rest();
        let since = Instant::now();
        self.entries.push(Entry { to, peer, since });
        if self.entries.len() > self.most {
            end(self.entries.remove(0)).await;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Waits until one leaves. Cancel safe.
    pub(crate) async fn left(&mut self) -> Left {
        let Some(oldest) = self.entries.first() else {
            return std::future::pending().await;
        };
        let expiry = sleep_until(oldest.since + self.idle);
        let ended = poll_fn(|cx| {
            let mut entries = self.entries.iter_mut();
            let ended = entries.position(|it| it.peer.read.poll_stirs(cx).is_ready());
            ended.map_or(Poll::Pending, Poll::Ready)
        });
        let (at, left) = tokio::select! {
            at = ended => (at, Left::Ended),
            () = expiry => (0, Left::Idle),
        };
        end(self.entries.remove(at)).await;
        left
    }

    /// Ends all in order.
    pub(crate) async fn end(&mut self) {
        for entry in self.entries.drain(..) {
            end(entry).await;
        }
    }
}

/// Nothing can be done about one that is broken already.
async fn end<K, S: AsyncRead + AsyncWrite + Unpin>(mut entry: Entry<K, S>) {
    let _ = entry.peer.write.shutdown().await;
}
