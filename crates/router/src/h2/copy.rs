//! Copies of a client's streams, for somebody whose answers nobody hears.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, SendStream};
use http::request::Parts;
use http::{HeaderMap, Request};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::head;
use super::pipe::capacity;
use super::upstream::{Driver, Opened, Upstream};
use crate::waiting::Waiting;
use crate::ways::Ways;

/// Copies of one client that are under way for one destination; what comes beyond isn't copied.
const AT_ONCE: usize = 1000;
/// Frames that wait in one: who is slower than the client by more than that loses the copy.
const WAITING: usize = 1024;
/// How long one may take. Whoever has stopped at a breakpoint must not keep them for ever.
const PATIENCE: Duration = Duration::from_secs(300);

enum Frame {
    Data(Waiting),
    Trailers(HeaderMap),
    End,
}

/// Where copies of a stream's frames go. Each method says whether it is still there, and none waits.
pub(crate) struct Copy(mpsc::Sender<Frame>);

impl Copy {
    pub(crate) fn data(&self, data: &Bytes) -> bool {
        let piece = Waiting::new(data.len(), || data.clone());
        piece.is_some_and(|piece| self.0.try_send(Frame::Data(piece)).is_ok())
    }

    pub(crate) fn trailers(&self, trailers: &HeaderMap) -> bool {
        self.0.try_send(Frame::Trailers(trailers.clone())).is_ok()
    }

    pub(crate) fn end(&self) -> bool {
        self.0.try_send(Frame::End).is_ok()
    }
}

/// Makes the copies of one client for one destination. They go on when the client has ended.
pub(crate) struct Copier<W: Ways> {
    ways: Arc<W>,
    to: W::Key,
    upstream: Arc<Upstream<W>>,
    slots: Arc<Semaphore>,
}

impl<W: Ways> Copier<W> {
    pub(crate) fn new(ways: &Arc<W>, to: W::Key) -> Self {
        let (drivers, mut new_drivers) = mpsc::channel::<Driver<W>>(1);
        ways.spawn(&to, async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    driver = new_drivers.recv() => match driver {
                        Some(driver) => drop(connections.spawn(driver)),
                        None => break,
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
            while connections.join_next().await.is_some() {}
        });
        let upstream = Upstream::new(Arc::clone(ways), Some(to.clone()), drivers);
        Self {
            ways: Arc::clone(ways),
            to,
            upstream: Arc::new(upstream),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Begins a copy; `None` when there are too many.
    pub(crate) fn copy(&self, parts: &Parts, ends: bool) -> Option<Copy> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        let (sender, frames) = mpsc::channel(WAITING);
        let request = head::request(parts.clone());
        let far = far(Arc::clone(&self.upstream), request, ends, frames, slot);
        self.ways.spawn(&self.to, async move {
            let _ = timeout(PATIENCE, far).await;
        });
        Some(Copy(sender))
    }
}

/// The far end of a copy.
async fn far<W: Ways>(
    upstream: Arc<Upstream<W>>,
    request: Request<()>,
    ends: bool,
    mut frames: mpsc::Receiver<Frame>,
    _slot: OwnedSemaphorePermit,
) {
    let Ok(opened) = upstream.open(&request, ends, None).await else {
        return;
    };
    let Opened {
        response,
        mut send,
        spoken: _,
        said: _,
        _stream,
    } = opened;
    let say = async {
        if !ends && say(&mut frames, &mut send).await.is_none() {
            send.send_reset(Reason::CANCEL);
        }
    };
    tokio::join!(say, hear(response));
}

/// Hands frames on until the end; `None` when it doesn't come.
async fn say(frames: &mut mpsc::Receiver<Frame>, send: &mut SendStream<Bytes>) -> Option<()> {
    loop {
        match frames.recv().await? {
            Frame::Data(piece) => {
                let mut data = piece.take();
                while !data.is_empty() {
                    send.reserve_capacity(data.len());
                    let room = capacity(send).await.ok()?;
                    let piece = data.split_to(room.min(data.len()));
                    send.send_data(piece, false).ok()?;
                }
            }
            Frame::Trailers(trailers) => return send.send_trailers(trailers).ok(),
            Frame::End => return send.send_data(Bytes::new(), true).ok(),
        }
    }
}

/// Takes the answer, and forgets it.
async fn hear(response: ResponseFuture) {
    let Ok(response) = response.await else {
        return;
    };
    let mut body = response.into_body();
    while let Some(Ok(data)) = body.data().await {
        if body.flow_control().release_capacity(data.len()).is_err() {
            return;
        }
    }
}
