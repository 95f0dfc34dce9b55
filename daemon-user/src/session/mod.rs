//! A session: this machine connected to one cluster.
//!
//! Its parts are tasks that each mend themselves: the link to the manager, the lease at the root
//! daemon, the carriers, and the streams that wait for connections from the cluster.

mod acceptor;
mod backoff;
mod carrier;
pub mod intercepts;
pub mod manager_link;
pub mod root_link;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kdev_cluster::client::{self, ClusterClient, KubeTarget};
use kdev_cluster::install;
use kdev_cluster::redirect::session_id;
use kdev_proto::Failure;
use kdev_proto::v1::session_request::Kind as Request;
use kdev_proto::v1::{self, CarrierStatus, ErrorKind, Part, State};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::failures;
use crate::progress::Sink;
use backoff::Nudge;
use intercepts::Intercepts;
use manager_link::{ManagerAddress, ManagerLink};
use root_link::RootLink;

/// How long the parts of a session may take to come up before connecting has failed.
const CONNECT: Duration = Duration::from_secs(30);
/// How long the parts of a session may take to end.
const END: Duration = Duration::from_secs(10);

/// What `kdev connect` asks for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which cluster.
    pub target: KubeTarget,
    /// The namespace that short names mean; `None` for the context's.
    pub namespace: Option<String>,
    /// Where the manager is.
    pub manager_namespace: String,
}

/// A session that is connected, or mends itself.
#[derive(Debug)]
pub struct Session {
    /// The session's id, which everyone may know.
    pub id: String,
    /// "user@machine", for people.
    pub owner: String,
    /// The cluster.
    pub cluster: Arc<ClusterClient>,
    /// The namespace that short names mean.
    pub namespace: String,
    /// Where the manager is.
    pub manager_namespace: String,
    /// The link to the manager.
    pub manager: ManagerLink,
    /// The lease at the root daemon.
    pub root: RootLink,
    /// What is intercepted.
    pub intercepts: Arc<Intercepts>,
    kubeconfig: Vec<PathBuf>,
    nudge: Nudge,
    since: Part,
    tasks: TaskTracker,
    cancelled: CancellationToken,
    network: CancellationToken,
}

impl Session {
    /// Connects, showing what it does. Nothing of it is left when it fails.
    ///
    /// # Errors
    ///
    /// What failed first, of all that a session needs.
    pub async fn connect(wanted: Wanted, owner: String, sink: &Sink) -> Result<Self, Failure> {
        let cluster = client::connect(&wanted.target)
            .await
            .map_err(|error| failures::cluster(&error))?;
        let names = cluster.names();
        sink.line(format!(
            "context {}: API server {}",
            names.context,
            cluster.server_url()
        ))
        .await;
        // Asked before anything starts, since it has the best reasons when it says no.
        let pod = install::find_manager(cluster.kube(), &wanted.manager_namespace)
            .await
            .map_err(|error| failures::manager(&wanted.manager_namespace, &error))?;
        sink.line(format!("manager: pod {}/{}", pod.namespace, pod.name))
            .await;
        let namespace = wanted.namespace.unwrap_or_else(|| names.namespace.clone());
        let manager_namespace = wanted.manager_namespace;
        let kubeconfig = wanted.target.kubeconfig;
        let session = Self::start(cluster, namespace, manager_namespace, owner, kubeconfig);
        let up = tokio::time::timeout(CONNECT, session.come_up(sink))
            .await
            .unwrap_or_else(|_| {
                Err(Failure::new(
                    ErrorKind::Timeout,
                    "connecting isn't done after 30 s",
                    session.what_is_missing(),
                    "look into the daemons' logs, or try again",
                ))
            });
        match up {
            Ok(()) => Ok(session),
            Err(failure) => {
                session.end().await;
                Err(failure)
            }
        }
    }

