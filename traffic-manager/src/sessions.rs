//! The sessions that the manager knows, and when one that is away is over.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kdev_common::outage::Outage;
use kdev_flow::budget::Budget;
use kdev_flow::carry::RESUME_LIMIT;
use kdev_proto::v1::session_event::Kind as Event;
use kdev_proto::v1::{InterceptState, SessionEvent};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::lease::{Grace, Lease};
use crate::waiting::WaitingStreams;

/// Events that wait for one session.
pub const QUEUE: usize = 64;

/// Most connections of one session: its carriers, and those that they take the place of.
const CONNECTIONS: usize = 32;
/// Most flows of one session.
const FLOWS: usize = 8_192;
/// Most bytes that the flows of one session hold together beyond what each may in any case: half of what
/// all sessions' do.
const MEMORY: u64 = 64 << 20;
/// Most bytes of datagrams that wait for one session.
const DATAGRAMS: u64 = 16 << 20;

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
    /// Cancelled when none of its connections may be there any more.
    pub cut: CancellationToken,
    revoked: AtomicBool,
    connections: Arc<AtomicUsize>,
    flows: Arc<AtomicUsize>,
    arrivals: Arc<AtomicUsize>,
    /// What its flows hold.
    pub memory: Arc<Budget>,
    /// What its datagrams hold.
    pub datagrams: Arc<Budget>,
    state: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    lease: Lease,
    events: Option<Events>,
    resume_limit: Duration,
    /// It has too many flows.
    crowded: Outage,
}

/// One of a bounded number, given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let more = |count| (count < most).then_some(count + 1);
        let took = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        took.ok().map(|_| Self(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for one more connection; `None` when there are too many.
    pub fn connection(&self) -> Option<Place> {
        Place::take(&self.connections, CONNECTIONS)
    }

    /// Takes a place for one more flow; `None` when there are too many, which the log says once, until there are
    /// far fewer.
    pub fn flow(&self) -> Option<Place> {
        let place = Place::take(&self.flows, FLOWS);
        if place.is_none() {
            if self.lock().crowded.handle_lost(Instant::now()) {
                let session = &self.id;
                tracing::warn!(
                    session,
                    limit = FLOWS,
                    "the session has as many connections as one may have: its next ones are refused; end some"
                );
            }
        } else if self.flows.load(Ordering::Relaxed) < FLOWS / 2 {
            self.lock().crowded.handle_back(Instant::now());
        }
        place
    }

    /// Takes a place for one more stream that hasn't said yet which flow it is: all flows may be resumed
    /// at once.
    pub fn arrival(&self) -> Option<Place> {
        Place::take(&self.arrivals, FLOWS)
    }

    /// How long its TCP flows may be without a carrier.
    pub fn resume_limit(&self) -> Duration {
        self.lock().resume_limit
    }

    /// The session says how long that is.
    pub fn set_resume_limit(&self, limit: Duration) {
        self.lock().resume_limit = limit;
    }

    /// Whether it is over because its Lease was deleted.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
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
    pub fn connect(&self, session: &Arc<Session>, events: Events) {
        let mut inner = session.lock();
        inner.lease.handle_heard(Instant::now());
        inner.events = Some(events);
        drop(inner);
        session.streams.clear();
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
                cut: CancellationToken::new(),
                revoked: AtomicBool::new(false),
                connections: Arc::default(),
                flows: Arc::default(),
                arrivals: Arc::default(),
                memory: Arc::new(Budget::new(MEMORY)),
                datagrams: Arc::new(Budget::new(DATAGRAMS)),
                state: Mutex::new(Inner {
                    lease,
                    events: None,
                    resume_limit: RESUME_LIMIT,
                    crowded: Outage::default(),
                }),
            })
        });
        let session = Arc::clone(session);
        drop(all);
        self.changed.notify_one();
        session
    }

    /// The stream that answers with `events` has ended; true when the session is away now. An older
    /// stream's end means nothing.
    pub fn disconnect(&self, session: &Session, events: &Events) -> bool {
        let mut inner = session.lock();
        let current = inner.events.as_ref();
        let is_current = current.is_some_and(|current| current.same_channel(events));
        if is_current {
            inner.events = None;
            inner.lease.handle_closed(Instant::now());
        }
        drop(inner);
        self.changed.notify_one();
        is_current
    }

    /// Whether a session is there, connected or away.
    pub fn has(&self, id: &str) -> bool {
        self.lock().contains_key(id)
    }

    /// The session is over.
    pub fn remove(&self, session: &Session) {
        let mut all = self.lock();
        // One that has come back meanwhile is another one.
        if all
            .get(&session.id)
            .is_some_and(|one| std::ptr::eq(&raw const **one, session))
        {
            all.remove(&session.id);
        }
        drop(all);
        session.over.cancel();
        // Its stream ends with this, whoever else still knows the session.
        session.lock().events = None;
    }

    /// Nobody vouches for the session any more: it is over. `None` when it isn't there.
    pub fn revoke(&self, id: &str) -> Option<Arc<Session>> {
        let session = self.lock().remove(id)?;
        session.revoked.store(true, Ordering::Relaxed);
        session.over.cancel();
        Some(session)
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
        let session = sessions.expect("a");
        sessions.connect(&session, events.clone());
        sessions.disconnect(&session, &events);
        let over = soon(sessions.next_expired()).await;
        assert_eq!(over[0].id, "a");
        assert!(session.over.is_cancelled() && !session.is_revoked());
        assert!(!Arc::ptr_eq(&session, &sessions.expect("a")), "a new one");
    }

    #[tokio::test]
    async fn the_end_of_an_older_connection_doesnt_end_a_session_that_came_back() {
        let sessions = Sessions::new(short());
        let (old, _old) = mpsc::channel(1);
        let (new, _new) = mpsc::channel(1);
        let session = sessions.expect("a");
        sessions.connect(&session, old.clone());
        sessions.connect(&session, new);
        sessions.disconnect(&session, &old);
        let (gone, _gone) = mpsc::channel(1);
        let other = sessions.expect("b");
        sessions.connect(&other, gone.clone());
        sessions.disconnect(&other, &gone);
        let over = soon(sessions.next_expired()).await;
        assert_eq!(over.len(), 1);
        assert_eq!(over[0].id, "b");
        assert!(Arc::ptr_eq(&session, &sessions.expect("a")));
    }

    #[tokio::test]
    async fn a_session_whose_lease_is_gone_is_over_at_once() {
        let sessions = Sessions::new(Grace::default());
        let session = sessions.expect("a");
        assert!(sessions.revoke("a").is_some_and(|one| one.is_revoked()));
        assert!(session.over.is_cancelled());
        assert!(sessions.revoke("a").is_none());
    }

    #[test]
    fn connections_and_flows_of_one_session_are_bounded() {
        let session = Sessions::new(Grace::default()).expect("a");
        let mut places: Vec<_> = (0..CONNECTIONS)
            .map_while(|_| session.connection())
            .collect();
        assert_eq!(places.len(), CONNECTIONS);
        assert!(session.connection().is_none());
        places.pop();
        assert!(session.connection().is_some());
        assert!(session.flow().is_some());
    }

    #[tokio::test]
    async fn a_session_that_is_only_known_from_the_cluster_has_to_come() {
        let sessions = Sessions::new(short());
        sessions.expect("a");
        assert_eq!(soon(sessions.next_expired()).await[0].id, "a");
    }
}
