//! The session's own connection to the manager: control stream, heartbeats, and the channel over which
//! connections from the cluster come.

use std::sync::Arc;
use std::time::Duration;

use kdev_cluster::client::ClusterClient;
use kdev_cluster::install::find_manager;
use kdev_cluster::portforward::{self, OpenedForward};
use kdev_common::transport;
use kdev_proto::v1::manager_client::ManagerClient;
use kdev_proto::v1::session_event::Kind as Event;
use kdev_proto::v1::session_request::Kind as Request;
use kdev_proto::v1::{
    ClusterNetwork, ErrorKind, InterceptState, Part, SessionEnd, SessionEvent, SessionHello,
    SessionRequest, State, Version, VersionRequest,
};
use kdev_proto::{Failure, check_version, version_of};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

use super::backoff::{Backoff, Nudge};
use crate::failures;

/// Port of the manager's interface for sessions, on its pod's loopback.
const MANAGER_PORT: u16 = 8080;

const HEARTBEAT: Duration = Duration::from_secs(2);
/// Three heartbeats without an answer.
const DEAD_AFTER: Duration = Duration::from_secs(6);
/// How long the handshake on an opened port-forward may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
const QUEUE: usize = 64;

/// Opens a port-forward to the manager, with the name of its pod.
///
/// # Errors
///
/// When there is none, or it can't be forwarded to.
pub async fn forward_to_manager(
    cluster: &ClusterClient,
    namespace: &str,
) -> Result<(String, OpenedForward), Failure> {
    let client = cluster.kube();
    let pod = find_manager(client, namespace)
        .await
        .map_err(|error| failures::manager(namespace, &error))?;
    let forward = portforward::open(client, namespace, &pod.name, MANAGER_PORT)
        .await
        .map_err(|error| failures::port_forward(&error))?;
    Ok((pod.name, forward))
}

/// Asks a manager for its version, over a way of its own.
///
/// # Errors
///
/// Why it doesn't say.
pub async fn version_of_manager(
    cluster: &ClusterClient,
    namespace: &str,
) -> Result<Version, Failure> {
    let (_, forward) = forward_to_manager(cluster, namespace).await?;
    let ask = async {
        let channel = transport::channel_over(forward.into_stream())
            .await
            .map_err(|error| broken(&error))?;
        let mut client = ManagerClient::new(channel);
        let version = client.get_version(VersionRequest {}).await;
        version
            .map(tonic::Response::into_inner)
            .map_err(|status| broken(&status.message()))
    };
    tokio::time::timeout(HANDSHAKE, ask)
        .await
        .map_err(|_| broken(&"no answer from the manager's pod"))?
}

/// What the link is now.
#[derive(Debug, Clone)]
pub struct Link {
    /// How it is doing.
    pub part: Part,
    /// Set while it works.
    pub channel: Option<Channel>,
    /// The manager's version, since it was first reached.
    pub version: Option<Version>,
    /// Why it doesn't work, when it doesn't.
    pub failure: Option<Failure>,
    /// Grows with each connection.
    pub generation: u64,
    /// Round trip of the last heartbeat.
    pub round_trip: Duration,
}

/// Which manager, and as whom.
#[derive(Debug, Clone)]
pub struct ManagerAddress {
    /// The cluster.
    pub cluster: Arc<ClusterClient>,
    /// The manager's namespace.
    pub namespace: String,
    /// The session's secret, which nobody but the manager may know.
    pub session: String,
    /// "user@machine".
    pub owner: String,
}

/// A handle to the link's task.
#[derive(Debug, Clone)]
pub struct ManagerLink {
    /// What the link is.
    pub link: watch::Receiver<Link>,
    /// What the manager last said of the cluster's network.
    pub network: watch::Receiver<Option<ClusterNetwork>>,
    requests: mpsc::Sender<Request>,
}

