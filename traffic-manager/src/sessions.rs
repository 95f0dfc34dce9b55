//! The sessions that the manager knows, and when one that is away is over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kdev_proto::v1::session_event::Kind as Event;
use kdev_proto::v1::{InterceptState, SessionEvent};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::lease::{Grace, Lease};
use crate::waiting::WaitingStreams;

/// Events that wait for one session.
pub const QUEUE: usize = 64;

/// What a session's stream answers with.
pub type Events = mpsc::Sender<Result<SessionEvent, Status>>;

/// A session, connected or away.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Streams that wait for connections.
    pub streams: Arc<WaitingStreams>,
    /// Cancelled when the session is over, though its connection may still be there.
    pub over: CancellationToken,
    state: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    lease: Lease,
    events: Option<Events>,
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session was heard.
    pub fn handle_heard(&self) {
        self.lock().lease.handle_heard(Instant::now());
    }

    /// Reports on an intercept. What a session that is away misses, it asks again.
    pub fn report(&self, state: InterceptState) {
        let events = self.lock().events.clone();
        if let Some(events) = events {
            let event = SessionEvent {
                kind: Some(Event::Intercept(state)),
            };
            if events.try_send(Ok(event)).is_err() {
                tracing::debug!(session = self.id, "a report wasn't delivered");
            }
        }
    }
}

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    all: Mutex<HashMap<String, Arc<Session>>>,
    grace: Grace,
    changed: Notify,
}

impl Sessions {
    /// Knows none yet.
    pub fn new(grace: Grace) -> Self {
        Self {
            all: Mutex::default(),
            grace,
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session connects, for the first time or again; its events go to `events` from now on.
    pub fn connect(&self, id: &str, events: Events) -> Arc<Session> {
        let session = self.expect(id);
        let mut inner = session.lock();
        inner.lease.handle_heard(Instant::now());
        inner.events = Some(events);
        drop(inner);
        session.streams.clear();
        session
    }

    /// A session is to be expected, as something in the cluster says that it is its: it gets the same
    /// time to come as one that has just gone.
    pub fn expect(&self, id: &str) -> Arc<Session> {
        let mut all = self.lock();
        let session = all.entry(id.to_owned()).or_insert_with(|| {
            let now = Instant::now();
            let mut lease = Lease::new(self.grace, now);
            lease.handle_closed(now);
            Arc::new(Session {
                id: id.to_owned(),
                streams: Arc::default(),
                over: CancellationToken::new(),
                state: Mutex::new(Inner {
                    lease,
                    events: None,
                }),
            })
        });
        let session = Arc::clone(session);
        drop(all);
        self.changed.notify_one();
        session
    }

    /// The stream that answers with `events` has ended. An older stream's end means nothing.
    pub fn disconnect(&self, session: &Session, events: &Events) {
        let mut inner = session.lock();
        if inner
            .events
            .as_ref()
            .is_some_and(|current| current.same_channel(events))
        {
            inner.events = None;
            inner.lease.handle_closed(Instant::now());
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Finds a session.
    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.lock().get(id).cloned()
    }

    /// The session is over.
    pub fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    /// Waits for sessions that are over, and forgets them; one that comes back is a new one, with
    /// nothing claimed. Cancel safe.
    pub async fn next_expired(&self) -> Vec<Arc<Session>> {
        loop {
            let changed = self.changed.notified();
            let now = Instant::now();
            let next = {
                let mut all = self.lock();
                let over: Vec<_> = all
                    .extract_if(|_, session| session.lock().lease.expires() <= now)
                    .map(|(_, session)| session)
                    .inspect(|session| session.over.cancel())
                    .collect();
                if !over.is_empty() {
                    return over;
                }
                all.values()
                    .map(|session| session.lock().lease.expires())
                    .min()
            };
            tokio::select! {
                () = changed => {}
                () = until(next) => {}
            }
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn short() -> Grace {
        Grace {
            gone: Duration::from_millis(20),
            silent: Duration::from_secs(3600),
        }
    }

    async fn soon<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(20), future)
            .await
            .expect("in time")
    }

    #[tokio::test]
    async fn a_session_that_went_away_and_stayed_away_is_over() {
        let sessions = Sessions::new(short());
        let (events, _receiver) = mpsc::channel(1);
        let session = sessions.connect("a", events.clone());
        sessions.disconnect(&session, &events);
        let over = soon(sessions.next_expired()).await;
        assert_eq!(over[0].id, "a");
        assert!(session.over.is_cancelled());
        assert!(sessions.get("a").is_none());
    }

    #[tokio::test]
    async fn the_end_of_an_older_connection_doesnt_end_a_session_that_came_back() {
        let sessions = Sessions::new(short());
        let (old, _old) = mpsc::channel(1);
        let (new, _new) = mpsc::channel(1);
        let session = sessions.connect("a", old.clone());
        sessions.connect("a", new);
        sessions.disconnect(&session, &old);
        let (gone, _gone) = mpsc::channel(1);
        let other = sessions.connect("b", gone.clone());
        sessions.disconnect(&other, &gone);
        let over = soon(sessions.next_expired()).await;
        assert_eq!(over.len(), 1);
        assert_eq!(over[0].id, "b");
        assert!(sessions.get("a").is_some());
    }

    #[tokio::test]
    async fn a_session_that_is_only_known_from_the_cluster_has_to_come() {
        let sessions = Sessions::new(short());
        sessions.expect("a");
        assert_eq!(soon(sessions.next_expired()).await[0].id, "a");
    }
}
