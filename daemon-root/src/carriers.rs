//! The carriers of a session: which there are, how they are doing, and which one takes the next flow.

mod life;
mod line;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use kdev_common::carrier::CarrierKind;
use kdev_common::killable::Received;
use kdev_common::outage::Outage;
use kdev_proto::round_trip_us;
use kdev_proto::v1::{CarrierStatus, EchoMessage, Part, State};
use tokio::sync::{Notify, watch};

pub use life::Route;
use line::Line;
pub use line::Place;

/// How long a carrier may take to answer whoever asks how it is now.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Carrier {
    /// What the user's daemon calls it; the one that takes its place has the same.
    id: u32,
    line: Arc<Line>,
    kind: CarrierKind,
    since_ms: u64,
    part: Part,
    /// Whether it answered when somebody last asked how it is.
    look: Part,
    round_trip: Duration,
    received: Received,
    /// Asks for a heartbeat at once.
    doubted: Arc<Notify>,
}

impl Carrier {
    fn handle_answer(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
        self.look = self.look.then(State::Ok, "answers");
    }

    fn describe(&self) -> CarrierStatus {
        let part = self.part.as_found(&self.look);
        let measured = part.state() == State::Ok;
        CarrierStatus {
            round_trip_us: round_trip_us(Some(self.round_trip).filter(|_| measured)),
            flows: self.line.flows(),
            ..describe(self.id, self.kind, part)
        }
    }
}

fn describe(id: u32, kind: CarrierKind, part: Part) -> CarrierStatus {
    CarrierStatus {
        id,
        part: Some(part),
        kind: kind.as_str().to_owned(),
        ..CarrierStatus::default()
    }
}

/// The pool.
#[derive(Debug)]
pub struct Carriers {
    /// In the order of their arrival.
    alive: Mutex<BTreeMap<u64, Carrier>>,
    /// Those that are gone and haven't come back, for `kdev status`.
    gone: Mutex<BTreeMap<u32, (CarrierKind, Part)>>,
    /// What was said of each in the log.
    outages: Mutex<BTreeMap<u32, Outage>>,
    changed: watch::Sender<()>,
    /// How long a TCP flow may be without one.
    resume_limit: Duration,
}

impl Carriers {
    /// None yet; a TCP flow may be without one for `resume_limit`.
    pub fn new(resume_limit: Duration) -> Self {
        Self {
            alive: Mutex::default(),
            gone: Mutex::default(),
            outages: Mutex::default(),
            changed: watch::Sender::default(),
            resume_limit,
        }
    }