/// Who hears of what becomes of intercepts.
pub trait InterceptEvents: Send + Sync + 'static {
    /// The manager reports on an intercept.
    fn handle_state(&self, state: InterceptState);
    /// What to ask again of a manager that was just connected to.
    fn held(&self) -> Vec<Request>;
}

struct Task {
    address: ManagerAddress,
    link: watch::Sender<Link>,
    network: watch::Sender<Option<ClusterNetwork>>,
    requests: mpsc::Receiver<Request>,
    intercepts: Arc<dyn InterceptEvents>,
}

impl ManagerLink {
    /// Starts the link; `run` is its task, which ends when `cancelled`.
    pub fn new(
        address: ManagerAddress,
        intercepts: Arc<dyn InterceptEvents>,
        nudge: Nudge,
        cancelled: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (link_sender, link) = watch::channel(Link {
            part: Part::new(State::Pending, "connecting"),
            channel: None,
            version: None,
            failure: None,
            generation: 0,
            round_trip: Duration::ZERO,
        });
        let (network_sender, network) = watch::channel(None);
        let (requests, receiver) = mpsc::channel(QUEUE);
        let task = Task {
            address,
            link: link_sender,
            network: network_sender,
            requests: receiver,
            intercepts,
        };
        (
            Self {
                link,
                network,
                requests,
            },
            task.run(nudge, cancelled),
        )
    }

    /// Sends a request to the manager; false when there is no connection to send it on. What must
    /// not be lost is among [`InterceptEvents::held`] and sent again on the next connection.
    pub fn request(&self, request: Request) -> bool {
        self.link.borrow().channel.is_some() && self.requests.try_send(request).is_ok()
    }

    /// Waits until the link works.
    ///
    /// # Errors
    ///
    /// The first failure, as long as it doesn't.
    pub async fn first(&self) -> Result<Link, Failure> {
        let mut link = self.link.clone();
        let settled = link
            .wait_for(|link| link.channel.is_some() || link.failure.is_some())
            .await
            .map_err(|_| Failure::internal("the link to the manager ended", "its task is gone"))?;
        match (&settled.channel, &settled.failure) {
            (None, Some(failure)) => Err(failure.clone()),
            _ => Ok(settled.clone()),
        }
    }
}

struct Live {
    events: Streaming<SessionEvent>,
    requests: mpsc::Sender<SessionRequest>,
}

