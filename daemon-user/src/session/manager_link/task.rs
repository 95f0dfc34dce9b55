//! Holds the session's own connection to the manager: makes it, beats, and makes it again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::Fuse;
use kdev_common::carrier::CarrierKind;
use kdev_common::channel::Channel;
use kdev_common::killable::{Killable, Received};
use kdev_common::outage::Outage;
use kdev_common::wake::Wake;
use kdev_flow::Carrier;
use kdev_proto::v1::manager_client::ManagerClient;
use kdev_proto::v1::session_event::Kind as Event;
use kdev_proto::v1::session_request::Kind as Request;
use kdev_proto::v1::{
    ClusterNetwork, EchoMessage, ErrorKind, SessionEnd, SessionEvent, SessionHello, SessionRequest,
    State,
};
use kdev_proto::{Failure, version_of};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::super::backoff::{Backoff, Nudge};
use super::super::manager_access::Known;
use super::super::pings::Pings;
use super::{InterceptEvents, Link, Means, QUEUE};

const HEARTBEAT: Duration = Duration::from_secs(2);
/// Heartbeats without an answer after which a connection is dead. They are counted, as no clock may
/// judge: a process that was stopped has heard nothing for as long as that.
const MISSES: u32 = 3;
/// How long the handshake on an opened port-forward may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// See the module.
pub(super) struct Task {
    pub(super) means: Means,
    pub(super) link: watch::Sender<Link>,
    pub(super) network: watch::Sender<Option<ClusterNetwork>>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) intercepts: Arc<dyn InterceptEvents>,
    pub(super) pings: Pings,
    /// Somebody wants to know now whether the manager answers.
    pub(super) asked: Arc<Notify>,
    pub(super) outage: Outage,
}

struct Live {
    events: Streaming<SessionEvent>,
    requests: mpsc::Sender<SessionRequest>,
    /// Of a direct connection.
    address: Option<SocketAddr>,
    /// What has come over it.
    received: Received,
}

/// Why a connection isn't served any more.
enum Left {
    Lost(Failure),
    /// There is a direct way.
    Better(SocketAddr),
}

