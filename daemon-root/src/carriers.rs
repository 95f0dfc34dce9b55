//! The carriers of a session: which there are, how they are doing, and which one takes the next flow.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use kdev_common::carrier::CarrierKind;
use kdev_common::channel::Channel;
use kdev_common::killable::{Killable, Received};
use kdev_common::outage::Outage;
use kdev_flow::Carrier as FlowCarrier;
use kdev_flow::rpc::client::FlowsClient;
use kdev_identity::{Connector, Fingerprint};
use kdev_proto::round_trip_us;
use kdev_proto::v1::manager_client::ManagerClient;
use kdev_proto::v1::{CarrierStatus, EchoMessage, Part, State};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

const HEARTBEAT: Duration = Duration::from_secs(2);
/// Misses in a row after which a carrier is dead.
const MISSES: u32 = 3;
/// How long a carrier may take to answer whoever asks how it is now.
const LOOK: Duration = Duration::from_secs(1);
/// How long the first answer may take.
const HANDSHAKE: Duration = Duration::from_secs(6);
/// How long what was said last may take to get out of a carrier that no flow needs any more.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A client of the manager over one carrier.
pub type Client = ManagerClient<Channel>;

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

/// What flows and lookups use of a carrier.
#[derive(Debug)]
struct Line {
    client: Client,
    calls: FlowsClient,
    close: FlowCarrier,
    flows: AtomicU32,
    /// Once another carrier has taken its place: no flow comes to it, and those that it has move, if they can without a loss.
    left: CancellationToken,
    /// Notified when it has no flow any more.
    emptied: Notify,
    /// Breaks it.
    kill: CancellationToken,
}

impl Line {
    fn flows(&self) -> u32 {
        self.flows.load(Ordering::Relaxed)
    }

