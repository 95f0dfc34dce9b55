//! What a lease holds, for those who only look.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use kdev_names::DnsHandle;
use kdev_proto::PartCell;
use kdev_proto::v1::{Part, RootStatus, RouteStatus, State};

use crate::carriers::Carriers;

/// See the module.
#[derive(Debug)]
pub struct Lease {
    /// The user whose lease it is.
    pub uid: u32,
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

impl Lease {
    /// Fills in what `kdev status` shows.
    pub fn describe(&self, status: &mut RootStatus) {
        status.session.clone_from(&self.session);
        status.owner_uid = self.uid;
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
