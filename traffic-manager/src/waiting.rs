//! Streams that a session keeps open ahead of need, so that a connection from the cluster costs no
//! extra round trip.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use kdev_flow::outgoing::Outgoing;
use kdev_flow::rpc::read::Broken;
use kdev_flow::{Carrier, carry};
use kdev_proto::v1::FlowFrame;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

/// Most streams that one session may keep waiting.
const LIMIT: usize = 1024;

/// Frames from the machine.
pub type Incoming = BoxStream<'static, Result<FlowFrame, Broken>>;

/// A stream to the machine that waits for a connection.
pub struct Waiting {
    /// Frames to the machine.
    pub outgoing: Outgoing,
    /// Frames from the machine.
    pub incoming: Incoming,
    /// The carrier that it runs over.
    pub carrier: Carrier,
}

/// One that waits, with whoever listens to it meanwhile.
struct Slot {
    outgoing: Outgoing,
    incoming: Arc<Mutex<Option<Incoming>>>,
    carrier: Carrier,
    listens: AbortHandle,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.listens.abort();
    }
}

/// The waiting streams of one session.
#[derive(Default)]
pub struct WaitingStreams {
    queue: Mutex<VecDeque<Slot>>,
    added: Notify,
}

impl fmt::Debug for WaitingStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = lock(&self.queue).len();
        f.debug_struct("WaitingStreams")
            .field("waiting", &waiting)
            .finish()
    }
}

impl WaitingStreams {
    /// Adds a stream, to which a task of `tasks` listens; the oldest goes when there are too many.
    pub fn add(&self, waiting: Waiting, tasks: &TaskTracker) {
        let Waiting {
            outgoing,
            incoming,
            carrier,
        } = waiting;
        let incoming = Arc::new(Mutex::new(Some(incoming)));
        let listens = tasks.spawn(listen(Arc::clone(&incoming), carrier.clone()));
        let slot = Slot {
            outgoing,
            incoming,
            carrier,
            listens: listens.abort_handle(),
        };
        let mut queue = lock(&self.queue);
        // What died while waiting would count against what lives.
        queue.retain(|one| !one.outgoing.is_closed());
        if queue.len() == LIMIT {
            queue.pop_front();
        }
        queue.push_back(slot);
        drop(queue);
        self.added.notify_one();
    }

    /// Drops all: their connection has a successor.
    pub fn clear(&self) {
        let dropped = std::mem::take(&mut *lock(&self.queue));
        drop(dropped);
    }

    /// Takes a stream whose machine is still there, as soon as there is one. Cancel safe.
    pub async fn take(&self) -> Waiting {
        loop {
            let added = self.added.notified();
            if let Some(waiting) = self.try_take() {
                // Several may wait while several are added between two wake-ups.
                self.added.notify_one();
                return waiting;
            }
            added.await;
        }
    }

    fn try_take(&self) -> Option<Waiting> {
        let mut queue = lock(&self.queue);
        // The youngest first: it is the likeliest to be alive.
        while let Some(slot) = queue.pop_back() {
            let incoming = lock(&slot.incoming).take();
            if let Some(incoming) = incoming
                && !slot.outgoing.is_closed()
            {
                return Some(Waiting {
                    outgoing: slot.outgoing.clone(),
                    incoming,
                    carrier: slot.carrier.clone(),
                });
            }
        }
        None
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A machine says nothing on a stream before it is asked. What it says nevertheless isn't kept: nobody
/// has counted it.
async fn listen(incoming: Arc<Mutex<Option<Incoming>>>, carrier: Carrier) {
    let said = poll_fn(|cx| match lock(&incoming).as_mut() {
        Some(frames) => frames.poll_next_unpin(cx),
        // Somebody has taken it.
        None => Poll::Ready(None),
    })
    .await;
    if carry::is_no_reset(said.as_ref()) {
        carrier.close_for(&"a frame on a stream that waits");
    }
    lock(&incoming).take();
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use kdev_flow::frame;
    use kdev_flow::outgoing::{Frames, outgoing};
    use tokio_util::sync::CancellationToken;

    /// A stream of the machine's, and how its carrier ends.
    fn coming() -> (Waiting, Outgoing, Frames, CancellationToken) {
        let (to_machine, at_machine) = outgoing();
        let (of_machine, incoming) = outgoing();
        let closed = CancellationToken::new();
        let waiting = Waiting {
            outgoing: to_machine,
            incoming: incoming.map(Ok).boxed(),
            carrier: Carrier::new(closed.clone()),
        };
        (waiting, of_machine, at_machine, closed)
    }

    #[tokio::test]
    async fn what_is_said_after_a_stream_was_taken_is_heard() {
        let (streams, tasks) = (WaitingStreams::default(), TaskTracker::new());
        let (waiting, machine, _at_machine, closed) = coming();
        streams.add(waiting, &tasks);
        tokio::task::yield_now().await;
        let mut taken = streams.take().await;
        tasks.close();
        tasks.wait().await;
        machine.send(frame::opened()).await.unwrap();
        assert_eq!(
            taken.incoming.next().await.unwrap().unwrap(),
            frame::opened()
        );
        assert!(!closed.is_cancelled());
    }

    #[tokio::test]
    async fn a_frame_on_a_stream_that_waits_closes_the_carrier_and_a_reset_doesnt() {
        for (said, breaks) in [(frame::end(), true), (frame::reset(), false)] {
            let (streams, tasks) = (WaitingStreams::default(), TaskTracker::new());
            let (waiting, machine, _at_machine, closed) = coming();
            streams.add(waiting, &tasks);
            machine.send(said).await.unwrap();
            tasks.close();
            tasks.wait().await;
            assert_eq!(closed.is_cancelled(), breaks);
            assert!(streams.take().now_or_never().is_none(), "it isn't alive");
        }
    }

    #[tokio::test]
    async fn who_is_dropped_isnt_listened_to() {
        let (streams, tasks) = (WaitingStreams::default(), TaskTracker::new());
        let (waiting, _machine, _at_machine, _) = coming();
        streams.add(waiting, &tasks);
        streams.clear();
        tasks.close();
        tasks.wait().await;
    }
}
