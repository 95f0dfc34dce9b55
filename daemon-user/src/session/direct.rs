//! Looks for a direct way to the manager, and says which one works.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use ipnet::IpNet;
use kdev_common::outage::Outage;
use kdev_proto::v1::{ClusterNetwork, Part, State};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, Nudge};
use super::manager_access::{Known, ManagerAccess};
use super::proof::{prove, try_out};

/// How long the first look is waited for, before a port-forward is taken.
const FIRST_LOOK: Duration = Duration::from_millis(250);
/// How long whoever named an address waits to hear whether it leads to the manager.
const NAMED_LOOK: Duration = Duration::from_secs(2);
/// A way that worked for so long was a good one.
const LASTED: Duration = Duration::from_secs(60);
/// Longest time between two looks.
const LONGEST: Duration = Duration::from_secs(30);
/// One that breaks after more than this has passed too little for too long, as three heartbeats need: to take it again at once
/// would be to wait for that again.
const FOUND_OUT: Duration = Duration::from_secs(3);
/// How long the most that breaks so again and again isn't taken.
const AVOIDED: Duration = Duration::from_secs(600);

/// What the user wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Wanted {
    /// What the manager says.
    #[default]
    Auto,
    /// Port-forwards only.
    Never,
    /// This host and port.
    At(String),
}

/// What is known of direct ways.
#[derive(Debug, Clone)]
pub struct Found {
    /// How it stands.
    pub part: Part,
    /// The address that works.
    pub address: Option<SocketAddr>,
    /// Whether somebody has looked.
    looked: bool,
    /// Addresses that must keep their old way, whatever the cluster's prefixes.
    pub exempt: BTreeSet<IpAddr>,
}

/// A handle to the scout.
#[derive(Debug, Clone)]
pub struct Direct {
    wanted: Wanted,
    found: watch::Sender<Found>,
    failed: watch::Sender<Option<SocketAddr>>,
}

impl Direct {
    /// Nobody has looked yet.
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            found: watch::Sender::new(Found {
                part: Part::new(State::Pending, "not looked for yet"),
                address: None,
                looked: false,
                exempt: BTreeSet::new(),
            }),
            failed: watch::Sender::new(None),
        }
    }

    /// What is known, and notice of changes.
    pub fn found(&self) -> watch::Receiver<Found> {
        self.found.subscribe()
    }

    /// The address that works, once somebody has looked; waits for that a moment only. Cancel safe.
    pub async fn address(&self) -> Option<SocketAddr> {
        let mut found = self.found.subscribe();
        let looked = timeout(FIRST_LOOK, found.wait_for(|found| found.looked)).await;
        looked.ok()?.ok()?.address
    }

    /// Waits until there is an address that works. Cancel safe.
    pub async fn available(&self) -> SocketAddr {
        let mut found = self.found.subscribe();
        let found = found.wait_for(|found| found.address.is_some()).await;
        match found.ok().and_then(|found| found.address) {
            Some(address) => address,
            // The sender is this one's own.
            None => std::future::pending().await,
        }
    }

    /// Why the address that the user named doesn't lead to the manager, once somebody has looked; waits
    /// for that a moment only. `None` where it does, or none was named. Cancel safe.
    pub async fn why_not_as_named(&self) -> Option<String> {
        self.why_not_within(NAMED_LOOK).await
    }

    async fn why_not_within(&self, patience: Duration) -> Option<String> {
        let Wanted::At(named) = &self.wanted else {
            return None;
        };
        let mut found = self.found.subscribe();
        let looked = timeout(patience, found.wait_for(|found| found.looked)).await;
        match looked {
            Ok(found) => {
                let found = found.ok()?;
                let part = &found.part;
                (part.state() != State::Ok).then(|| part.detail.clone())
            }
            Err(_) => Some(format!(
                "{named} hasn't answered within {} s",
                patience.as_secs_f32()
            )),
        }
    }

    /// Proves again that the manager is behind the address that works, if there is one.
    ///
    /// # Errors
    ///
    /// Why it isn't.
    pub async fn prove(&self, access: &ManagerAccess, patience: Duration) -> Result<(), String> {
        let address = self.found.borrow().address;
        let manager = access.known().borrow().clone();
        let (Some(address), Some(manager)) = (address, manager) else {
            return Ok(());
        };
        let proven = prove(access, address, &manager, patience).await;
        proven.map(drop).map_err(|why| format!("{address}: {why}"))
    }

    /// `address` didn't work after all: it is looked at again before anyone else takes it.
    pub fn failed(&self, address: SocketAddr) {
        let withdrawn = self.found.send_if_modified(|found| {
            let is_it = found.address == Some(address);
            if is_it {
                found.address = None;
                found.part = found.part.then(State::Down, format!("{address} broke"));
            }
            is_it
        });
        if withdrawn {
            self.failed.send_replace(Some(address));
        }
    }

    /// Addresses that were found not to work, from now on.
    pub fn failures(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.failed.subscribe()
    }

    /// Looks until cancelled.
    pub async fn run(
        self,
        access: ManagerAccess,
        network: watch::Receiver<Option<ClusterNetwork>>,
        nudge: Nudge,
        cancelled: CancellationToken,
    ) {
        if self.wanted == Wanted::Never {
            return self.report(State::Ok, "not wanted (--direct never)", None);
        }
        let scout = Scout {
            direct: self,
            access,
            network,
        };
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = scout.run(nudge) => {}
        }
    }

    fn report(&self, state: State, detail: &str, address: Option<SocketAddr>) {
        self.found.send_modify(|found| {
            found.part = found.part.then(state, detail);
            found.address = address;
            found.looked = true;
        });
    }
}

