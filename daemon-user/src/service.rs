//! The user daemon's gRPC interface: each method in a few lines, the work elsewhere.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kdev_cluster::client::KubeTarget;
use kdev_cluster::install::DEFAULT_NAMESPACE;
use kdev_common::person::Person;
use kdev_common::{paths, socket};
use kdev_flow::carry::RESUME_LIMIT;
use kdev_proto::v1::root_daemon_client::RootDaemonClient;
use kdev_proto::v1::user_daemon_server::UserDaemon;
use kdev_proto::v1::{
    Cluster, ConnectRequest, ErrorKind, InstallRequest, InterceptRequest, LeaveRequest,
    ListRequest, ListResponse, Part, PreviewRequest, QuitRequest, RecoverRequest, RootStatus,
    RootStatusRequest, State, Status, StatusRequest, UninstallRequest, Version, VersionRequest,
    Versions,
};
use kdev_proto::{Failure, version_of};
use tonic::{Request, Response};

use crate::caller::Callers;
use crate::daemon::Daemon;
use crate::progress::{Last, Lines, Sink, lines};
use crate::session::{Session, Wanted, direct};
use crate::{caller, claims, failures, leaving, manage, preview};

/// How long the root daemon may take to say how it is.
const ROOT_STATUS: Duration = Duration::from_secs(3);

type Answer<T> = Result<Response<T>, tonic::Status>;

/// See the module.
#[derive(Debug)]
pub struct Service {
    daemon: Arc<Daemon>,
    callers: Callers,
}

impl Service {
    /// Serves calls on `daemon`.
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Self {
            daemon,
            callers: Callers::default(),
        }
    }

    fn session(&self) -> Result<Arc<Session>, Failure> {
        self.daemon.touch();
        self.daemon
            .current
            .borrow()
            .clone()
            .ok_or_else(failures::not_connected)
    }

    /// Answers with the lines of `work`, which keeps the daemon from ending only as long as nobody ends it.
    fn lines<F, W, L>(&self, work: W) -> Answer<Lines>
    where
        W: FnOnce(Sink) -> F + Send + 'static,
        F: Future<Output = Result<L, Failure>>,
        L: Into<Last>,
    {
        let call = self.daemon.under_way.begin();
        let lines = lines(|sink| async move {
            let _call = call;
            work(sink).await
        });
        Ok(Response::new(self.daemon.under_way.lines(lines)))
    }
}

/// Which cluster a request means.
pub fn target(cluster: &Cluster) -> KubeTarget {
    KubeTarget {
        kubeconfig: cluster.kubeconfig.iter().map(PathBuf::from).collect(),
        context: (!cluster.context.is_empty()).then(|| cluster.context.clone()),
        environment: cluster.environment.clone(),
    }
}

/// Where the manager is that a request means.
pub fn manager_namespace(cluster: &Cluster) -> String {
    if cluster.manager_namespace.is_empty() {
        DEFAULT_NAMESPACE.to_owned()
    } else {
        cluster.manager_namespace.clone()
    }
}

fn direct(text: &str) -> direct::Wanted {
    match text {
        "" | "auto" => direct::Wanted::Auto,
        "never" => direct::Wanted::Never,
        named => direct::Wanted::At(named.to_owned()),
    }
}

#[tonic::async_trait]
impl UserDaemon for Service {
    type InstallStream = Lines;
    type UninstallStream = Lines;
    type ConnectStream = Lines;
    type InterceptStream = Lines;
    type PreviewStream = Lines;
    type LeaveStream = Lines;
    type QuitStream = Lines;
    type RecoverStream = Lines;

    async fn get_version(&self, _: Request<VersionRequest>) -> Answer<Versions> {
        self.daemon.touch();
        let session = self.daemon.current.borrow().clone();
        let manager = session.and_then(|session| session.manager.link.borrow().version.clone());
        let rootd = root_status().await.ok().and_then(|status| status.version);
        Ok(Response::new(Versions {
            userd: Some(own_version()),
            rootd,
            manager,
        }))
    }

    async fn install(&self, request: Request<InstallRequest>) -> Answer<Lines> {
        self.daemon.touch();
        let request = request.into_inner();
        self.lines(|sink| async move { manage::install(request, sink).await })
    }

    async fn uninstall(&self, request: Request<UninstallRequest>) -> Answer<Lines> {
        self.daemon.touch();
        let (request, daemon) = (request.into_inner(), Arc::clone(&self.daemon));
        self.lines(|sink| async move { manage::uninstall(request, &daemon, sink).await })
    }