    /// How long a TCP flow may be without a carrier.
    pub fn resume_limit(&self) -> Duration {
        self.resume_limit
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Carrier>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_gone(&self) -> MutexGuard<'_, BTreeMap<u32, (CarrierKind, Part)>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever a carrier comes, goes or changes its state.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes a place on the carrier with the fewest flows, as soon as there is one: a flow that is
    /// opened while all carriers are being made again waits, it doesn't fail. Cancel safe.
    pub async fn place(&self) -> Place {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(place) = self.try_place() {
                return place;
            }
            if changed.changed().await.is_err() {
                // The sender is this pool's own.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes a place if there is a carrier now; on one that is in doubt only without another.
    pub fn try_place(&self) -> Option<Place> {
        let alive = self.lock();
        let stay = alive.values().filter(|one| !one.line.left.is_cancelled());
        let carrier = stay.min_by_key(|one| {
            let doubtful = one.part.state() != State::Ok;
            (doubtful, one.line.flows())
        })?;
        Some(Place::on(&carrier.line))
    }

    /// Something broke on the carrier of `place`: it is asked at once whether it is alive, and what
    /// comes next takes another.
    pub fn doubt(&self, place: &Place) {
        let mut alive = self.lock();
        let carrier = alive
            .values_mut()
            .find(|one| Arc::ptr_eq(&one.line, &place.0));
        let Some(carrier) = carrier else {
            return;
        };
        let was_trusted = carrier.part.state() == State::Ok;
        carrier.part = carrier.part.then(State::Degraded, "something broke on it");
        carrier.doubted.notify_one();
        drop(alive);
        if was_trusted {
            self.changed.send_replace(());
        }
    }

    /// The machine was asleep, or its network changed: all of them are asked at once whether they are
    /// alive.
    pub fn doubt_all(&self) {
        self.lock()
            .values()
            .for_each(|one| one.doubted.notify_one());
    }

    fn doubt_others(&self, than: u64) {
        let alive = self.lock();
        let others = alive.iter().filter(|(arrival, _)| **arrival != than);
        others.for_each(|(_, one)| one.doubted.notify_one());
    }

    /// All of them for `kdev status`, those that are gone included.
    pub fn status(&self) -> Vec<CarrierStatus> {
        let mut all: BTreeMap<u32, CarrierStatus> = self
            .lock_gone()
            .iter()
            .map(|(id, (kind, part))| (*id, describe(*id, *kind, part.clone())))
            .collect();
        // Of two with the same number the younger has taken the other's place.
        let alive = self.lock();
        for one in alive.values() {
            let mut status = one.describe();
            if let Some(former) = all.insert(one.id, CarrierStatus::default())
                && former.flows > 0
                && let Some(part) = &mut status.part
            {
                let go_on = match former.flows {
                    1 => "1 flow goes".to_owned(),
                    flows => format!("{flows} flows go"),
                };
                part.detail += &format!("; {go_on} on over the former, {}", former.kind);
            }
            all.insert(one.id, status);
        }
        all.into_values().collect()
    }

    /// Asks all of them now whether they carry, and waits a second for their answers at most: what
    /// [`Carriers::status`] says is then true.
    pub async fn look(&self) {
        let asked: Vec<_> = self
            .lock()
            .iter()
            .map(|(arrival, one)| (*arrival, one.line.client.clone(), one.received.clone()))
            .collect();
        let looks = asked
            .into_iter()
            .map(async |(arrival, mut client, received)| {
                let (started, before) = (Instant::now(), received.get());
                let answer = tokio::time::timeout(LOOK, client.echo(EchoMessage::small()));
                let answer = answer.await;
                let mut alive = self.lock();
                let Some(carrier) = alive.get_mut(&arrival) else {
                    return;
                };
                match answer {
                    Ok(Ok(_)) => carrier.handle_answer(started.elapsed()),
                    // An answer may wait behind much else.
                    Err(_) if received.get() != before => {}
                    Ok(Err(_)) => carrier.look = carrier.look.then(State::Degraded, "it broke"),
                    Err(_) => {
                        let silent = format!("no answer within {} s", LOOK.as_secs());
                        carrier.look = carrier.look.then(State::Degraded, silent);
                    }
                }
            });
        join_all(looks).await;
    }

    /// Since when none of those that there are answers, in milliseconds since the Unix epoch; `None`
    /// while one does.
    pub fn silent_since_ms(&self) -> Option<u64> {
        let alive = self.lock();
        let looks = alive.values().map(|one| &one.look);
        let silent = looks.map(|look| (look.state() != State::Ok).then_some(look.since_ms));
        let silent: Option<Vec<u64>> = silent.collect();
        silent?.into_iter().max()
    }

    /// Since when there has been no carrier, in milliseconds since the Unix epoch; `None` while there
    /// is one.
    pub fn none_since_ms(&self) -> Option<u64> {
        if !self.lock().is_empty() {
            return None;
        }
        self.lock_gone()
            .values()
            .map(|(_, part)| part.since_ms)
            .max()
    }

    /// Since when there has been one without a break, in milliseconds since the Unix epoch: at least as
    /// long as the oldest lives.
    pub fn some_since_ms(&self) -> Option<u64> {
        self.lock().values().map(|one| one.since_ms).min()
    }
}
