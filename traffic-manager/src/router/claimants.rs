//! Who has claimed a port, and whose a request is.

use std::future::{pending, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kdev_cluster::redirect::{Intercept, Mode};
use kdev_rules::{Head, Table};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::machine::{Machine, NotTaken, Purpose, Taken, Words};
use crate::probe::{self, Expected};

/// One claim on a port.
pub struct Claimant {
    /// What stands on the Service.
    pub claim: Intercept,
    /// Where its requests go.
    pub machine: Machine,
    /// What is known of its probes.
    pub probe: Expected,
    /// Cancelled when it has left.
    pub left: CancellationToken,
}

impl Claimant {
    /// Asks its machine to take what says nothing first: a probe, or a client's datagrams.
    ///
    /// # Errors
    ///
    /// See [`Machine::take`].
    pub async fn ask(&self, purpose: Purpose<'_>) -> Result<Taken, NotTaken> {
        let nothing = ready(Words::default());
        let taken = self
            .machine
            .take(&self.claim.id, purpose, nothing, pending());
        taken.await
    }

    /// Asks its machine to take a client's connection; until the intercept is over, unless it gets copies, which end
    /// elsewhere.
    ///
    /// # Errors
    ///
    /// See [`Machine::take`].
    pub async fn take(
        &self,
        client: SocketAddr,
        first: impl Future<Output = Words>,
    ) -> Result<Taken, NotTaken> {
        let over = async {
            match self.claim.mode {
                Mode::Wiretap => pending().await,
                _ => self.left.cancelled().await,
            }
        };
        let client = Purpose::Client(client);
        let taken = self.machine.take(&self.claim.id, client, first, over);
        taken.await
    }

    /// Whether the pods take what its machine doesn't.
    pub fn passes(&self, why: NotTaken) -> bool {
        self.claim.pass_if_down && why == NotTaken::Refused
    }
}

/// Everybody who has claimed a port, as it was at one moment.
#[derive(Clone, Default)]
pub struct Snapshot {
    rules: Table<Arc<Claimant>>,
    /// Those who get copies.
    taps: Vec<Arc<Claimant>>,
}

impl Snapshot {
    /// Whether nobody has.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.taps.is_empty()
    }

    /// Whether anybody gets copies.
    pub fn has_taps(&self) -> bool {
        !self.taps.is_empty()
    }

    /// Who has every connection, whatever it carries.
    pub fn of_everything(&self) -> Option<&Arc<Claimant>> {
        let mut all = self.rules.iter();
        all.find(|(rule, _)| rule.is_everything())
            .map(|(_, claimant)| claimant)
    }

    /// Whether no condition asks what a connection carries.
    pub fn reads_nothing(&self) -> bool {
        self.claimants().all(|one| one.claim.rule.is_everything())
    }

    /// Whose a request is; `None` when it is the pods'.
    pub fn of_request(&self, head: &Head<'_>) -> Option<&Arc<Claimant>> {
        self.rules.route(head)
    }

    /// Who gets a copy of a request; of what isn't a request there is no head.
    pub fn copies<'a>(
        &'a self,
        head: Option<&'a Head<'_>>,
    ) -> impl Iterator<Item = &'a Arc<Claimant>> {
        self.taps.iter().filter(move |tap| match head {
            Some(head) => tap.claim.rule.matches(head),
            None => tap.claim.rule.is_everything(),
        })
    }

    /// Whose probe is made of these bytes; `None` when it is a client's.
    pub fn of_probe(&self, said: &[u8]) -> Option<&Arc<Claimant>> {
        let token = <&probe::Token>::try_from(said).ok()?;
        self.claimants()
            .find(|one| one.probe.is_announced() && one.probe.is(token))
    }

    fn add(&mut self, claimant: &Arc<Claimant>) {
        let one = Arc::clone(claimant);
        match claimant.claim.mode {
            Mode::Wiretap => self.taps.push(one),
            Mode::Intercept | Mode::Replace | Mode::Preview => {
                self.rules.push(claimant.claim.rule.clone(), one);
            }
        }
    }

    fn claimants(&self) -> impl Iterator<Item = &Arc<Claimant>> {
        let rules = self.rules.iter().map(|(_, claimant)| claimant);
        rules.chain(&self.taps)
    }
}

/// Everybody who has claimed one port, as it is.
#[derive(Default)]
pub struct Claimants {
    current: Mutex<Arc<Snapshot>>,
}

impl Claimants {
    fn lock(&self) -> MutexGuard<'_, Arc<Snapshot>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is now.
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.lock())
    }

    /// One more has claimed it; requests that several rules want are the one's who came first.
    pub fn add(&self, claimant: &Arc<Claimant>) {
        let mut current = self.lock();
        let mut next = Snapshot::clone(&current);
        next.add(claimant);
        *current = Arc::new(next);
    }

    /// One has left: its requests are the pods' from now on.
    pub fn remove(&self, id: &str) {
        let mut current = self.lock();
        let mut next = Snapshot::default();
        for claimant in current.claimants() {
            if claimant.claim.id == id {
                claimant.left.cancel();
            } else {
                next.add(claimant);
            }
        }
        *current = Arc::new(next);
    }

    /// Whose probe a connection is; `None` when it is a client's, of which no byte is taken.
    ///
    /// # Errors
    ///
    /// See [`probe::peek`].
    pub async fn probed(&self, connection: &TcpStream) -> io::Result<Option<Arc<Claimant>>> {
        let current = self.current();
        if !current.claimants().any(|one| one.probe.is_announced()) {
            return Ok(None);
        }
        let token = probe::peek(connection).await?;
        Ok(token.and_then(|token| current.of_probe(&token).cloned()))
    }
}