impl Task {
    /// Runs until `cancelled`, or until the session is over.
    pub(super) async fn run(mut self, nudge: Nudge, cancelled: CancellationToken) {
        let mut backoff = Backoff::new(nudge.clone());
        loop {
            let connected = tokio::select! {
                () = cancelled.cancelled() => return,
                connected = self.connect() => connected,
            };
            let failure = match connected {
                Ok(live) => {
                    backoff.reset();
                    // What waits for another reason than this one's is worth an attempt now as well.
                    nudge.nudge();
                    match self.hold(live, &cancelled).await {
                        Some(lost) => lost,
                        None => return,
                    }
                }
                Err(failure) => failure,
            };
            // Somebody ended the session in the cluster: it is over, and doesn't come back.
            let over = failure.kind == ErrorKind::NotConnected;
            self.report_lost(failure, over);
            if over {
                return;
            }
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = backoff.wait() => {}
            }
        }
    }

    /// Serves a connection, and better ones that take its place, until the last is lost; `None` when
    /// cancelled.
    async fn hold(&mut self, mut live: Live, cancelled: &CancellationToken) -> Option<Failure> {
        loop {
            let requests = live.requests.clone();
            let left = tokio::select! {
                () = cancelled.cancelled() => {
                    // Over, not away: the manager needn't wait for us.
                    let end = SessionRequest { kind: Some(Request::End(SessionEnd {})) };
                    let _ = tokio::time::timeout(HEARTBEAT, requests.send(end)).await;
                    // The manager closes the stream once it has taken note.
                    let _ = tokio::time::timeout(HEARTBEAT, requests.closed()).await;
                    return None;
                }
                left = self.serve(&mut live) => left,
            };
            match left {
                Left::Lost(lost) => {
                    if let Some(address) = live.address {
                        self.means.direct.failed(address);
                    }
                    return Some(lost);
                }
                Left::Better(address) => {
                    let better = tokio::select! {
                        // The next round takes leave.
                        () = cancelled.cancelled() => continue,
                        better = self.connect_directly(address) => better,
                    };
                    match better {
                        Ok(better) => live = better,
                        Err(failure) => {
                            tracing::debug!(reason = %failure.why, "no direct way");
                            self.means.direct.failed(address);
                        }
                    }
                }
            }
        }
    }

    /// Connects by the way that works. What is direct needs no API server, which may be what is away.
    async fn connect(&mut self) -> Result<Live, Failure> {
        let is_known = self.means.access.known().borrow().is_some();
        if is_known && let Some(address) = self.means.direct.address().await {
            match self.connect_directly(address).await {
                Ok(live) => return Ok(live),
                Err(failure) => {
                    tracing::debug!(reason = %failure.why, "no direct way");
                    self.means.direct.failed(address);
                }
            }
        }
        let forward = async {
            let opened = self.means.access.forward();
            let (vouched, opened) = tokio::join!(self.means.voucher.vouch(), opened);
            // Who may not forward ports hears of that first, as without it nothing works.
            let opened = opened?;
            vouched?;
            Ok::<_, Failure>(opened)
        };
        let (known, forward) = forward.await?;
        self.speak(forward.into_stream(), known, None).await
    }

    async fn connect_directly(&mut self, address: SocketAddr) -> Result<Live, Failure> {
        let (known, stream) = self.means.access.dial(address).await?;
        self.speak(stream, known, Some(address)).await
    }

    /// Opens the session on a connection, and lets the link be that one.
    async fn speak<S>(
        &mut self,
        stream: S,
        known: Known,
        address: Option<SocketAddr>,
    ) -> Result<Live, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let close = CancellationToken::new();
        let stream = Killable::new(stream, close.clone());
        let received = stream.received();
        let handshake = async {
            let stream = self
                .means
                .access
                .connector
                .connect(known.fingerprint(), stream)
                .await
                .map_err(|error| broken(&error))?;
            let channel = Channel::over(stream)
                .await
                .map_err(|error| broken(&error))?;
            let mut client = ManagerClient::new(channel.clone());
            let (requests, receiver) = mpsc::channel(QUEUE);
            let limit = self.means.resume_limit.as_secs();
            let hello = Request::Hello(SessionHello {
                owner: self.means.owner.clone(),
                version: Some(version_of("kdev-userd")),
                resume_limit_seconds: u32::try_from(limit).unwrap_or(u32::MAX),
            });
            // There is room: the channel is new.
            let _ = requests.try_send(SessionRequest { kind: Some(hello) });
            let mut events = client
                .session(ReceiverStream::new(receiver))
                .await
                .map_err(refused)?
                .into_inner();
            match events.message().await {
                Ok(Some(SessionEvent {
                    kind: Some(Event::Welcome(welcome)),
                })) => {
                    let live = Live {
                        events,
                        requests,
                        address,
                        received,
                    };
                    Ok((channel, welcome, live))
                }
                Err(status) => Err(refused(status)),
                Ok(_) => Err(broken(&"the manager didn't welcome the session")),
            }
        };
        let (channel, welcome, live) = tokio::time::timeout(HANDSHAKE, handshake)
            .await
            .map_err(|_| broken(&"no answer from the manager's pod"))??;
        let kind = match address {
            Some(_) => CarrierKind::Direct,
            None => CarrierKind::PortForward,
        };
        let pod = &known.pod;
        self.link.send_modify(|link| {
            link.part = link
                .part
                .then(State::Ok, format!("pod {}/{}", pod.namespace, pod.name));
            link.channel = Some(channel);
            link.version = Some(welcome.version.unwrap_or_default());
            link.redirects_udp = welcome.redirects_udp;
            link.failure = None;
            link.generation += 1;
            link.kind = kind;
            link.round_trip = None;
            link.carrier = Carrier::new(close);
        });
        if let Some(away) = self.outage.handle_back(Instant::now()) {
            tracing::info!(?away, kind = kind.as_str(), "the manager is reached again");
        }
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

    /// Serves until the connection is lost, or there is a better one.
    async fn serve(&mut self, live: &mut Live) -> Left {
        let direct = self.means.direct.clone();
        let is_forward = live.address.is_none();
        let mut failures = direct.failures();
        let mut doubts = std::pin::pin!(Fuse::terminated());
        let mut wake = Wake::default();
        let mut unanswered = 0;
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = live.events.message() => match event {
                    Ok(Some(event)) => {
                        unanswered = 0;
                        self.handle(event);
                    }
                    Ok(None) => return lost(&"the manager ended the session's stream"),
                    Err(status) => return Left::Lost(refused(status)),
                },
                request = self.requests.recv() => match request {
                    Some(kind) => {
                        let request = SessionRequest { kind: Some(kind) };
                        if live.requests.send(request).await.is_err() {
                            return lost(&"the session's stream is closed");
                        }
                    }
                    None => return lost(&"the session ends"),
                },
                address = direct.available(), if is_forward => return Left::Better(address),
                // A carrier met what this connection may not have met yet, as it says little.
                _ = failures.changed() => if *failures.borrow_and_update() == live.address {
                    doubts.set(self.passes_full_packets(live).fuse());
                },
                passes = &mut doubts => if !passes {
                    return lost(&"full packets don't pass");
                },
                // What was connected before may be gone: it has to say so now.
                _ = wake.woke() => {
                    beat.reset_immediately();
                    unanswered = MISSES - 1;
                }
                _ = beat.tick() => {
                    if unanswered == MISSES {
                        return lost(&"three heartbeats weren't answered");
                    }
                    unanswered += 1;
                    self.ping(live);
                }
                // No heartbeat: those who look often must not make a slow connection a dead one.
                () = self.asked.notified() => self.ping(live),
            }
        }
    }

    /// Whether as much as flows say passes as well, both ways.
    fn passes_full_packets(&self, live: &Live) -> impl Future<Output = bool> + Send + 'static {
        let (channel, received) = (self.link.borrow().channel.clone(), live.received.clone());
        async move {
            let Some(mut client) = channel.map(ManagerClient::new) else {
                return true;
            };
            for _ in 0..MISSES {
                let before = received.get();
                let asked = client.echo(EchoMessage::full());
                // An answer may wait behind much else.
                if tokio::time::timeout(HEARTBEAT, asked).await.is_ok() || received.get() != before
                {
                    return true;
                }
            }
            false
        }
    }

    fn ping(&self, live: &Live) {
        let ping = Request::Ping(self.pings.number());
        // A full queue is a connection that doesn't take anything: the heartbeats that are missed end it.
        let _ = live.requests.try_send(SessionRequest { kind: Some(ping) });
    }

    fn handle(&self, event: SessionEvent) {
        match event.kind {
            Some(Event::Network(network)) => {
                self.network.send_replace(Some(network));
            }
            Some(Event::Intercept(state)) => self.intercepts.handle_state(state),
            Some(Event::Pong(number)) => {
                let Some(round_trip) = self.pings.round_trip(number) else {
                    return;
                };
                self.link.send_modify(|link| {
                    link.round_trip = Some(round_trip);
                    link.answered = link.answered.max(number);
                });
            }
            Some(Event::Welcome(_)) | None => {}
        }
    }

    fn report_lost(&mut self, failure: Failure, over: bool) {
        if self.outage.handle_lost(Instant::now()) {
            tracing::info!(reason = %failure.why, "the manager is out of reach");
        } else {
            tracing::debug!(reason = %failure.why, "the manager is still out of reach");
        }
        let again = if over { "" } else { "; trying again" };
        self.link.send_modify(|link| {
            link.part = link.part.then(State::Down, format!("{failure}{again}"));
            link.over = over;
            link.channel = None;
            link.round_trip = None;
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

fn lost(why: &dyn std::fmt::Display) -> Left {
    Left::Lost(broken(why))
}

fn broken(why: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        ErrorKind::Manager,
        "the connection to the manager broke",
        why.to_string(),
        "it is made again by itself; `kdev status` shows how it goes",
    )
}