    /// Waits until another one has taken its place, and nobody needs it any more.
    async fn abandoned(&self) {
        self.left.cancelled().await;
        while self.flows() > 0 {
            self.emptied.notified().await;
        }
        // The last of them may still be saying goodbye.
        tokio::time::sleep(LAST_WORDS).await;
    }
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

/// Breaks those of this number that were all left for one that is gone: somebody has to see that none carries any more.
fn end_those_without_successor(alive: &BTreeMap<u64, Carrier>, id: u32) {
    let of_it = || alive.values().filter(|one| one.id == id);
    if of_it().all(|one| one.line.left.is_cancelled()) {
        of_it().for_each(|one| one.line.kill.cancel());
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

/// Who a carrier leads to, and over what.
#[derive(Debug, Clone)]
pub struct Route {
    /// Speaks with this daemon's key.
    pub connector: Connector,
    /// The key that the manager has to have.
    pub manager: Fingerprint,
    /// Over what.
    pub kind: CarrierKind,
    /// Grows with each that arrives: of two with one number the younger takes the other's place, whichever carries first.
    pub arrival: u64,
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

/// A carrier's place for one flow, given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<Line>);

impl Place {
    fn on(line: &Arc<Line>) -> Self {
        line.flows.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(line))
    }

    /// The manager, over the carrier.
    pub fn client(&self) -> Client {
        self.0.client.clone()
    }

    /// Its flows.
    pub fn calls(&self) -> FlowsClient {
        self.0.calls.clone()
    }

    /// For flows over which the manager breaks the protocol.
    pub fn carrier(&self) -> &FlowCarrier {
        &self.0.close
    }

    /// Waits until another carrier has taken the place of this one, which goes on for a while. Cancel safe.
    pub async fn left(&self) {
        self.0.left.cancelled().await;
    }

    /// Whether another carrier has taken the place of this one.
    pub fn is_left(&self) -> bool {
        self.0.left.is_cancelled()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.flows.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.emptied.notify_one();
        }
    }
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

    /// Uses `stream` as carrier number `id` until it is dead or `cancelled`. Its flows move to another
    /// one then.
    pub async fn run<S>(&self, id: u32, stream: S, route: Route, cancelled: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let killed = cancelled.child_token();
        // Also when this future is dropped.
        let _kill = killed.clone().drop_guard();
        let stream = Killable::new(stream, killed.clone());
        let received = stream.received();
        let Route {
            connector,
            manager,
            kind,
            arrival,
        } = route;
        let handshake = async {
            let stream = connector.connect(manager, stream).await?;
            let channel = Channel::over(stream).await?;
            let mut client = ManagerClient::new(channel.clone());
            let started = Instant::now();
            client.echo(EchoMessage::full()).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((channel, client, started.elapsed()))
        };
        let connected = tokio::select! {
            () = cancelled.cancelled() => return,
            connected = tokio::time::timeout(HANDSHAKE, handshake) => connected,
        };
        let (channel, client, round_trip) = match connected {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return self.log_lost(id, &error),
            Err(_) => return self.log_lost(id, &"no answer over it"),
        };
        let part = Part::new(State::Ok, "carries");
        let line = Line {
            client: client.clone(),
            calls: FlowsClient::new(channel.clone()),
            close: FlowCarrier::new(killed.clone()),
            flows: AtomicU32::new(0),
            left: CancellationToken::new(),
            emptied: Notify::new(),
            kill: killed,
        };
        let carrier = Carrier {
            id,
            line: Arc::new(line),
            kind,
            since_ms: part.since_ms,
            part,
            look: Part::new(State::Ok, "answers"),
            round_trip,
            received: received.clone(),
            doubted: Arc::default(),
        };
        let (doubted, line) = (Arc::clone(&carrier.doubted), Arc::clone(&carrier.line));
        if !self.take_place(arrival, carrier) {
            return tracing::debug!(carrier = id, "a younger one is up already");
        }
        self.log_up(id, kind);
        self.lock_gone().remove(&id);
        self.changed.send_replace(());
        let why = tokio::select! {
            () = cancelled.cancelled() => "it was given up",
            // An end that the kernel tells of needn't be waited for.
            () = channel.closed() => "it broke",
            why = self.watch_over(arrival, client, &doubted, &received) => why,
            () = line.abandoned() => "another one has its place",
        };
        let mut alive = self.lock();
        alive.remove(&arrival);
        end_those_without_successor(&alive, id);
        // Another one with the same number may have come before this one was found dead.
        if alive.values().all(|one| one.id != id) {
            let part = Part::new(State::Down, format!("{why}; being made again"));
            self.lock_gone().insert(id, (kind, part));
        }
        drop(alive);
        self.changed.send_replace(());
        if cancelled.is_cancelled() {
            tracing::debug!(carrier = id, why, "carrier gone");
        } else {
            self.log_lost(id, &why);
        }
    }

    /// Adds a carrier, for which older ones of the same number are left; false where a younger one is up already, as this one
    /// took its time.
    fn take_place(&self, arrival: u64, carrier: Carrier) -> bool {
        let mut alive = self.lock();
        let of_it = |(_, one): &(&u64, &Carrier)| one.id == carrier.id;
        if alive
            .iter()
            .filter(of_it)
            .any(|(other, _)| *other > arrival)
        {
            return false;
        }
        alive
            .iter()
            .filter(of_it)
            .for_each(|(_, one)| one.line.left.cancel());
        alive.insert(arrival, carrier);
        true
    }

    fn lock_outages(&self) -> MutexGuard<'_, BTreeMap<u32, Outage>> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A carrier of this number is gone, or of no use.
    fn log_lost(&self, id: u32, why: &dyn Display) {
        if self.lock().values().any(|one| one.id == id) {
            return tracing::debug!(carrier = id, %why, "another one carries");
        }
        let mut outages = self.lock_outages();
        if outages.entry(id).or_default().handle_lost(Instant::now()) {
            tracing::info!(carrier = id, %why, "carrier lost");
        } else {
            tracing::debug!(carrier = id, %why, "no carrier yet");
        }
    }

    fn log_up(&self, id: u32, kind: CarrierKind) {
        let mut outages = self.lock_outages();
        let away = outages.entry(id).or_default().handle_back(Instant::now());
        let kind = kind.as_str();
        match away {
            Some(away) => tracing::info!(carrier = id, kind, ?away, "carrier back"),
            None => tracing::info!(carrier = id, kind, "carrier up"),
        }
    }

    /// Beats until the carrier is dead; says why.
    async fn watch_over(
        &self,
        arrival: u64,
        mut client: Client,
        doubted: &Notify,
        received: &Received,
    ) -> &'static str {
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        beat.reset();
        let mut missed = 0;
        loop {
            let is_doubted = tokio::select! {
                _ = beat.tick() => missed > 0,
                () = doubted.notified() => true,
            };
            // Whoever only beats passes where a flow doesn't.
            let question = if is_doubted {
                EchoMessage::full()
            } else {
                EchoMessage::small()
            };
            let (started, before) = (Instant::now(), received.get());
            let answer = tokio::time::timeout(HEARTBEAT, client.echo(question));
            match answer.await {
                Ok(Ok(_)) => {
                    missed = 0;
                    self.report(arrival, State::Ok, "carries", Some(started.elapsed()));
                }
                Ok(Err(_)) => return "it broke",
                // An answer may wait behind much else; what arrives shows that the carrier is alive.
                Err(_) if received.get() != before => missed = 0,
                Err(_) => {
                    missed += 1;
                    if missed == MISSES {
                        return "three heartbeats weren't answered";
                    }
                    if missed == 1 {
                        // What one meets the others may, and needn't find out one after the other.
                        self.doubt_others(arrival);
                    }
                    self.report(
                        arrival,
                        State::Degraded,
                        "a heartbeat wasn't answered",
                        None,
                    );
                }
            }
        }
    }

    fn report(&self, arrival: u64, state: State, detail: &str, round_trip: Option<Duration>) {
        let mut alive = self.lock();
        let Some(carrier) = alive.get_mut(&arrival) else {
            return;
        };
        let before = carrier.part.state;
        carrier.part = carrier.part.then(state, detail);
        if let Some(round_trip) = round_trip {
            carrier.handle_answer(round_trip);
        }
        let changed = carrier.part.state != before;
        drop(alive);
        if changed {
            self.changed.send_replace(());
        }
    }
}
