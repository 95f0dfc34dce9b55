//! The daemon's life: one per user, there as long as it is needed.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use kdev_common::instance::{Instance, InstanceError};
use kdev_common::paths::UserDirs;
use kdev_common::socket::{Access, LocalListener};
use kdev_common::{detach, transport};
use kdev_proto::v1::Part;
use kdev_proto::v1::State;
use kdev_proto::v1::user_daemon_server::UserDaemonServer;
use nix::unistd::Uid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio_util::sync::CancellationToken;

use crate::progress::Sink;
use crate::service::Service;
use crate::session::Session;
use crate::under_way::UnderWay;

/// A daemon without a session that nobody called for this long ends.
const IDLE: Duration = Duration::from_secs(60);

/// How often the daemon looks whether it can still be called.
const LOOK: Duration = Duration::from_secs(5);

/// What all calls share.
#[derive(Debug)]
pub struct Daemon {
    /// The session, if connected. Locked for as long as one is made or ended, so that two commands at
    /// once are one after the other.
    pub session: Mutex<Option<Arc<Session>>>,
    /// The session again, for those who only look.
    pub current: watch::Sender<Option<Arc<Session>>>,
    /// Changes when somebody quits.
    pub quits: watch::Sender<()>,
    /// Since when the daemon runs.
    pub started: Part,
    /// Ends the daemon.
    pub ending: CancellationToken,
    /// The calls that it serves now.
    pub under_way: UnderWay,
    called: AtomicBool,
}

impl Daemon {
    /// Waits until no other command makes or ends the session; says so when that takes time.
    pub async fn only_one(&self, sink: &Sink) -> MutexGuard<'_, Option<Arc<Session>>> {
        if let Ok(slot) = self.session.try_lock() {
            return slot;
        }
        sink.line("waiting for another command to end").await;
        self.session.lock().await
    }

    /// Notes that somebody needs the daemon.
    pub fn touch(&self) {
        self.called.store(true, Ordering::Release);
    }
}

/// Runs the daemon until it is told to end, or nobody needs it.
pub async fn run(dirs: UserDirs) -> anyhow::Result<()> {
    let serves = || std::os::unix::net::UnixStream::connect(dirs.socket()).is_ok();
    let _instance = match Instance::acquire(&dirs.run, 0o700, "userd", serves) {
        Ok(instance) => instance,
        // Two commands at once have started two: the first one serves both.
        Err(InstanceError::Running { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let listener = LocalListener::bind(&dirs.socket(), Access::User(Uid::effective().as_raw()))
        .with_context(|| format!("can't listen on {}", dirs.socket().display()))?;
    let own = inode(&dirs.socket());
    detach::hush().context("standard error can't be left")?;
    let ending = CancellationToken::new();
    let daemon = Arc::new(Daemon {
        session: Mutex::new(None),
        current: watch::Sender::new(None),
        quits: watch::Sender::new(()),
        started: Part::new(State::Ok, "running"),
        ending: ending.clone(),
        under_way: UnderWay::new(ending),
        called: AtomicBool::new(true),
    });
    tracing::info!(release = kdev_proto::RELEASE, "kdev-userd runs");
    let serve = transport::server()
        .add_service(UserDaemonServer::new(Service::new(Arc::clone(&daemon))))
        .serve_with_incoming_shutdown(
            listener.incoming(),
            until_end(Arc::clone(&daemon), unlinked(dirs.socket(), own)),
        );
    tokio::select! {
        served = serve => served?,
        () = daemon.under_way.overdue() => tracing::warn!("not every caller has heard of the end"),
    }
    let session = daemon.session.lock().await.take();
    if let Some(session) = session {
        session.end().await;
    }
    if inode(&dirs.socket()) == own {
        let _ = std::fs::remove_file(dirs.socket());
    }
    tracing::info!("kdev-userd ends");
    Ok(())
}

/// Waits until the socket isn't there any more. A logout removes it where the user's run directory
/// goes with the last login: nobody could command the daemon then, or end its session.
async fn unlinked(socket: PathBuf, own: Option<u64>) {
    while inode(&socket) == own {
        tokio::time::sleep(LOOK).await;
    }
}

/// Tells one file of a path from the next one there.
fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|found| found.ino())
}

async fn until_end(daemon: Arc<Daemon>, unlinked: impl Future<Output = ()>) {
    let idle = async {
        let mut interval = tokio::time::interval(IDLE);
        loop {
            interval.tick().await;
            let called = daemon.called.swap(false, Ordering::AcqRel);
            if !called
                && daemon.under_way.is_none()
                && daemon
                    .session
                    .try_lock()
                    .is_ok_and(|session| session.is_none())
            {
                return;
            }
        }
    };
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
        () = idle => tracing::info!("nobody needs the daemon"),
        () = terminate => tracing::info!("told to end by a signal"),
        () = unlinked => tracing::warn!("its socket is gone, so nobody can command it"),
        () = daemon.ending.cancelled() => {}
    }
    // Calls that wait, for whatever it may be, must not keep the server up.
    daemon.ending.cancel();
}
