//! Streams that a session keeps open ahead of need, so that a connection from the cluster costs no
//! extra round trip.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use kdev_flow::Carrier;
use kdev_flow::outgoing::Outgoing;
use kdev_proto::v1::FlowFrame;
use tokio::sync::Notify;
use tonic::Streaming;

/// Most streams that one session may keep waiting.
const LIMIT: usize = 1024;

/// A stream to the machine that waits for a connection.
#[derive(Debug)]
pub struct Waiting {
    /// Frames to the machine.
    pub outgoing: Outgoing,
    /// Frames from the machine.
    pub incoming: Streaming<FlowFrame>,
    /// The carrier that it runs over.
    pub carrier: Carrier,
}

/// The waiting streams of one session.
#[derive(Debug, Default)]
pub struct WaitingStreams {
    queue: Mutex<VecDeque<Waiting>>,
    added: Notify,
}

impl WaitingStreams {
    /// Adds a stream; the oldest goes when there are too many.
    pub fn add(&self, waiting: Waiting) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // What died while waiting would count against what lives.
        queue.retain(|one| !one.outgoing.is_closed());
        if queue.len() == LIMIT {
            queue.pop_front();
        }
        queue.push_back(waiting);
        drop(queue);
        self.added.notify_one();
    }

    /// Drops all: their connection has a successor.
    pub fn clear(&self) {
        let dropped =
            std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner));
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
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // The youngest first: it is the likeliest to be alive.
        while let Some(waiting) = queue.pop_back() {
            if !waiting.outgoing.is_closed() {
                return Some(waiting);
            }
        }
        None
    }
}
