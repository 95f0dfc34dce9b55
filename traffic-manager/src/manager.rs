//! The manager's life: everything that it is made of, started and ended together.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kdev_cluster::client::ClusterClient;
use kdev_cluster::discovery;
use kdev_cluster::install::MANAGER;
use kdev_cluster::redirect::redirector;
use kdev_cluster::vouch::{self, ManagerKey, OwnPod, SessionLeases, Vouched};
use kdev_common::outage::Outage;
use kdev_common::transport;
use kdev_flow::rpc::server::FlowsServer;
use kdev_identity::{Acceptor, Identity};
use kdev_proto::v1::manager_server::ManagerServer;
use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::calls::Calls;
use crate::gate::Gate;
use crate::health::{self, Ready};
use crate::intercepts::{Intercepts, Tools};
use crate::lapsed::Lapsed;
use crate::lookup::Lookup;
use crate::pending::{self, Pending};
use crate::resumable::ResumableFlows;
use crate::router::RouterPorts;
use crate::server::Server;
use crate::sessions::Sessions;
use crate::settings::Settings;
use crate::{sweep, vouching};

/// How long flows may take to end when the manager does. Short: the next manager starts only then.
pub const DRAIN: Duration = Duration::from_secs(1);
const DNS_PORT: u16 = 53;
/// Connections that wait to be served.
const ADMITTED: usize = 16;
/// The largest message that is read, in bytes: a question to the cluster's DNS has up to 64 KiB.
const MESSAGE: usize = 128 << 10;
/// Between two attempts at publishing the manager's key.
const PUBLISH_AGAIN: Duration = Duration::from_secs(1);
/// How long what is published is trusted to be as it was written.
const PUBLISHED_FOR: Duration = Duration::from_secs(10);

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
    let running = redirector::start(client.clone(), &settings.pod.namespace, cancelled.clone());
    let identity = Identity::generate()?;
    let acceptor = Acceptor::new(&identity)?;
    let (vouched_sender, vouched) = watch::channel(None);
    let leases = SessionLeases::new(client.clone(), &settings.pod.namespace);
    spawn_until(&tasks, &cancelled, leases.clone().watch(vouched_sender));
    let dns = discovery::read_resolv_conf(Path::new("/etc/resolv.conf")).await?;
    let server = dns
        .server
        .context("the pod's resolv.conf names no DNS server")?;
    let lookup = Lookup::new([SocketAddr::new(server, DNS_PORT)]);
    // Not ready before it is known: a session could do nothing with a manager that knows no prefix.
    let own_service = format!("{}/{MANAGER}", settings.pod.namespace);
    let known = async {
        publish(&client, &settings.pod, &identity).await;
        discovery::start(client.clone(), dns, own_service, cancelled.clone()).await
    };
    let published = keep_published(client.clone(), settings.pod.clone(), identity.clone());
    let discovery = tokio::select! {
        discovery = known => discovery?,
        () = terminated(&cancelled) => {
            cancelled.cancel();
            return Ok(());
        }
    };
    spawn_until(&tasks, &cancelled, published);
    let sessions = Arc::new(Sessions::new(settings.grace));
    let flows = ResumableFlows::default();
    let claims = running.redirector.annotated();
    let intercepts = Intercepts::new(Tools {
        client: client.clone(),
        redirector: running.redirector,
        flows: flows.clone(),
        ports: RouterPorts::new(
            client.clone(),
            settings.pod_ips,
            settings.router,
            tasks.clone(),
            cancelled.clone(),
        ),
        lapsed: Lapsed::default(),
        node: settings.node,
        tasks: tasks.clone(),
        cancelled: cancelled.clone(),
    });
    spawn_until(
        &tasks,
        &cancelled,
        sweep::run(client.clone(), settings.pod.namespace.clone(), claims),
    );
    let following = intercepts.clone();
    spawn_until(&tasks, &cancelled, async move {
        following.follow(running.events).await;
    });
    let keepers = Keepers {
        leases: leases.clone(),
        intercepts: intercepts.clone(),
        sessions: Arc::clone(&sessions),
        vouched: vouched.clone(),
    };
    keepers.spawn(&tasks, &cancelled);
    let (through, admitted) = mpsc::channel(ADMITTED);
    let gate = Gate {
        acceptor,
        vouched,
        sessions: Arc::clone(&sessions),
        through,
        tasks: tasks.clone(),
        cancelled: cancelled.clone(),
    };
    for (addresses, pending) in [
        // Everyone who comes over a port-forward has the same address.
        (&[settings.sessions][..], Pending::new(pending::IN_ALL)),
        (&settings.direct, Pending::new(pending::PER_ADDRESS)),
    ] {
        let listener = TcpListener::bind(addresses)
            .await
            .with_context(|| format!("can't listen on {addresses:?}"))?;
        tasks.spawn(gate.clone().serve(listener, pending));
    }
    drop(gate);
    let ending = intercepts.clone();
    let calls = Calls {
        flows,
        tasks: tasks.clone(),
    };
    let server = Server {
        sessions,
        intercepts,
        leases,
        facts: discovery.facts,
        lookup,
        tasks: tasks.clone(),
        cancelled: cancelled.clone(),
    };
    ready.set();
    tracing::info!(release = kdev_proto::RELEASE, "the manager serves");
    let serve = transport::server()
        .add_service(ManagerServer::new(server).max_decoding_message_size(MESSAGE))
        .add_service(FlowsServer::new(calls))
        .serve_with_incoming_shutdown(
            ReceiverStream::new(admitted),
            ended(ending, cancelled.clone()),
        );
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