struct Scout {
    direct: Direct,
    access: ManagerAccess,
    network: watch::Receiver<Option<ClusterNetwork>>,
}

impl Scout {
    async fn run(mut self, nudge: Nudge) {
        let mut backoff = Backoff::up_to(LONGEST, nudge);
        let (mut known, mut failed) = (self.access.known(), self.direct.failed.subscribe());
        let (mut log, mut in_vain) = (Log::default(), 0);
        loop {
            let Ok(manager) = known.wait_for(Option::is_some).await.map(|it| it.clone()) else {
                return;
            };
            let Some(manager) = manager else { continue };
            known.mark_unchanged();
            failed.mark_unchanged();
            self.network.mark_unchanged();
            let found = self.look(&manager).await;
            let (works, since) = (found.is_some(), Instant::now());
            log.handle_looked(&self.direct.found.borrow().part, found);
            tokio::select! {
                changed = known.changed() => if changed.is_err() { return },
                changed = self.network.changed() => if changed.is_err() { return },
                _ = failed.changed() => {
                    // A way that proves itself and then breaks again and again is no reason for haste.
                    let has_lasted = since.elapsed() > LASTED;
                    if has_lasted {
                        backoff.reset();
                        in_vain = 0;
                    } else if since.elapsed() > FOUND_OUT {
                        in_vain += 1;
                    }
                    log.handle_broke(has_lasted);
                    let before = self.network.borrow().clone();
                    tokio::select! {
                        // A nudge is no reason, nor is what is only said again: whoever is connected again by another way
                        // gives the one and hears the other.
                        () = tokio::time::sleep(avoided(in_vain)) => backoff.wait().await,
                        changed = known.changed() => if changed.is_err() { return },
                        is_over = async { self.network.wait_for(|now| *now != before).await.is_err() } => {
                            if is_over {
                                return;
                            }
                        }
                    }
                }
                () = backoff.wait(), if !works => {}
            }
        }
    }

