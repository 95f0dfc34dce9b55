//! The daemon's life: one per machine, started for a user or as a service.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use kdev_common::instance::Instance;
use kdev_common::socket::{Access, LocalListener};
use kdev_common::{clock, paths, transport};
use kdev_proto::v1::root_daemon_server::RootDaemonServer;
use nix::unistd::Group;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::carrier_socket::{self, Takers};
use crate::lease_view::CurrentLease;
use crate::service::Service;

/// Members may open the socket of the service.
const GROUP: &str = "kdev";

/// How the daemon was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartedBy {
    /// For one user, who ends it with `kdev quit`.
    User(u32),
    /// As a system service, which stays.
    Service,
}

impl fmt::Display for StartedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "user {uid}"),
            Self::Service => f.write_str("the service manager"),
        }
    }
}

/// What all calls share.
#[derive(Debug)]
pub struct Daemon {
    /// How it was started.
    pub started_by: StartedBy,
    /// When, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Held by whoever has the machine's network.
    pub network: Mutex<()>,
    /// The lease on the machine's network, while there is one.
    pub lease: CurrentLease,
    /// Who takes carriers.
    pub takers: Takers,
    /// Everything that must have ended before the process does.
    pub tasks: TaskTracker,
    /// Ends the daemon.
    pub ending: CancellationToken,
}

impl Daemon {
    /// The user who may command it now; `None` when everyone who can open its socket may.
    pub fn owner(&self) -> Option<u32> {
        match self.started_by {
            StartedBy::User(uid) => Some(uid),
            StartedBy::Service => self.lease.uid(),
        }
    }

    /// Whether it ends when its user quits.
    pub fn ends_on_request(&self) -> bool {
        matches!(self.started_by, StartedBy::User(_))
    }
}

fn access(started_by: StartedBy) -> anyhow::Result<Access> {
    match started_by {
        StartedBy::User(uid) => Ok(Access::User(uid)),
        StartedBy::Service => Ok(match Group::from_name(GROUP)? {
            Some(group) => Access::Group(group.gid.as_raw()),
            None => Access::User(0),
        }),
    }
}

/// Runs the daemon until it is told to end; the machine's network is then as it was.
pub async fn run(started_by: StartedBy) -> anyhow::Result<()> {
    let run_dir = Path::new(paths::ROOT_RUN_DIR);
    let serves = || std::os::unix::net::UnixStream::connect(paths::root_socket()).is_ok();
    let _instance = Instance::acquire(run_dir, 0o755, "rootd", serves)?;
    kdev_host::resolver::recover(Path::new(paths::ROOT_STATE_DIR))
        .context("what an earlier run left of its resolver settings can't be undone")?;
    let access = access(started_by)?;
    let bind = |path: &Path| {
        LocalListener::bind(path, access)
            .with_context(|| format!("can't listen on {}", path.display()))
    };
    let carriers = bind(&paths::carrier_socket())?;
    let commands = bind(&paths::root_socket())?;
    let daemon = Arc::new(Daemon {
        started_by,
        started_ms: clock::now_ms(),
        network: Mutex::new(()),
        lease: CurrentLease::default(),
        takers: Takers::default(),
        tasks: TaskTracker::new(),
        ending: CancellationToken::new(),
    });
    tracing::info!(release = kdev_proto::RELEASE, %started_by, "kdev-rootd runs");
    daemon.tasks.spawn(carrier_socket::serve(
        carriers,
        daemon.takers.clone(),
        daemon.tasks.clone(),
        daemon.ending.clone(),
    ));
    transport::server()
        .add_service(RootDaemonServer::new(Service::new(Arc::clone(&daemon))))
        .serve_with_incoming_shutdown(commands.incoming(), until_end(Arc::clone(&daemon)))
        .await?;
    daemon.tasks.close();
    daemon.tasks.wait().await;
    for path in [paths::root_socket(), paths::carrier_socket()] {
        let _ = std::fs::remove_file(path);
    }
    tracing::info!("kdev-rootd ends");
    Ok(())
}

async fn until_end(daemon: Arc<Daemon>) {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(error) => {
                tracing::warn!(%error, "SIGTERM isn't heard");
                std::future::pending().await
            }
        }
    };
    tokio::select! {
        () = terminate => daemon.ending.cancel(),
        () = daemon.ending.cancelled() => {}
    }
}