    fn start(
        cluster: ClusterClient,
        namespace: String,
        manager_namespace: String,
        owner: String,
        kubeconfig: Vec<PathBuf>,
    ) -> Self {
        let secret = format!("{:032x}", rand::random::<u128>());
        let id = session_id(&secret);
        let cluster = Arc::new(cluster);
        let intercepts = Arc::new(Intercepts::default());
        let (tasks, cancelled) = (TaskTracker::new(), CancellationToken::new());
        let network = CancellationToken::new();
        let address = ManagerAddress {
            cluster: Arc::clone(&cluster),
            namespace: manager_namespace.clone(),
            session: secret.clone(),
            owner: owner.clone(),
        };
        let events: Arc<dyn manager_link::InterceptEvents> = Arc::clone(&intercepts) as _;
        let nudge = Nudge::default();
        let (manager, task) =
            ManagerLink::new(address.clone(), events, nudge.clone(), cancelled.clone());
        tasks.spawn(task);
        let (root, task) = RootLink::new(
            id.clone(),
            namespace.clone(),
            Arc::clone(&cluster),
            manager.network.clone(),
            nudge.clone(),
            network.clone(),
        );
        tasks.spawn(task);
        for number in 1..=carrier::COUNT {
            let (token, ended) = (root.token.clone(), network.clone());
            let (address, nudge) = (address.clone(), nudge.clone());
            tasks.spawn(carrier::keep(number, address, token, nudge, ended));
        }
        tasks.spawn(acceptor::run(
            secret,
            manager.link.clone(),
            Arc::clone(&intercepts),
            tasks.clone(),
            cancelled.clone(),
        ));
        let since = Part::new(State::Ok, "connected");
        Self {
            id,
            owner,
            cluster,
            namespace,
            manager_namespace,
            manager,
            root,
            intercepts,
            kubeconfig,
            nudge,
            since,
            tasks,
            cancelled,
            network,
        }
    }

    /// Waits until everything works.
    async fn come_up(&self, sink: &Sink) -> Result<(), Failure> {
        let manager = self.manager.first().await?;
        let version = manager
            .version
            .map(|version| version.version)
            .unwrap_or_default();
        sink.line(format!("manager: release {version}")).await;
        let root = self.root.first().await?;
        let applied = root.applied.unwrap_or_default();
        let routes: Vec<&str> = applied
            .routes
            .iter()
            .map(|route| route.prefix.as_str())
            .collect();
        sink.line(format!("device {}: {}", root.device, routes.join(", ")))
            .await;
        for route in applied
            .routes
            .iter()
            .filter(|route| !route.conflict.is_empty())
        {
            sink.line(format!("route {}: {}", route.prefix, route.conflict))
                .await;
        }
        match applied.dns {
            Some(dns) if dns.state == i32::from(State::Ok) => Ok(()),
            dns => Err(Failure::new(
                ErrorKind::Network,
                "the machine's resolver can't be set",
                dns.map_or_else(
                    || "the root daemon says nothing of it".to_owned(),
                    |dns| dns.detail,
                ),
                "see the README on resolvers; `kdev-rootd`'s log has the details",
            )),
        }
    }

    fn what_is_missing(&self) -> String {
        let (manager, root) = (self.manager.link.borrow(), self.root.link.borrow());
        format!(
            "manager: {}; root daemon: {}; carriers: {}",
            manager.part.detail,
            root.part.detail,
            root.carriers.len()
        )
    }

    /// Whether `target` is this session's cluster; a context that it leaves open is this one.
    pub fn is_of(&self, target: &KubeTarget) -> bool {
        let context = &self.cluster.names().context;
        target.kubeconfig == self.kubeconfig
            && target.context.as_ref().is_none_or(|one| one == context)
    }

    /// Whether `wanted` asks for this session, its cluster being `chosen` or left open; what is left
    /// open is as it is.
    pub fn is_meant_by(&self, wanted: &Wanted, chosen: bool) -> bool {
        let namespace = wanted.namespace.as_ref();
        (!chosen || self.is_of(&wanted.target))
            && namespace.is_none_or(|one| *one == self.namespace)
            && wanted.manager_namespace == self.manager_namespace
    }