    /// Tries every address at once; the first that proves to be the manager is it.
    async fn look(&self, manager: &Known) -> Option<SocketAddr> {
        let candidates = match self.candidates().await {
            Ok(candidates) => candidates,
            Err(why) => {
                self.direct.report(State::Down, &why, None);
                return None;
            }
        };
        if candidates.is_empty() {
            let known = self.network.borrow().is_some();
            let why = if known {
                "the manager has no address outside of the cluster"
            } else {
                "the manager hasn't said yet where it is reached"
            };
            if known {
                self.direct.report(State::Ok, why, None);
            }
            return None;
        }
        let mut tries: FuturesUnordered<_> = candidates
            .iter()
            .map(|address| try_out(&self.access, *address, manager))
            .collect();
        let mut last = String::new();
        while let Some(tried) = tries.next().await {
            match tried {
                Ok(address) => {
                    self.direct
                        .report(State::Ok, &address.to_string(), Some(address));
                    return Some(address);
                }
                Err(why) => last = why,
            }
        }
        let all: Vec<String> = candidates.iter().map(ToString::to_string).collect();
        let why = format!("not reached at {}: {last}", all.join(", "));
        // That it is out of reach is no fault, unless somebody wanted it.
        let state = match self.direct.wanted {
            Wanted::At(_) => State::Down,
            Wanted::Auto | Wanted::Never => State::Ok,
        };
        self.direct.report(state, &why, None);
        None
    }

    async fn candidates(&self) -> Result<Vec<SocketAddr>, String> {
        if let Wanted::At(named) = &self.direct.wanted {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host(named)
                .await
                .map_err(|error| format!("{named} isn't resolved: {error}"))?
                .collect();
            self.direct.found.send_if_modified(|found| {
                let before = found.exempt.len();
                found.exempt.extend(addresses.iter().map(SocketAddr::ip));
                found.exempt.len() != before
            });
            return Ok(addresses);
        }
        let network = self.network.borrow().clone().unwrap_or_default();
        Ok(outside(&network))
    }
}

/// How long a way isn't taken that so often in a row worked at first and was found out to pass nothing.
fn avoided(in_vain: u32) -> Duration {
    match in_vain {
        // Once may be an accident.
        0 | 1 => Duration::ZERO,
        more => LONGEST.saturating_mul(1 << (more - 2).min(10)).min(AVOIDED),
    }
}

/// What the log tells of the way: that it is gone, and that it is back, but not each time of one that
/// proves itself and breaks again and again.
#[derive(Debug, Default)]
struct Log {
    outage: Outage,
    /// How often in a row it broke soon after it was found.
    broke_soon: u32,
}

impl Log {
    /// Somebody has looked; returns whether what came of it is news.
    fn handle_looked(&mut self, part: &Part, found: Option<SocketAddr>) -> bool {
        if let Some(address) = found {
            tracing::debug!(%address, "a direct way to the manager");
            return self.broke_soon < 2 && self.handle_works();
        }
        tracing::debug!(why = part.detail, "no direct way to the manager");
        // That there is none is no fault, unless somebody wanted it.
        let is_news = part.state() == State::Down && self.handle_away();
        if is_news {
            tracing::info!("the address that was named doesn't lead to the manager");
        }
        is_news
    }

    /// The way that was found is gone; returns whether that is news.
    fn handle_broke(&mut self, has_lasted: bool) -> bool {
        if has_lasted {
            *self = Self::default();
        } else {
            self.broke_soon = self.broke_soon.saturating_add(1);
        }
        let is_news = self.handle_away();
        if is_news {
            tracing::info!("the direct way to the manager broke");
        } else {
            tracing::debug!("the direct way to the manager broke again");
        }
        is_news
    }

    fn handle_works(&mut self) -> bool {
        let away = self.outage.handle_back(Instant::now().into());
        if let Some(away) = away {
            tracing::info!(?away, "the direct way to the manager works");
        }
        away.is_some()
    }

    fn handle_away(&mut self) -> bool {
        self.outage.handle_lost(Instant::now().into())
    }
}