impl Task {
    async fn run(mut self, nudge: Nudge, cancelled: CancellationToken) {
        let mut backoff = Backoff::new(nudge);
        loop {
            let connected = tokio::select! {
                () = cancelled.cancelled() => return,
                connected = self.connect() => connected,
            };
            match connected {
                Ok(live) => {
                    backoff.reset();
                    let requests = live.requests.clone();
                    let lost = tokio::select! {
                        () = cancelled.cancelled() => {
                            // Over, not away: the manager needn't wait for us.
                            let end = SessionRequest { kind: Some(Request::End(SessionEnd {})) };
                            let _ = requests.send(end).await;
                            // The manager closes the stream once it has taken note.
                            let _ = tokio::time::timeout(HEARTBEAT, requests.closed()).await;
                            return;
                        }
                        lost = self.serve(live) => lost,
                    };
                    tracing::info!(reason = %lost.why, "the manager is out of reach");
                    self.report_lost(lost);
                }
                Err(failure) => self.report_lost(failure),
            }
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = backoff.wait() => {}
            }
        }
    }

    async fn connect(&mut self) -> Result<Live, Failure> {
        let ManagerAddress {
            cluster,
            namespace,
            session,
            owner,
        } = &self.address;
        let (pod, forward) = forward_to_manager(cluster, namespace).await?;
        let handshake = async {
            let channel = transport::channel_over(forward.into_stream())
                .await
                .map_err(|error| broken(&error))?;
            let mut client = ManagerClient::new(channel.clone());
            let version = client
                .get_version(VersionRequest {})
                .await
                .map_err(|status| broken(&status.message()))?
                .into_inner();
            check_version(&version)?;
            let (requests, receiver) = mpsc::channel(QUEUE);
            let hello = Request::Hello(SessionHello {
                session: session.clone(),
                owner: owner.clone(),
                version: Some(version_of("kdev-userd")),
            });
            // There is room: the channel is new.
            let _ = requests.try_send(SessionRequest { kind: Some(hello) });
            let events = client
                .session(ReceiverStream::new(receiver))
                .await
                .map_err(refused)?
                .into_inner();
            Ok::<_, Failure>((channel, version, Live { events, requests }))
        };
        let (channel, version, mut live) = tokio::time::timeout(HANDSHAKE, handshake)
            .await
            .map_err(|_| broken(&"no answer from the manager's pod"))??;
        match tokio::time::timeout(HANDSHAKE, live.events.message()).await {
            Ok(Ok(Some(SessionEvent {
                kind: Some(Event::Welcome(_)),
            }))) => {}
            Ok(Err(status)) => return Err(refused(status)),
            _ => return Err(broken(&"the manager didn't welcome the session")),
        }
        self.link.send_modify(|link| {
            link.part = link.part.then(State::Ok, format!("pod {namespace}/{pod}"));
            link.channel = Some(channel);
            link.version = Some(version);
            link.failure = None;
            link.generation += 1;
        });
        // What is claimed from now on finds the channel and is asked for by itself; asking twice does
        // no harm.
        for request in self.intercepts.held() {
            let _ = live
                .requests
                .send(SessionRequest {
                    kind: Some(request),
                })
                .await;
        }
        Ok(live)
    }

    /// Serves until the connection is lost; says why.
    async fn serve(&mut self, mut live: Live) -> Failure {
        let mut heard = Instant::now();
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = live.events.message() => match event {
                    Ok(Some(event)) => {
                        heard = Instant::now();
                        self.handle(event);
                    }
                    Ok(None) => return broken(&"the manager ended the session's stream"),
                    Err(status) => return broken(&status.message()),
                },
                request = self.requests.recv() => match request {
                    Some(kind) => {
                        let request = SessionRequest { kind: Some(kind) };
                        if live.requests.send(request).await.is_err() {
                            return broken(&"the session's stream is closed");
                        }
                    }
                    None => return broken(&"the session ends"),
                },
                _ = beat.tick() => {
                    if heard.elapsed() > DEAD_AFTER {
                        return broken(&"no heartbeat for 6 s");
                    }
                    let now = kdev_common::clock::now_ms();
                    // A full queue is a connection that doesn't take anything: the check above ends it.
                    let ping = SessionRequest { kind: Some(Request::Ping(now)) };
                    let _ = live.requests.try_send(ping);
                }
            }
        }
    }

    fn handle(&self, event: SessionEvent) {
        match event.kind {
            Some(Event::Network(network)) => {
                self.network.send_replace(Some(network));
            }
            Some(Event::Intercept(state)) => self.intercepts.handle_state(state),
            Some(Event::Pong(sent)) => {
                let took = kdev_common::clock::now_ms().saturating_sub(sent);
                self.link
                    .send_modify(|link| link.round_trip = Duration::from_millis(took));
            }
            Some(Event::Welcome(_)) | None => {}
        }
    }

    fn report_lost(&self, failure: Failure) {
        self.link.send_modify(|link| {
            link.part = link
                .part
                .then(State::Down, format!("{failure}; trying again"));
            link.channel = None;
            link.failure = Some(failure);
        });
    }
}

/// What the manager itself said, or what broke under it.
fn refused(status: tonic::Status) -> Failure {
    if status.details().is_empty() {
        broken(&status.message())
    } else {
        status.into()
    }
}

fn broken(why: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        ErrorKind::Manager,
        "the connection to the manager broke",
        why.to_string(),
        "it is made again by itself; `kdev status` shows how it goes",
    )
}
