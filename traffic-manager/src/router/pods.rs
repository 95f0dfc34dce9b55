//! The pods that a port leads to where nobody's rule wants a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kdev_cluster::redirect::{PortRef, ServiceName, follow_backends};
use kube::Client;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// How long one pod may take to accept while there is another.
const NEXT: Duration = Duration::from_secs(1);
/// How long the last one may take.
const LAST: Duration = Duration::from_secs(3);
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
    known: watch::Receiver<Option<Arc<[SocketAddr]>>>,
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
        Self { known }
    }

    /// Connects to one of them, in a random order until one accepts.
    ///
    /// # Errors
    ///
    /// When none does.
    pub async fn dial(&self) -> Result<TcpStream, Unreachable> {
        let mut pods = self.list().await.to_vec();
        if pods.is_empty() {
            return Err(Unreachable::NoPod);
        }
        pods.shuffle(&mut rand::rng());
        pods.truncate(TRIED);
        let last = pods.len() - 1;
        for (number, pod) in pods.into_iter().enumerate() {
            let patience = if number == last { LAST } else { NEXT };
            let dial = tokio::time::timeout(patience, TcpStream::connect(pod));
            if let Ok(Ok(connection)) = dial.await {
                // Requests and answers are small, and nobody waits for more to come.
                let _ = connection.set_nodelay(true);
                return Ok(connection);
            }
        }
        Err(Unreachable::NoneAccepts)
    }

    /// One of them, for datagrams; `None` without any.
    pub async fn any(&self) -> Option<SocketAddr> {
        self.list().await.choose(&mut rand::rng()).copied()
    }

    /// Whether it is one of them.
    pub fn has(&self, pod: SocketAddr) -> bool {
        let known = self.known.borrow();
        known.as_ref().is_some_and(|known| known.contains(&pod))
    }

    async fn list(&self) -> Arc<[SocketAddr]> {
        let mut known = self.known.clone();
        let first = known.wait_for(Option::is_some);
        if !matches!(tokio::time::timeout(KNOWN, first).await, Ok(Ok(_))) {
            return Arc::default();
        }
        let any = known.wait_for(|list| list.as_ref().is_some_and(|list| !list.is_empty()));
        match tokio::time::timeout(READY, any).await {
            Ok(Ok(list)) => list.clone().unwrap_or_default(),
            _ => Arc::default(),
        }
    }
}
