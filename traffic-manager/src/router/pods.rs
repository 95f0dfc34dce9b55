//! The pods that a port leads to where nobody's rule wants a connection.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use kdev_cluster::redirect::{Backends, PortRef, ServiceName, follow_backends};
use kube::Client;
use rand::seq::SliceRandom as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::affinity::Affinity;

/// How long one pod may take to accept while there is another.
const NEXT: Duration = Duration::from_secs(1);
/// How long the last one may take.
const LAST: Duration = Duration::from_secs(3);
/// How long one may take that somebody wants to be sure of: a first packet may be lost, and a second one.
const REACHED: Duration = Duration::from_secs(4);
/// Pods that are tried.
const TRIED: usize = 3;
/// How long a connection waits until it is known which pods there are.
const KNOWN: Duration = Duration::from_secs(5);
/// How long it waits for one to be ready: the API server tells of it a moment later.
const READY: Duration = Duration::from_secs(1);

/// Why a connection can't go to the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// There is no pod that is ready.
    #[error("the Service has no pod that is ready")]
    NoPod,
    /// None of those that were tried accepts.
    #[error("no pod of the Service accepts a connection")]
    NoneAccepts,
}

/// The ready pods of one port, as the API server shows them.
#[derive(Debug, Clone)]
pub struct Pods {
    known: watch::Receiver<Option<Arc<Backends>>>,
    /// Which of them clients had, where they are to keep them.
    affinity: Arc<Mutex<Affinity>>,
}

impl Pods {
    /// Follows them in a task of `tasks`, as long as a clone of the result is there: connections outlive their
    /// port.
    pub fn follow(
        client: Client,
        service: ServiceName,
        port: PortRef,
        tasks: &TaskTracker,
    ) -> Self {
        let (known_tx, known) = watch::channel(None);
        tasks.spawn(async move {
            follow_backends(&client, &service, &port, known_tx).await;
        });
        Self {
            known,
            affinity: Arc::default(),
        }
    }

    fn affinity(&self) -> MutexGuard<'_, Affinity> {
        self.affinity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects a client to one of them, in a random order until one accepts; first to the one that the client
    /// had, where the Service asks for that.
    ///
    /// # Errors
    ///
    /// When none does.
    pub async fn dial(&self, client: IpAddr) -> Result<TcpStream, Unreachable> {
        let backends = self.list().await;
        let mut pods = self.in_order(&backends, client);
        pods.truncate(TRIED);
        if pods.is_empty() {
            return Err(Unreachable::NoPod);
        }
        let last = pods.len() - 1;
        for (number, pod) in pods.into_iter().enumerate() {
            let patience = if number == last { LAST } else { NEXT };
            let dial = tokio::time::timeout(patience, TcpStream::connect(pod));
            if let Ok(Ok(connection)) = dial.await {
                // Requests and answers are small, and nobody waits for more to come.
                let _ = connection.set_nodelay(true);
                if number > 0 && backends.affinity.is_some() {
                    let now = Instant::now();
                    self.affinity().handle_connection(client, pod, now);
                }
                return Ok(connection);
            }
        }
        Err(Unreachable::NoneAccepts)
    }

    /// The one that gets a client's datagrams, as [`Pods::dial`] chooses; `None` without any.
    pub async fn one(&self, client: IpAddr) -> Option<SocketAddr> {
        let backends = self.list().await;
        self.in_order(&backends, client).first().copied()
    }

    /// Whether it is one of them.
    pub fn has(&self, pod: SocketAddr) -> bool {
        let known = self.known.borrow();
        known
            .as_ref()
            .is_some_and(|known| known.addresses.contains(&pod))
    }

    /// Whether connections get to any of them; one that refuses was reached. Where there is none, nothing is in the
    /// way.
    ///
    /// # Errors
    ///
    /// Those that were tried.
    pub async fn reach(&self) -> Result<(), Vec<SocketAddr>> {
        let mut known = self.known.clone();
        let first = known.wait_for(Option::is_some);
        let backends = match tokio::time::timeout(KNOWN, first).await {
            Ok(Ok(backends)) => backends.clone().unwrap_or_default(),
            _ => return Ok(()),
        };
        let mut pods = backends.addresses.clone();
        pods.shuffle(&mut rand::rng());
        pods.truncate(TRIED);
        let dials = pods.clone().into_iter().map(|pod| async move {
            let dial = tokio::time::timeout(REACHED, TcpStream::connect(pod)).await;
            matches!(&dial, Ok(Ok(_)))
                || matches!(&dial, Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused)
        });
        let mut dials: FuturesUnordered<_> = dials.collect();
        while let Some(reached) = dials.next().await {
            if reached {
                return Ok(());
            }
        }
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    }

    /// All of them, in the order in which a client is to try them.
    fn in_order(&self, backends: &Backends, client: IpAddr) -> Vec<SocketAddr> {
        let mut pods = backends.addresses.clone();
        pods.shuffle(&mut rand::rng());
        if let Some(timeout) = backends.affinity {
            self.prefer(client, timeout, &mut pods);
        }
        pods
    }

    /// Puts the pod that a client had first. What comes first is the client's from now on, also for its other
    /// connections that are being made at the same time.
    fn prefer(&self, client: IpAddr, timeout: Duration, pods: &mut [SocketAddr]) {
        let (mut affinity, now) = (self.affinity(), Instant::now());
        let had = affinity.pod_of(client, timeout, now);
        let had = had.and_then(|had| pods.iter().position(|pod| *pod == had));
        if let Some(had) = had {
            pods.swap(0, had);
        }
        if let Some(first) = pods.first() {
            affinity.handle_connection(client, *first, now);
        }
    }

    async fn list(&self) -> Arc<Backends> {
        let mut known = self.known.clone();
        let first = known.wait_for(Option::is_some);
        if !matches!(tokio::time::timeout(KNOWN, first).await, Ok(Ok(_))) {
            return Arc::default();
        }
        let any =
            known.wait_for(|list| list.as_ref().is_some_and(|list| !list.addresses.is_empty()));
        match tokio::time::timeout(READY, any).await {
            Ok(Ok(list)) => list.clone().unwrap_or_default(),
            _ => Arc::default(),
        }
    }
}
