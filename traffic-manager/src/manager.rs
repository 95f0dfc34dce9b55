//! The manager's life: everything that it is made of, started and ended together.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kdev_cluster::client::ClusterClient;
use kdev_cluster::discovery;
use kdev_cluster::redirect::redirector;
use kdev_common::transport;
use kdev_proto::v1::manager_server::ManagerServer;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::health::{self, Ready};
use crate::intercepts::{Intercepts, Tools};
use crate::lookup::Lookup;
use crate::resumable::ResumableFlows;
use crate::server::Server;
use crate::sessions::Sessions;
use crate::settings::Settings;

/// How long flows may take to end when the manager does. Short: the next manager starts only then.
pub const DRAIN: Duration = Duration::from_secs(1);
const DNS_PORT: u16 = 53;

/// Runs the manager until its pod is told to end. Services stay as they are: the next manager finds
/// what is claimed, and whose session doesn't come back is restored by it.
///
/// # Errors
///
/// What it needs and doesn't have.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let cluster = ClusterClient::in_cluster().context("no access to the API server")?;
    let client = cluster.kube().clone();
    let (tasks, cancelled) = (TaskTracker::new(), CancellationToken::new());
    let ready = Ready::default();
    tasks.spawn({
        let (ready, cancelled) = (ready.clone(), cancelled.clone());
        async move {
            if let Err(error) = health::serve(settings.health, ready, cancelled).await {
                tracing::error!(%error, "the kubelet isn't answered");
            }
        }
    });
    let running = redirector::start(client.clone(), &settings.namespace, cancelled.clone());
    let dns = discovery::read_resolv_conf(Path::new("/etc/resolv.conf")).await?;
    let server = dns
        .server
        .context("the pod's resolv.conf names no DNS server")?;
    let lookup = Lookup::new([SocketAddr::new(server, DNS_PORT)]);
    // Not ready before it is known: a session could do nothing with a manager that knows no prefix.
    let discovery = tokio::select! {
        discovery = discovery::start(client.clone(), dns, cancelled.clone()) => discovery?,
        () = terminated(cancelled.clone()) => return Ok(()),
    };
    let sessions = Arc::new(Sessions::new(settings.grace));
    let flows = ResumableFlows::default();
    let intercepts = Intercepts::new(Tools {
        client,
        redirector: running.redirector,
        flows: flows.clone(),
        pod_ips: settings.pod_ips,
        tasks: tasks.clone(),
        cancelled: cancelled.clone(),
    });
    spawn_keepers(&tasks, &cancelled, &intercepts, &sessions, running.events);
    let listener = TcpListener::bind(settings.sessions)
        .await
        .with_context(|| format!("can't listen on {}", settings.sessions))?;
    let server = Server {
        sessions,
        intercepts,
        flows,
        facts: discovery.facts,
        lookup,
        tasks: tasks.clone(),
        cancelled: cancelled.clone(),
    };
    ready.set();
    tracing::info!(release = kdev_proto::RELEASE, "the manager serves");
    let serve = transport::server()
        .add_service(ManagerServer::new(server))
        .serve_with_incoming_shutdown(nodelay(listener), terminated(cancelled.clone()));
    // Sessions keep their connections open: what is left after the drain is cut.
    tokio::select! {
        served = serve => served?,
        () = async { cancelled.cancelled().await; tokio::time::sleep(DRAIN).await } => {}
    }
    tasks.close();
    let _ = tokio::time::timeout(DRAIN, tasks.wait()).await;
    let _ = tokio::join!(running.task, discovery.task);
    tracing::info!("the manager ends");
    Ok(())
}

/// Starts what keeps intercepts true to the cluster and to their sessions.
fn spawn_keepers(
    tasks: &TaskTracker,
    cancelled: &CancellationToken,
    intercepts: &Intercepts,
    sessions: &Arc<Sessions>,
    events: tokio::sync::mpsc::Receiver<redirector::Event>,
) {
    let (all, ended) = (intercepts.clone(), cancelled.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = all.follow(events) => {}
        }
    });
    let (all, ended, known) = (intercepts.clone(), cancelled.clone(), Arc::clone(sessions));
    tasks.spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = all.expect_claimants(&known) => {}
        }
    });
    let (all, ended, known) = (intercepts.clone(), cancelled.clone(), Arc::clone(sessions));
    tasks.spawn(async move {
        let expire = async {
            loop {
                for session in known.next_expired().await {
                    tracing::info!(
                        session = session.id,
                        "session over: it stayed away too long"
                    );
                    all.end_session(&session.id).await;
                }
            }
        };
        tokio::select! {
            () = ended.cancelled() => {}
            () = expire => {}
        }
    });
}

fn nodelay(
    listener: TcpListener,
) -> impl futures::Stream<Item = std::io::Result<tokio::net::TcpStream>> {
    use futures::StreamExt as _;
    // tonic leaves sockets alone that it didn't accept itself.
    TcpListenerStream::new(listener).inspect(|accepted| {
        if let Ok(connection) = accepted {
            let _ = connection.set_nodelay(true);
        }
    })
}

async fn terminated(cancelled: CancellationToken) {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            terminate.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "SIGTERM isn't heard");
            cancelled.cancelled().await;
        }
    }
    cancelled.cancel();
}