/// The manager's addresses that don't lead through the cluster's own prefixes: a carrier can't be
/// carried by itself.
fn outside(network: &ClusterNetwork) -> Vec<SocketAddr> {
    let prefixes = network.service_cidrs.iter().chain(&network.pod_cidrs);
    let prefixes: Vec<IpNet> = prefixes.filter_map(|prefix| prefix.parse().ok()).collect();
    let addresses = network.direct.iter().filter_map(|text| text.parse().ok());
    addresses
        .filter(|address: &SocketAddr| {
            let ip = address.ip();
            !ip.is_loopback() && !prefixes.iter().any(|prefix| prefix.contains(&ip))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_of_a_way_that_comes_and_goes_but_not_for_ever() {
        let works = |log: &mut Log| {
            let address = Some("192.0.2.7:31000".parse().unwrap());
            log.handle_looked(&Part::new(State::Ok, ""), address)
        };
        let mut log = Log::default();
        assert!(!works(&mut log), "nobody missed it");
        for _ in 0..3 {
            assert!(log.handle_broke(true));
            assert!(works(&mut log));
        }
        let told = (0..100).flat_map(|_| [log.handle_broke(false), works(&mut log)]);
        assert_eq!(told.filter(|told| *told).count(), 3, "broke, works, broke");
        // It has lasted after all.
        assert!(log.handle_broke(true) && works(&mut log));
    }

    #[test]
    fn the_log_tells_once_of_a_named_address_that_leads_elsewhere() {
        let mut log = Log::default();
        let looks = [State::Ok, State::Down, State::Down, State::Down];
        let told = looks.map(|state| log.handle_looked(&Part::new(state, ""), None));
        assert_eq!(told, [false, true, false, false]);
    }

    #[test]
    fn a_way_that_works_at_first_and_passes_nothing_is_taken_less_and_less_often() {
        let pauses: Vec<u64> = (0..9).map(|vain| avoided(vain).as_secs()).collect();
        assert_eq!(pauses, [0, 0, 30, 60, 120, 240, 480, 600, 600]);
        assert_eq!(avoided(u32::MAX), AVOIDED);
    }

    const SOON: Duration = Duration::from_millis(20);

    fn named() -> Direct {
        Direct::new(Wanted::At("192.0.2.7:31000".to_owned()))
    }

    #[tokio::test]
    async fn who_named_an_address_hears_why_it_isnt_used() {
        let direct = named();
        let why = "not reached at 192.0.2.7:31000: Connection refused";
        let (told, ()) = tokio::join!(direct.why_not_as_named(), async {
            direct.report(State::Down, why, None);
        });
        assert_eq!(told.as_deref(), Some(why));
        let address = "192.0.2.7:31000".parse().unwrap();
        direct.report(State::Ok, "192.0.2.7:31000", Some(address));
        assert_eq!(direct.why_not_as_named().await, None);
    }

    #[tokio::test]
    async fn an_address_that_says_nothing_is_waited_for_a_moment_only() {
        let told = named().why_not_within(SOON).await.unwrap();
        assert!(told.contains("192.0.2.7:31000"), "{told}");
    }

    #[tokio::test]
    async fn who_named_none_waits_for_none() {
        for wanted in [Wanted::Auto, Wanted::Never] {
            let direct = Direct::new(wanted);
            assert_eq!(direct.why_not_as_named().await, None);
            direct.report(State::Down, "not reached", None);
            assert_eq!(direct.why_not_as_named().await, None);
        }
    }

    #[test]
    fn an_address_inside_the_clusters_prefixes_isnt_tried() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let network = ClusterNetwork {
            service_cidrs: texts(&["10.96.0.0/16"]),
            pod_cidrs: texts(&["10.244.0.0/16", "fd00:10::/48"]),
            direct: texts(&[
                "10.244.3.1:31000",
                "10.96.0.9:7443",
                "[fd00:10::5]:31000",
                "127.0.0.1:31000",
                "nonsense",
                "192.0.2.7:31000",
                "[fd00:11::5]:31000",
            ]),
            ..ClusterNetwork::default()
        };
        let expected: Vec<SocketAddr> = ["192.0.2.7:31000", "[fd00:11::5]:31000"]
            .map(|text| text.parse().unwrap())
            .into();
        assert_eq!(outside(&network), expected);
    }
}
