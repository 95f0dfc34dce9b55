//! The part of the traffic manager that keeps Services redirected as the claims on them and the
//! router say.
//!
//! It watches the claims in all namespaces, and the pods and slices of the Services that are
//! redirected, so that these follow scaling, readiness, and whoever writes to them. What it does is
//! [`reconcile`](super::reconcile()): a crash or a restart needs no memory.
//!
//! A claim that nobody has said anything about is held: its ports lead to the pods, and a selector
//! that an earlier manager cleared stays cleared until the claim is routed or forgotten.
//!
//! For one manager's namespace only one redirector may run at a time: two would undo each other's
//! routes.

mod contest;
mod index;
mod task;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Intercept, NotInterceptable, ReconcileError, Route, ServiceName, Writer};
use index::Wish;

/// How many wishes and events may wait.
const CAPACITY: usize = 64;

/// A claim, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotated {
    /// The Service.
    pub service: ServiceName,
    /// The claim on it.
    pub intercept: Intercept,
}

/// What has come of the claims on a Service.
#[derive(Debug, Clone)]
pub enum Event {
    /// The ports of these claims lead to the router.
    Redirected {
        /// The Service.
        service: ServiceName,
        /// The claims.
        ids: Vec<String>,
    },
    /// The ports of these claims lead to the pods again, as far as the API server goes.
    ///
    /// Nodes follow later: kube-proxy applies changes once a second at most (`minSyncPeriod`), so
    /// the router must serve what still arrives for a while.
    Restored {
        /// The Service.
        service: ServiceName,
        /// The claims.
        ids: Vec<String>,
    },
    /// A claim that was to be routed can't be.
    Lost {
        /// The Service.
        service: ServiceName,
        /// The claim.
        id: String,
        /// Why not.
        reason: LostReason,
    },
    /// Somebody wrote the selector back; it is cleared again after a while.
    Contested {
        /// The Service.
        service: ServiceName,
        /// The claims that are concerned.
        ids: Vec<String>,
        /// Who, as the API server noted it.
        by: Writer,
        /// After how long.
        again_in: Duration,
    },
    /// An attempt failed; another one follows.
    Failed {
        /// The Service.
        service: ServiceName,
        /// The claims that are concerned.
        ids: Vec<String>,
        /// Why.
        error: Arc<ReconcileError>,
        /// After how long.
        again_in: Duration,
    },
}

/// Why a claim can't be routed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LostReason {
    /// The claim is no longer on the Service.
    ClaimRemoved,
    /// The Service was deleted.
    ServiceGone,
    /// The Service no longer has the port.
    PortGone,
    /// Another claim has the port.
    PortTaken,
    /// The Service has become one that can't be redirected.
    NotInterceptable(NotInterceptable),
    /// Somebody writes the selector back whenever it is cleared.
    WrittenBack {
        /// Who, as the API server noted it.
        by: Writer,
    },
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClaimRemoved => f.write_str("somebody removed the claim from the service"),
            Self::ServiceGone => f.write_str("the service was deleted"),
            Self::PortGone => f.write_str("the service no longer has the port"),
            Self::PortTaken => f.write_str("another claim on the service has the port"),
            Self::NotInterceptable(why) => write!(f, "the service has changed: {why}"),
            Self::WrittenBack { by } => write!(
                f,
                "{by} writes the service's selector back whenever it is cleared: exempt spec.selector there, or \
                 pause it, and intercept again"
            ),
        }
    }
}

/// The redirector has ended.
#[derive(Debug, Error)]
#[error("the redirector has ended")]
pub struct Stopped;

/// Says what is to become of claims.
///
/// Events must be received at the same time: they hold back others, never what is said here.
#[derive(Debug, Clone)]
pub struct Redirector {
    wishes: mpsc::Sender<(String, Wish)>,
    annotated: watch::Receiver<Arc<[Annotated]>>,
}

/// A redirector that runs.
#[derive(Debug)]
pub struct Running {
    /// Says what is to become of claims.
    pub redirector: Redirector,
    /// What has come of them.
    pub events: mpsc::Receiver<Event>,
    /// Ends after the token is cancelled. Services stay as they are then.
    pub task: JoinHandle<()>,
}

/// Starts the redirector of the manager in the namespace `manager`, until `cancel` is cancelled.
///
/// Needs the manager's rights: reading Services and pods and patching Services in all namespaces,
/// reading and patching Endpoints, and everything on EndpointSlices.
pub fn start(client: Client, manager: &str, cancel: CancellationToken) -> Running {
    let (wishes, wishes_rx) = mpsc::channel(CAPACITY);
    let (events_tx, events) = mpsc::channel(CAPACITY);
    let (annotated_tx, annotated) = watch::channel(Arc::from([]));
    let task = task::Task::new(client, manager, wishes_rx, events_tx, annotated_tx);
    Running {
        redirector: Redirector { wishes, annotated },
        events,
        task: tokio::spawn(task.run(cancel)),
    }
}

impl Redirector {
    /// Leads a claim's port to the router, once the claim is seen on a Service. Saying it again
    /// moves it.
    pub async fn route(&self, id: &str, route: Route) -> Result<(), Stopped> {
        self.wish(id, Wish::Route(route)).await
    }

    /// Leads a claim's port to the pods, but keeps the claim and what makes it quick to route again.
    pub async fn hold(&self, id: &str) -> Result<(), Stopped> {
        self.wish(id, Wish::Hold).await
    }

    /// Drops a claim; a Service without any is restored.
    pub async fn forget(&self, id: &str) -> Result<(), Stopped> {
        self.wish(id, Wish::Forget).await
    }

    /// Returns all claims for this manager, and notice of their changes. Empty until the first list
    /// has been read.
    pub fn annotated(&self) -> watch::Receiver<Arc<[Annotated]>> {
        self.annotated.clone()
    }

    async fn wish(&self, id: &str, wish: Wish) -> Result<(), Stopped> {
        self.wishes
            .send((id.to_owned(), wish))
            .await
            .map_err(|_| Stopped)
    }
}

/// What a worker is to make of its Service, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    desired: super::Desired,
    /// The claims that are routed, and their ports.
    routed: BTreeMap<String, super::PortRef>,
}
