//! What a lease holds, for those who only look.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use kdev_names::DnsHandle;
use kdev_proto::PartCell;
use kdev_proto::v1::{Part, RootStatus, RouteStatus, State};
use tokio::sync::watch;

use crate::carriers::Carriers;

/// See the module.
#[derive(Debug)]
pub struct Lease {
    /// The user whose lease it is.
    pub uid: u32,
    /// The process that holds it; 0 where the system doesn't tell.
    pub pid: u32,
    /// The session's id.
    pub session: String,
    /// Name of the device.
    pub device: String,
    /// The carriers.
    pub carriers: Arc<Carriers>,
    /// How many flows there are.
    pub flows: Arc<AtomicU32>,
    /// How the resolver's file and the DNS server are doing.
    pub dns: PartCell,
    /// The DNS server.
    pub resolver: DnsHandle,
    /// How the routes are doing.
    pub routing: PartCell,
    /// The routes, as the last settings left them.
    pub routes: Mutex<Vec<RouteStatus>>,
}

/// The lease that there is now, if any, and since when there is none.
#[derive(Debug)]
pub struct CurrentLease(watch::Sender<Slot>);

#[derive(Debug)]
enum Slot {
    Held(Arc<Lease>),
    Free(Part),
}

impl Default for CurrentLease {
    fn default() -> Self {
        Self(watch::Sender::new(Slot::free()))
    }
}

impl Slot {
    fn free() -> Self {
        Self::Free(Part::new(State::Down, "no session"))
    }
}

impl CurrentLease {
    /// `lease` has begun.
    pub fn begin(&self, lease: Arc<Lease>) {
        self.0.send_replace(Slot::Held(lease));
    }

    /// It has ended.
    pub fn end(&self) {
        self.0.send_replace(Slot::free());
    }

    /// The user whose lease it is.
    pub fn uid(&self) -> Option<u32> {
        self.get().map(|lease| lease.uid)
    }

    /// The lease.
    pub fn get(&self) -> Option<Arc<Lease>> {
        match &*self.0.borrow() {
            Slot::Held(lease) => Some(Arc::clone(lease)),
            Slot::Free(_) => None,
        }
    }

    /// Fills in what `kdev status` shows.
    pub fn describe(&self, status: &mut RootStatus) {
        match &*self.0.borrow() {
            Slot::Held(lease) => lease.describe(status),
            Slot::Free(none) => {
                status.dns = Some(none.clone());
                status.routing = Some(none.clone());
            }
        }
    }
}

impl Lease {
    /// Fills in what `kdev status` shows.
    pub fn describe(&self, status: &mut RootStatus) {
        status.session.clone_from(&self.session);
        status.owner_uid = self.uid;
        status.holder_pid = self.pid;
        status.device.clone_from(&self.device);
        status.dns = Some(self.describe_dns());
        status.routing = Some(self.routing.get());
        status.routes = self.routes();
        status.carriers = self.carriers.status();
        status.flows = self.flows.load(Ordering::Relaxed);
    }

    /// The server may work, and yet have nobody to ask for the cluster's names.
    fn describe_dns(&self) -> Part {
        let dns = self.dns.get();
        if dns.state() != State::Ok {
            return dns;
        }
        let degraded = |since_ms: u64, why: &str| Part {
            state: State::Degraded.into(),
            since_ms,
            detail: format!("{why}; {}", dns.detail),
        };
        if let Some(since_ms) = self.carriers.none_since_ms() {
            return degraded(since_ms, "no carrier to ask for the cluster's names");
        }
        if let Some(since_ms) = self.carriers.silent_since_ms() {
            return degraded(since_ms, "no carrier answers");
        }
        let since_ms = dns.since_ms.max(self.carriers.some_since_ms().unwrap_or(0));
        if let Some(trouble) = self.resolver.stats().cluster_trouble {
            let at = trouble.at.duration_since(UNIX_EPOCH).unwrap_or_default();
            let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
            // What failed while there was no carrier says nothing of the cluster's DNS.
            if at >= since_ms {
                return degraded(at, &format!("the cluster's DNS failed: {}", trouble.error));
            }
        }
        Part { since_ms, ..dns }
    }

    fn routes(&self) -> Vec<RouteStatus> {
        self.routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kdev_common::clock;
    use kdev_names::{DnsServer, Limits};

    use super::*;

    async fn lease() -> Arc<Lease> {
        let server = DnsServer::bind([127, 0, 0, 1].into(), 0, Limits::default());
        Arc::new(Lease {
            uid: 7,
            pid: 8,
            session: "s".to_owned(),
            device: "kdev0".to_owned(),
            carriers: Arc::new(Carriers::new(Duration::ZERO)),
            flows: Arc::default(),
            dns: PartCell::new(State::Ok, ""),
            resolver: server.await.unwrap().handle(),
            routing: PartCell::new(State::Ok, ""),
            routes: Mutex::default(),
        })
    }

    fn described(current: &CurrentLease) -> [Part; 2] {
        let mut status = RootStatus::default();
        current.describe(&mut status);
        [status.dns.unwrap(), status.routing.unwrap()]
    }

    /// Lets the clock that parts have their time from go on.
    fn tick() {
        let before = clock::now_ms();
        while clock::now_ms() == before {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn since_when_there_is_no_lease_doesnt_depend_on_who_asks_when() {
        let current = CurrentLease::default();
        let at_first = described(&current);
        tick();
        assert_eq!(described(&current), at_first);
        current.begin(lease().await);
        assert_eq!(current.uid(), Some(7));
        assert!(
            described(&current)
                .iter()
                .all(|part| part.state() == State::Ok)
        );
        tick();
        current.end();
        let after = described(&current);
        assert!(
            after[0].since_ms > at_first[0].since_ms,
            "another time without one"
        );
        tick();
        assert_eq!(described(&current), after);
    }
}
