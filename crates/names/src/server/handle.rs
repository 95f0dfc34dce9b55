//! How the rest of the daemon steers the server and looks at it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::limits::Limits;
use crate::cache::Cache;
use crate::forward::{Timing, Upstream};
use crate::policy::Policy;

/// Steers a server. A clone is the same one.
#[derive(Debug, Clone)]
pub struct DnsHandle {
    shared: Arc<Shared>,
}

/// What the server did since it was bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsStats {
    /// Packets that came in.
    pub queries: u64,
    /// Answers that were the cluster's, remembered ones included.
    pub cluster: u64,
    /// Answers that were those of the machine's own name servers.
    pub outside: u64,
    /// Queries that nobody answered: the client was told of a server failure.
    pub failures: u64,
    /// The cluster's first failure since it last answered.
    pub cluster_trouble: Option<ClusterTrouble>,
}

/// A lookup in the cluster that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTrouble {
    /// When.
    pub at: SystemTime,
    /// What happened, for people.
    pub error: String,
}

/// What the server and its handles have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) address: SocketAddr,
    pub(super) limits: Limits,
    pub(super) counters: Counters,
    settings: watch::Sender<Settings>,
    cache: Mutex<Cache>,
}

/// What decides about a query, as it was when the query came in.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// `None` while there is no session: then nothing is the cluster's.
    pub(super) policy: Option<Arc<Policy>>,
    pub(super) upstream: Upstream,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) queries: AtomicU64,
    pub(super) cluster: AtomicU64,
    pub(super) outside: AtomicU64,
    pub(super) failures: AtomicU64,
    cluster_trouble: Mutex<Option<ClusterTrouble>>,
    /// When the cluster was last found not to answer; `None` since it answered.
    cluster_silent: Mutex<Option<Instant>>,
}

impl DnsHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The address on which the server listens, by UDP and TCP.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// Sets what the cluster is, or that there is none: then all names but `localhost` are outside.
    /// A changed policy forgets the answers that are remembered.
    pub fn set_policy(&self, policy: Option<Policy>) {
        let changed = self.shared.settings.send_if_modified(|settings| {
            let changed = settings.policy.as_deref() != policy.as_ref();
            if changed {
                settings.policy = policy.map(Arc::new);
            }
            changed
        });
        if changed {
            self.flush();
        }
    }

    /// Sets the machine's own name servers, most preferred first. The server's own address is left
    /// out: to ask itself would never end.
    pub fn set_upstreams(&self, servers: impl IntoIterator<Item = SocketAddr>) {
        let own = self.shared.address;
        let servers: Vec<SocketAddr> = servers
            .into_iter()
            .filter(|server| *server != own)
            .collect();
        self.shared.settings.send_if_modified(|settings| {
            // The same servers keep what is known about their health.
            let changed = settings.upstream.servers() != servers;
            if changed {
                settings.upstream = Upstream::new(servers, Timing::default());
            }
            changed
        });
    }

    /// Forgets the cluster's answers that are remembered.
    pub fn flush(&self) {
        self.shared.cache().flush();
    }

    /// What the server did so far.
    #[must_use]
    pub fn stats(&self) -> DnsStats {
        let counters = &self.shared.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DnsStats {
            queries: count(&counters.queries),
            cluster: count(&counters.cluster),
            outside: count(&counters.outside),
            failures: count(&counters.failures),
            cluster_trouble: lock(&counters.cluster_trouble).clone(),
        }
    }
}

impl Shared {
    pub(super) fn new(address: SocketAddr, limits: Limits) -> Self {
        let settings = Settings {
            policy: None,
            upstream: Upstream::new([], Timing::default()),
        };
        Self {
            address,
            limits,
            counters: Counters::default(),
            settings: watch::Sender::new(settings),
            cache: Mutex::new(Cache::new(limits.cached, limits.cached_bytes)),
        }
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings.borrow().clone()
    }

    pub(super) fn cache(&self) -> MutexGuard<'_, Cache> {
        lock(&self.cache)
    }
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The cluster gave no answer, which may be a trouble to speak of.
    pub(super) fn cluster_silent(&self, trouble: Option<String>, now: Instant) {
        *lock(&self.cluster_silent) = Some(now);
        if let Some(trouble) = trouble {
            self.cluster_failed(trouble);
        }
    }

    /// The cluster gave an answer, though it says that it failed.
    pub(super) fn cluster_gave_failure(&self, error: String) {
        *lock(&self.cluster_silent) = None;
        self.cluster_failed(error);
    }

    fn cluster_failed(&self, error: String) {
        let at = SystemTime::now();
        lock(&self.cluster_trouble).get_or_insert(ClusterTrouble { at, error });
    }

    pub(super) fn cluster_answered(&self) {
        *lock(&self.cluster_silent) = None;
        *lock(&self.cluster_trouble) = None;
    }

    /// Whether the cluster may be asked for what it hardly knows: while it answers, and else once in `respite`, for the
    /// caller to see whether it does again.
    pub(super) fn may_bother_cluster(&self, now: Instant, respite: Duration) -> bool {
        match &mut *lock(&self.cluster_silent) {
            None => true,
            Some(since) if now.saturating_duration_since(*since) >= respite => {
                *since = now;
                true
            }
            Some(_) => false,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is only ever replaced as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