    async fn connect(&self, request: Request<ConnectRequest>) -> Answer<Lines> {
        self.daemon.touch();
        let (request, daemon) = (request.into_inner(), Arc::clone(&self.daemon));
        self.lines(|sink| async move { connect(&daemon, request, sink).await })
    }

    async fn get_status(&self, _: Request<StatusRequest>) -> Answer<Status> {
        self.daemon.touch();
        let session = self.daemon.current.borrow().clone();
        let look = async {
            if let Some(session) = &session {
                session.look().await;
            }
        };
        let (root, ()) = tokio::join!(root_status(), look);
        if let Some(session) = &session {
            session.handle_root_answer(root.as_ref().map(drop));
        }
        let rootd = match (&root, &session) {
            (Ok(status), _) => Part {
                state: State::Ok.into(),
                since_ms: status.started_ms,
                detail: format!("pid {}, started by {}", status.pid, status.started_by),
            },
            (Err(_), Some(session)) => session.root_part(),
            (Err(failure), None) => Part {
                state: State::Down.into(),
                since_ms: 0,
                detail: failure.to_string(),
            },
        };
        let session = match session {
            Some(session) => Some(session.status().await),
            None => None,
        };
        Ok(Response::new(Status {
            userd: Some(self.daemon.started.clone()),
            version: Some(own_version()),
            pid: std::process::id(),
            rootd: Some(rootd),
            root: root.ok(),
            session,
        }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Answer<ListResponse> {
        self.daemon.touch();
        let session = self.daemon.current.borrow().clone();
        let list = manage::list(request.into_inner(), session);
        Ok(Response::new(self.daemon.under_way.answer(list).await?))
    }

    async fn intercept(&self, request: Request<InterceptRequest>) -> Answer<Lines> {
        let (session, request) = (self.session()?, request.into_inner());
        let ending = self.daemon.ending.clone();
        let place = self.callers.place(request.held_by_caller)?;
        let leave = request
            .held_by_caller
            .then(|| leaving_of(&request.namespace, &request.service));
        self.lines(|sink| async move {
            let _place = place;
            let last = claims::intercept(&session, request, &sink).await?;
            caller::hold(&session, &ending, leave, last, &sink).await
        })
    }

    async fn preview(&self, request: Request<PreviewRequest>) -> Answer<Lines> {
        let (session, request) = (self.session()?, request.into_inner());
        let ending = self.daemon.ending.clone();
        let place = self.callers.place(request.held_by_caller)?;
        let leave = request
            .held_by_caller
            .then(|| leaving_of(&request.namespace, &request.service));
        self.lines(|sink| async move {
            let _place = place;
            let last = preview::make(&session, request, &sink).await?;
            caller::hold(&session, &ending, leave, last, &sink).await
        })
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Answer<Lines> {
        let (session, request) = (self.session()?, request.into_inner());
        self.lines(|sink| async move { leaving::leave(&session, request, &sink).await })
    }

    async fn recover(&self, request: Request<RecoverRequest>) -> Answer<Lines> {
        self.daemon.touch();
        let request = request.into_inner();
        self.lines(|sink| async move { manage::recover(request, &sink).await })
    }

    async fn quit(&self, _: Request<QuitRequest>) -> Answer<Lines> {
        let daemon = Arc::clone(&self.daemon);
        self.lines(|sink| async move { quit(&daemon, &sink).await })
    }
}

/// What is to be left of a Service, but for the call that it has come of.
fn leaving_of(namespace: &str, service: &str) -> LeaveRequest {
    LeaveRequest {
        service: service.to_owned(),
        namespace: namespace.to_owned(),
        ..LeaveRequest::default()
    }
}

fn own_version() -> Version {
    version_of("kdev-userd")
}

async fn root_status() -> Result<RootStatus, Failure> {
    let ask = async {
        let channel = socket::call(&paths::root_socket())
            .await
            .map_err(|error| failures::root_daemon(&error))?;
        Ok::<_, Failure>(
            RootDaemonClient::new(channel)
                .get_status(RootStatusRequest {})
                .await?
                .into_inner(),
        )
    };
    tokio::time::timeout(ROOT_STATUS, ask)
        .await
        .unwrap_or_else(|_| {
            Err(Failure::new(
                ErrorKind::Daemon,
                "the root daemon doesn't answer",
                format!("it said nothing for {} s", ROOT_STATUS.as_secs()),
                "look into its log",
            ))
        })
}

async fn connect(daemon: &Daemon, request: ConnectRequest, sink: Sink) -> Result<String, Failure> {
    let mut quits = daemon.quits.subscribe();
    let given_up = async {
        tokio::select! {
            () = daemon.ending.cancelled() => {}
            _ = quits.changed() => {}
            // Ctrl-C: nobody is to find himself connected behind his prompt.
            () = sink.closed() => {}
        }
    };
    tokio::select! {
        biased;
        () = given_up => Err(Failure::new(
            ErrorKind::NotConnected,
            "connecting was given up",
            "`kdev quit`, or whoever asked for it, ended it",
            "run `kdev connect` again",
        )),
        connected = connect_or_mend(daemon, request, &sink) => connected,
    }
}

async fn connect_or_mend(
    daemon: &Daemon,
    request: ConnectRequest,
    sink: &Sink,
) -> Result<String, Failure> {
    let mut slot = daemon.only_one(sink).await;
    let cluster = request.cluster.unwrap_or_default();
    let wanted = Wanted {
        target: target(&cluster),
        namespace: (!request.namespace.is_empty()).then_some(request.namespace),
        manager_namespace: manager_namespace(&cluster),
        direct: direct(&request.direct),
        resume_limit: match request.resume_limit_seconds {
            0 => RESUME_LIMIT,
            seconds => Duration::from_secs(seconds.into()),
        },
    };
    if let Some(session) = slot.take_if(|session| session.is_over()) {
        sink.line("the last session was ended in the cluster").await;
        // Nothing of it is there any more that could fail to be left.
        let _ = end(daemon, &session, sink).await;
    }
    if let Some(session) = slot.as_ref() {
        let context = &session.cluster.names().context;
        let is_meant = session.is_meant_by(&wanted, cluster.chosen);
        if !is_meant || (session.healthy() && !request.root_started) {
            let other = if is_meant {
                ""
            } else {
                ", which is another one"
            };
            return Err(Failure::new(
                ErrorKind::Conflict,
                "this machine is connected already",
                format!(
                    "to context {context}, namespace {}{other}",
                    session.namespace
                ),
                "`kdev status` shows the session; `kdev quit` ends it",
            ));
        }
        sink.line(format!("mending the session with context {context}"))
            .await;
        session.mend(sink).await?;
        return Ok(format!(
            "connected to context {context}, namespace {}",
            session.namespace
        ));
    }
    let session = Arc::new(Session::connect(wanted, Person::here().to_string(), sink).await?);
    daemon.current.send_replace(Some(Arc::clone(&session)));
    let line = format!(
        "connected to context {}, namespace {}",
        session.cluster.names().context,
        session.namespace
    );
    let note = (!has_namespace(&session)).then(|| {
        format!(
            "note: the cluster has no namespace {}, so that short names find nothing of it",
            session.namespace
        )
    });
    *slot = Some(session);
    if let Some(note) = note {
        sink.line(note).await;
    }
    Ok(line)
}

/// Whether the session's namespace is there, as far as the manager has said which there are.
fn has_namespace(session: &Session) -> bool {
    let network = session.manager.network.borrow();
    let known = network.as_ref().map(|network| &network.namespaces);
    known.is_none_or(|known| known.is_empty() || known.contains(&session.namespace))
}

/// Ends the session, and the daemon with it.
async fn quit(daemon: &Daemon, sink: &Sink) -> Result<String, Failure> {
    // One that is being made is given up.
    daemon.quits.send_replace(());
    let mut slot = daemon.only_one(sink).await;
    let quit = match slot.take() {
        Some(session) => {
            let ended = end(daemon, &session, sink).await;
            ended.map(|()| {
                format!(
                    "session with context {} ended",
                    session.cluster.names().context
                )
            })
        }
        None => Ok("no session".to_owned()),
    };
    // While the slot is still held: who waits for it must find a daemon that ends.
    daemon.ending.cancel();
    quit
}

/// Gives back everything of a session.
///
/// # Errors
///
/// What couldn't be restored in the cluster; the machine is as it was all the same.
pub async fn end(daemon: &Daemon, session: &Session, sink: &Sink) -> Result<(), Failure> {
    // The machine first: its names and routes must not wait for an API server that is away.
    session.release_network();
    let left = leaving::leave_all(session, sink).await;
    daemon.current.send_replace(None);
    session.end().await;
    left
}
