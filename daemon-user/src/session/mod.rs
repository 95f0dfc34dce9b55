//! A session: this machine connected to one cluster.
//!
//! Its parts are tasks that each mend themselves: the link to the manager, the lease at the root
//! daemon, the carriers, and the streams that wait for connections from the cluster.

mod acceptor;
mod backoff;
mod calls;
mod carrier;
pub mod direct;
mod guardian;
pub mod intercepts;
mod keeper;
mod look;
mod manager_access;
pub mod manager_link;
mod pings;
mod proof;
pub mod rest;
pub mod root_link;
mod voucher;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kdev_cluster::access;
use kdev_cluster::client::{self, ClusterClient, KubeTarget};
use kdev_cluster::install;
use kdev_cluster::redirect::Protocol;
use kdev_cluster::vouch::{SessionLease, session_id};
use kdev_common::loopback;
use kdev_identity::Identity;
use kdev_proto::v1::session_request::Kind as Request;
use kdev_proto::v1::{self, CarrierStatus, ErrorKind, Part, State};
use kdev_proto::{Failure, round_trip_us};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::failures;
use crate::progress::Sink;
use backoff::Nudge;
use direct::Direct;
use guardian::Guardian;
use intercepts::Intercepts;
use keeper::Keeper;
use look::Found;
use manager_access::ManagerAccess;
use manager_link::ManagerLink;
use root_link::{Needs, RootLink};
use voucher::Voucher;

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
    /// Whether and where the manager is reached without the API server between.
    pub direct: direct::Wanted,
    /// How long TCP flows may be without a carrier.
    pub resume_limit: Duration,
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
    access: ManagerAccess,
    direct: Direct,
    voucher: Arc<Voucher>,
    found: Found,
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
        let found = install::find_manager(cluster.kube(), &wanted.manager_namespace).await;
        let pod = match found {
            Ok(pod) => pod,
            Err(error) => {
                let error = install::with_last_words(cluster.kube(), error).await;
                let failure = failures::manager(&wanted.manager_namespace, &error);
                return Err(all_rights(&cluster, &wanted.manager_namespace, failure).await);
            }
        };
        sink.line(format!("manager: pod {}/{}", pod.namespace, pod.name))
            .await;
        let session = Self::start(cluster, wanted, owner)?;
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
                let cluster = &session.cluster;
                Err(all_rights(cluster, &session.manager_namespace, failure).await)
            }
        }
    }

    fn start(cluster: ClusterClient, wanted: Wanted, owner: String) -> Result<Self, Failure> {
        let Wanted {
            target,
            namespace,
            manager_namespace,
            direct: wanted_direct,
            resume_limit,
        } = wanted;
        let namespace = namespace.unwrap_or_else(|| cluster.names().namespace.clone());
        let identity = Identity::generate()
            .map_err(|error| Failure::internal("can't connect", error.to_string()))?;
        let id = session_id(&identity.fingerprint());
        let cluster = Arc::new(cluster);
        let lease = SessionLease::new(
            cluster.kube().clone(),
            &manager_namespace,
            identity.fingerprint(),
            &owner,
        );
        let access = ManagerAccess::new(Arc::clone(&cluster), manager_namespace.clone(), identity);
        let intercepts = Arc::new(Intercepts::default());
        let (tasks, cancelled) = (TaskTracker::new(), CancellationToken::new());
        let network = CancellationToken::new();
        let (nudge, direct) = (Nudge::default(), Direct::new(wanted_direct));
        let network_known = watch::Sender::new(None);
        let needs = Needs {
            session: id.clone(),
            namespace: namespace.clone(),
            resume_limit,
            cluster: Arc::clone(&cluster),
            network: network_known.subscribe(),
            direct: direct.found(),
        };
        let (root, task) = RootLink::new(needs, nudge.clone(), network.clone());
        tasks.spawn(task);
        let voucher = Arc::new(Voucher::new(lease, root.shown.clone()));
        tasks.spawn(Arc::clone(&voucher).follow(nudge.clone(), network.clone()));
        let means = manager_link::Means {
            access: access.clone(),
            direct: direct.clone(),
            voucher: Arc::clone(&voucher),
            owner: owner.clone(),
            resume_limit,
        };
        let events: Arc<dyn manager_link::InterceptEvents> = Arc::clone(&intercepts) as _;
        let (manager, task) = ManagerLink::new(
            means,
            events,
            network_known,
            nudge.clone(),
            cancelled.clone(),
        );
        tasks.spawn(task);
        tasks.spawn(direct.clone().run(
            access.clone(),
            manager.network.clone(),
            nudge.clone(),
            cancelled.clone(),
        ));
        for number in 1..=carrier::COUNT {
            let means = carrier::Means {
                access: access.clone(),
                direct: direct.clone(),
                root: root.link.clone(),
                shown: root.shown.clone(),
                voucher: Arc::clone(&voucher),
            };
            tasks.spawn(carrier::keep(number, means, nudge.clone(), network.clone()));
        }
        tasks.spawn(acceptor::run(
            manager.link.clone(),
            Arc::clone(&intercepts),
            resume_limit,
            tasks.clone(),
            cancelled.clone(),
        ));
        let guardian = Guardian {
            cluster: Arc::clone(&cluster),
            namespace: manager_namespace.clone(),
            link: manager.link.clone(),
            intercepts: Arc::clone(&intercepts),
        };
        tasks.spawn(guardian.run(cancelled.clone()));
        let keeper = Keeper {
            cluster: Arc::clone(&cluster),
            manager: manager.clone(),
            intercepts: Arc::clone(&intercepts),
        };
        tasks.spawn(keeper.run(cancelled.clone()));
        tasks.spawn(release_when_over(manager.link.clone(), network.clone()));
        let since = Part::new(State::Ok, "connected");
        Ok(Self {
            id,
            owner,
            cluster,
            namespace,
            manager_namespace,
            manager,
            root,
            intercepts,
            kubeconfig: target.kubeconfig,
            access,
            direct,
            voucher,
            found: Found::default(),
            nudge,
            since,
            tasks,
            cancelled,
            network,
        })
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
            Some(dns) if dns.state == i32::from(State::Ok) => {}
            dns => {
                return Err(Failure::new(
                    ErrorKind::Network,
                    "the machine's resolver can't be set",
                    dns.map_or_else(
                        || "the root daemon says nothing of it".to_owned(),
                        |dns| dns.detail,
                    ),
                    "see the README on resolvers; `kdev-rootd`'s log has the details",
                ));
            }
        }
        if let Some(why) = self.direct.why_not_as_named().await {
            sink.line(format!(
                "no direct way: {why}; port-forwards are used meanwhile"
            ))
            .await;
        }
        Ok(())
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

    /// Whether it was ended in the cluster.
    pub fn is_over(&self) -> bool {
        self.manager.link.borrow().over
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

    /// The intercepts of which no program takes what comes.
    async fn unheard(&self) -> BTreeSet<String> {
        let mut unheard = BTreeSet::new();
        for one in self.intercepts.all() {
            let port = one.local.port();
            let heard = match one.intercept.port.protocol {
                Protocol::Udp => loopback::receiver(port).await.is_some(),
                Protocol::Tcp | Protocol::Sctp => loopback::is_listened_on(port).await,
            };
            if !heard {
                unheard.insert(one.intercept.id);
            }
        }
        unheard
    }

    /// What `kdev status` says of it.
    pub async fn status(&self) -> v1::Session {
        let unheard = self.unheard().await;
        let manager = self.manager.link.borrow().clone();
        let part = self.manager_part();
        let is_well = part.state() == State::Ok;
        v1::Session {
            id: self.id.clone(),
            context: self.cluster.names().context.clone(),
            namespace: self.namespace.clone(),
            manager_namespace: self.manager_namespace.clone(),
            api_server: self.cluster.server_url(),
            part: Some(self.part()),
            control: Some(CarrierStatus {
                id: 0,
                part: Some(part.clone()),
                kind: manager.kind.as_str().to_owned(),
                round_trip_us: round_trip_us(manager.round_trip.filter(|_| is_well)),
                flows: 0,
            }),
            intercepts: self.intercepts.status(&part, &unheard),
            api: Some(self.found.api.get()),
            direct: Some(self.direct_part()),
            manager: Some(part),
            manager_version: manager.version,
        }
    }

    /// How the session as a whole is doing: as badly as the part that it can't do without.
    fn part(&self) -> Part {
        let (manager, root) = (self.manager_part(), self.root.link.borrow().part.clone());
        let but = |state: State, part: &Part, what: &str| Part {
            state: state.into(),
            since_ms: part.since_ms,
            detail: format!("{what}: {}", part.detail),
        };
        if self.is_over() {
            manager
        } else if root.state() != State::Ok {
            but(
                State::Down,
                &root,
                "this machine isn't on the cluster's network",
            )
        } else if manager.state() != State::Ok {
            but(State::Degraded, &manager, "the manager is out of reach")
        } else {
            let parts = [&self.since, &root, &manager];
            let whole_since = parts.iter().map(|part| part.since_ms).max();
            Part {
                since_ms: whole_since.unwrap_or(self.since.since_ms),
                ..self.since.clone()
            }
        }
    }

    /// Waits until it is over, whoever ended it. Cancel safe.
    pub async fn over(&self) {
        let mut link = self.manager.link.clone();
        tokio::select! {
            () = self.cancelled.cancelled() => {}
            // An error is the end of the link's task, which comes with that of the session.
            _ = link.wait_for(|link| link.over) => {}
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
        self.voucher.remove().await;
    }
}

/// Names every right that is missing when one is: who asks for them asks once.
async fn all_rights(cluster: &ClusterClient, namespace: &str, failure: Failure) -> Failure {
    if failure.kind != ErrorKind::Forbidden {
        return failure;
    }
    let places = access::Namespaces {
        manager: namespace,
        target: namespace,
    };
    match access::missing(cluster.kube(), access::CONNECT, places).await {
        Ok(missing) if !missing.is_empty() => failures::rights(&missing),
        _ => failure,
    }
}

/// Gives the machine's network back when the session was ended in the cluster.
async fn release_when_over(
    mut link: watch::Receiver<manager_link::Link>,
    network: CancellationToken,
) {
    let ended = link.wait_for(|link| link.over).await.is_ok();
    if ended {
        tracing::warn!("the session was ended in the cluster");
        network.cancel();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // One that was given up while it came up: its tasks end by themselves.
        self.release_network();
        self.cancelled.cancel();
    }
}
