//! The flows that can go on over another carrier: where a machine finds them again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kdev_flow::Carrier;
use kdev_flow::attempts::Attempts;
use kdev_flow::carry::{Moved, Resume, Resumed};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::sessions::Session;

/// Most of them at once; the connections beyond end with their carrier.
const LIMIT: usize = 65_536;

/// A flow's id: as good as a secret, as only both of its sides know it.
pub type FlowId = [u8; 16];

struct Entry {
    session: Arc<Session>,
    slot: Arc<Slot>,
}

/// Where the next carrier of one flow waits to be taken.
#[derive(Default)]
struct Slot {
    waiting: Mutex<Waiting>,
    added: Notify,
    over: CancellationToken,
}

#[derive(Default)]
struct Waiting {
    resumed: Option<Resumed>,
    attempts: Attempts,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `look` finds what it looks for. Cancel safe.
    async fn when<T>(&self, look: impl Fn(&mut Option<Resumed>) -> Option<T>) -> T {
        loop {
            let added = self.added.notified();
            let found = look(&mut self.lock().resumed);
            if let Some(found) = found {
                return found;
            }
            added.await;
        }
    }

    async fn take(&self) -> Resumed {
        self.when(Option::take).await
    }
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
    pub fn register(&self, id: &[u8], session: &Arc<Session>) -> Option<Registered> {
        let id: FlowId = id.try_into().ok()?;
        let mut flows = self.lock();
        if session.over.is_cancelled() || flows.len() >= LIMIT || flows.contains_key(&id) {
            return None;
        }
        let slot = Arc::new(Slot::default());
        let entry = Entry {
            session: Arc::clone(session),
            slot: Arc::clone(&slot),
        };
        flows.insert(id, entry);
        drop(flows);
        Some(Registered {
            id,
            flows: self.clone(),
            session: Arc::clone(session),
            slot,
        })
    }

    /// A session comes with another carrier for a flow, for the `attempt`th time. One that is older than
    /// what came already was under way for long, and is dropped.
    ///
    /// # Errors
    ///
    /// Gives it back when the session has no such flow.
    pub fn resume(
        &self,
        session: &Session,
        id: &[u8],
        attempt: u64,
        resumed: Resumed,
    ) -> Result<(), Resumed> {
        let slot = FlowId::try_from(id).ok().and_then(|id| {
            let flows = self.lock();
            let entry = flows.get(&id)?;
            (entry.session.id == session.id).then(|| Arc::clone(&entry.slot))
        });
        let Some(slot) = slot else {
            return Err(resumed);
        };
        let mut waiting = slot.lock();
        if waiting.attempts.handle_arrived(attempt) {
            waiting.resumed = Some(resumed);
            slot.added.notify_one();
        }
        Ok(())
    }

    /// A session is over: none of its flows will be resumed.
    pub fn end_session(&self, session: &str) {
        self.lock().retain(|_, entry| {
            let stays = entry.session.id != session;
            if !stays {
                entry.slot.over.cancel();
            }
            stays
        });
    }
}

/// See [`ResumableFlows::register`].
pub struct Registered {
    id: FlowId,
    flows: ResumableFlows,
    session: Arc<Session>,
    slot: Arc<Slot>,
}

impl Registered {
    /// Waits until the machine has come with the flow's next carrier, which is left to be taken. Cancel safe.
    pub async fn comes(&self) -> Carrier {
        let carrier = |next: &mut Option<Resumed>| Some(next.as_ref()?.stream.carrier.clone());
        self.slot.when(carrier).await
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.flows.lock().remove(&self.id);
    }
}

impl Resume for Registered {
    async fn moved(&mut self) -> Moved {
        Moved::Here(self.slot.take().await)
    }

    async fn resume(&mut self, _: u64) -> Option<Resumed> {
        tokio::select! {
            resumed = self.slot.take() => Some(resumed),
            () = self.slot.over.cancelled() => None,
            () = self.session.over.cancelled() => None,
            () = tokio::time::sleep(self.session.resume_limit()) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Grace;
    use crate::sessions::Sessions;
    use futures::StreamExt as _;
    use kdev_flow::carry::Stream;
    use kdev_flow::outgoing::outgoing;

    const ID: FlowId = [7; 16];

    fn session(id: &str) -> Arc<Session> {
        Sessions::new(Grace::default()).expect(id)
    }

    fn coming(received: u64) -> Resumed {
        let stream = Stream {
            outgoing: outgoing().0,
            incoming: futures::stream::pending().boxed(),
            carrier: Carrier::default(),
            said: bytes::Bytes::new(),
        };
        Resumed {
            stream,
            received,
            answer: true,
        }
    }

    #[tokio::test]
    async fn the_latest_carrier_counts_and_older_ones_are_dropped() {
        let flows = ResumableFlows::default();
        let a = session("a");
        let mut registered = flows.register(&ID, &a).unwrap();
        for (attempt, received) in [(1, 10), (3, 30), (2, 20)] {
            assert!(flows.resume(&a, &ID, attempt, coming(received)).is_ok());
        }
        let Moved::Here(latest) = registered.moved().await else {
            panic!("the other side comes");
        };
        assert_eq!(latest.received, 30);
        assert!(flows.resume(&a, &ID, 3, coming(0)).is_ok());
        flows.end_session("a");
        assert!(registered.resume(0).await.is_none(), "an old one came");
    }

    #[tokio::test]
    async fn a_flow_that_is_over_isnt_found() {
        let flows = ResumableFlows::default();
        let a = session("a");
        assert!(flows.resume(&a, &ID, 1, coming(0)).is_err());
        let registered = flows.register(&ID, &a).unwrap();
        assert!(flows.register(&ID, &a).is_none(), "an id is one flow's");
        drop(registered);
        assert!(flows.resume(&a, &ID, 1, coming(0)).is_err());
        assert!(flows.register(&[7; 15], &a).is_none());
    }

    #[tokio::test]
    async fn who_knows_a_flows_id_and_isnt_its_session_doesnt_get_it() {
        let flows = ResumableFlows::default();
        let _registered = flows.register(&ID, &session("a")).unwrap();
        assert!(flows.resume(&session("b"), &ID, 1, coming(0)).is_err());
    }
}