    /// Whether every part works now.
    pub fn healthy(&self) -> bool {
        self.manager.link.borrow().failure.is_none() && self.root.link.borrow().failure.is_none()
    }

    /// Waits until every part works again, as they mend themselves.
    ///
    /// # Errors
    ///
    /// The failure that stays.
    pub async fn mend(&self, sink: &Sink) -> Result<(), Failure> {
        let (mut manager, mut root) = (self.manager.link.clone(), self.root.link.clone());
        // Whoever asks has seen to it that the next attempt works.
        self.nudge.nudge();
        let mended = async {
            let _ = manager.wait_for(|link| link.failure.is_none()).await;
            let _ = root.wait_for(|link| link.failure.is_none()).await;
            self.come_up(sink).await
        };
        tokio::time::timeout(CONNECT, mended)
            .await
            .unwrap_or_else(|_| {
                let failure = self.manager.link.borrow().failure.clone();
                let failure = failure.or_else(|| self.root.link.borrow().failure.clone());
                Err(failure.unwrap_or_else(|| {
                    Failure::new(
                        ErrorKind::Timeout,
                        "the session isn't whole after 30 s",
                        self.what_is_missing(),
                        "end it with `kdev quit` and connect again",
                    )
                }))
            })
    }

    /// What `kdev status` says of it.
    pub fn status(&self) -> v1::Session {
        let manager = self.manager.link.borrow().clone();
        v1::Session {
            id: self.id.clone(),
            context: self.cluster.names().context.clone(),
            namespace: self.namespace.clone(),
            manager_namespace: self.manager_namespace.clone(),
            api_server: self.cluster.server_url(),
            part: Some(self.part()),
            control: Some(CarrierStatus {
                id: 0,
                part: Some(manager.part.clone()),
                kind: "port-forward".to_owned(),
                round_trip_us: u64::try_from(manager.round_trip.as_micros()).unwrap_or(u64::MAX),
                flows: 0,
            }),
            intercepts: self.intercepts.status(&manager.part),
            manager: Some(manager.part),
            manager_version: manager.version,
        }
    }

    /// How the session as a whole is doing: as badly as the part that it can't do without.
    fn part(&self) -> Part {
        let (manager, root) = (self.manager.link.borrow(), self.root.link.borrow());
        let but = |state: State, part: &Part, what: &str| Part {
            state: state.into(),
            since_ms: part.since_ms,
            detail: format!("{what}: {}", part.detail),
        };
        if root.part.state() != State::Ok {
            but(
                State::Down,
                &root.part,
                "this machine isn't on the cluster's network",
            )
        } else if manager.part.state() != State::Ok {
            but(
                State::Degraded,
                &manager.part,
                "the manager is out of reach",
            )
        } else {
            let parts = [&self.since, &root.part, &manager.part];
            let whole_since = parts.iter().map(|part| part.since_ms).max();
            Part {
                since_ms: whole_since.unwrap_or(self.since.since_ms),
                ..self.since.clone()
            }
        }
    }

    /// Sends a request to the manager; false when it is out of reach.
    pub fn request(&self, request: Request) -> bool {
        self.manager.request(request)
    }

    /// Gives the machine's network back; the link to the manager stays.
    pub fn release_network(&self) {
        self.network.cancel();
    }

    /// Gives the machine's network back, then takes leave of the manager. Everything of the session
    /// has ended when this returns.
    pub async fn end(&self) {
        self.release_network();
        self.cancelled.cancel();
        self.tasks.close();
        if tokio::time::timeout(END, self.tasks.wait()).await.is_err() {
            tracing::warn!("parts of the session didn't end in time");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // One that was given up while it came up: its tasks end by themselves.
        self.release_network();
        self.cancelled.cancel();
    }
}
