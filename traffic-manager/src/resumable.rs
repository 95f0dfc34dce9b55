//! The flows that can go on over another carrier: where a machine finds them again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kdev_flow::carry::{RESUME_LIMIT, Resume, Resumed};
use tokio::sync::mpsc;

/// Most of them at once; the connections beyond end with their carrier.
const LIMIT: usize = 65_536;

/// A flow's id: as good as a secret, as only both of its sides know it.
pub type FlowId = [u8; 16];

struct Entry {
    session: String,
    resumed: mpsc::Sender<Resumed>,
}

/// All of them. A clone is the same.
#[derive(Clone, Default)]
pub struct ResumableFlows(Arc<Mutex<HashMap<FlowId, Entry>>>);

impl ResumableFlows {
    fn lock(&self) -> MutexGuard<'_, HashMap<FlowId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a flow of a session's resumable until the result is dropped; `None` when its id is no id
    /// or is taken, or there are too many.
    pub fn register(&self, id: &[u8], session: &str) -> Option<Registered> {
        let id: FlowId = id.try_into().ok()?;
        let mut flows = self.lock();
        if flows.len() >= LIMIT || flows.contains_key(&id) {
            return None;
        }
        let (sender, resumed) = mpsc::channel(1);
        let entry = Entry {
            session: session.to_owned(),
            resumed: sender,
        };
        flows.insert(id, entry);
        drop(flows);
        Some(Registered {
            id,
            flows: self.clone(),
            resumed,
        })
    }

    /// A machine comes with another carrier for a flow; false when there is no such flow.
    pub fn resume(&self, id: &[u8], resumed: Resumed) -> Result<(), Resumed> {
        let entry = FlowId::try_from(id)
            .ok()
            .and_then(|id| self.lock().get(&id).map(|entry| entry.resumed.clone()));
        match entry {
            Some(sender) => sender
                .try_send(resumed)
                .map_err(mpsc::error::TrySendError::into_inner),
            None => Err(resumed),
        }
    }

    /// A session is over: none of its flows will be resumed.
    pub fn end_session(&self, session: &str) {
        self.lock().retain(|_, entry| entry.session != session);
    }
}

/// See [`ResumableFlows::register`].
pub struct Registered {
    id: FlowId,
    flows: ResumableFlows,
    resumed: mpsc::Receiver<Resumed>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.flows.lock().remove(&self.id);
    }
}

impl Resume for Registered {
    async fn replaced(&mut self) -> Resumed {
        match self.resumed.recv().await {
            Some(resumed) => resumed,
            // The session is over; the stream says so as well.
            None => std::future::pending().await,
        }
    }

    async fn resume(&mut self, _: u64) -> Option<Resumed> {
        let resumed = tokio::time::timeout(RESUME_LIMIT, self.resumed.recv());
        resumed.await.ok().flatten()
    }
}

/// A flow whose other side gave it no id: it ends with its carrier.
pub struct Never;

impl Resume for Never {
    async fn replaced(&mut self) -> Resumed {
        std::future::pending().await
    }

    async fn resume(&mut self, _: u64) -> Option<Resumed> {
        None
    }
}
