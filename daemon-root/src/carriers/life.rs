//! A carrier's life: its first answer, its heartbeats, and its end.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kdev_common::carrier::CarrierKind;
use kdev_common::channel::Channel;
use kdev_common::killable::{Killable, Received};
use kdev_common::outage::Outage;
use kdev_flow::Carrier as FlowCarrier;
use kdev_flow::rpc::client::FlowsClient;
use kdev_identity::{Connector, Fingerprint};
use kdev_proto::v1::manager_client::ManagerClient;
use kdev_proto::v1::{EchoMessage, Part, State};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::line::{Client, Line};
use super::{Carrier, Carriers};

const HEARTBEAT: Duration = Duration::from_secs(2);
/// Misses in a row after which a carrier is dead.
const MISSES: u32 = 3;
/// How long the first answer may take.
const HANDSHAKE: Duration = Duration::from_secs(6);

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

impl Carriers {
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

/// Breaks those of this number that were all left for one that is gone: somebody has to see that none carries any more.
fn end_those_without_successor(alive: &BTreeMap<u64, Carrier>, id: u32) {
    let of_it = || alive.values().filter(|one| one.id == id);
    if of_it().all(|one| one.line.left.is_cancelled()) {
        of_it().for_each(|one| one.line.kill.cancel());
    }
}