/// Runs `work` on a task of `tasks` until it is done or all ends.
fn spawn_until(
    tasks: &TaskTracker,
    cancelled: &CancellationToken,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let cancelled = cancelled.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = work => {}
        }
    });
}

/// Publishes the manager's key, as soon as the API server takes it.
async fn publish(client: &Client, pod: &OwnPod, identity: &Identity) {
    let own = ManagerKey {
        key: identity.fingerprint(),
        release: kdev_proto::RELEASE.to_owned(),
        protocol: kdev_proto::PROTOCOL,
    };
    let mut outage = Outage::default();
    while let Err(error) = vouch::publish(client, pod, &own).await {
        match outage.handle_lost(Instant::now()) {
            true => tracing::warn!(%error, "the manager's key isn't published; trying until it is"),
            false => tracing::debug!(%error, "the manager's key still isn't published"),
        }
        tokio::time::sleep(PUBLISH_AGAIN).await;
    }
    if let Some(away) = outage.handle_back(Instant::now()) {
        tracing::info!(?away, "the manager's key is published");
    }
}

/// Publishes the manager's key again and again: whoever deletes its Lease, or writes another key into it,
/// keeps nobody out for long.
async fn keep_published(client: Client, pod: OwnPod, identity: Identity) {
    loop {
        tokio::time::sleep(PUBLISHED_FOR).await;
        publish(&client, &pod, &identity).await;
    }
}

/// What keeps sessions and intercepts true to the cluster.
struct Keepers {
    leases: SessionLeases,
    intercepts: Intercepts,
    sessions: Arc<Sessions>,
    vouched: watch::Receiver<Option<Vouched>>,
}

impl Keepers {
    fn spawn(self, tasks: &TaskTracker, cancelled: &CancellationToken) {
        let Self {
            leases,
            intercepts,
            sessions,
            vouched,
        } = self;
        let (all, known) = (intercepts.clone(), Arc::clone(&sessions));
        spawn_until(tasks, cancelled, async move {
            all.expect_claimants(&known).await;
        });
        let (all, known) = (intercepts.clone(), Arc::clone(&sessions));
        spawn_until(tasks, cancelled, vouching::follow(vouched, known, all));
        let (expiring, ended) = (tasks.clone(), cancelled.clone());
        spawn_until(tasks, cancelled, async move {
            loop {
                for session in sessions.next_expired().await {
                    tracing::info!(
                        session = session.id,
                        "session over: it stayed away too long"
                    );
                    session.cut.cancel();
                    let (intercepts, known) = (intercepts.clone(), Arc::clone(&sessions));
                    let leases = leases.clone();
                    // Apart from each other: one that an API server lets wait holds up no other.
                    spawn_until(&expiring, &ended, async move {
                        intercepts.end_session(&session.id).await;
                        vouching::forget(&leases, &session.id, &known).await;
                    });
                }
            }
        });
    }
}

/// Waits until the manager is to end, and hands over what it looks after.
async fn ended(intercepts: Intercepts, cancelled: CancellationToken) {
    terminated(&cancelled).await;
    intercepts.hand_over().await;
    cancelled.cancel();
}

async fn terminated(cancelled: &CancellationToken) {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            terminate.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "SIGTERM isn't heard");
            cancelled.cancelled().await;
        }
    }
}
