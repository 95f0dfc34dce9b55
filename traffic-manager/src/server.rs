//! The manager's gRPC interface: each method in a few lines, the work elsewhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use kdev_cluster::discovery::ClusterFacts;
use kdev_cluster::vouch::SessionLeases;
use kdev_proto::v1::manager_server::Manager;
use kdev_proto::v1::session_event::Kind as Event;
use kdev_proto::v1::session_request::Kind;
use kdev_proto::v1::{
    ClusterNetwork, EchoMessage, ErrorKind, LookupRequest, LookupResponse, SessionEvent,
    SessionRequest, SessionWelcome, Version,
};
use kdev_proto::{Failure, check_version, version_of};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::intercepts::Intercepts;
use crate::lookup::Lookup;
use crate::peer::Peer;
use crate::sessions::{self, Events, Session, Sessions};
use crate::vouching;

/// How long a machine may take to close its connections after it has ended its session.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Longest that a session may let its flows be without a carrier.
const LONGEST_RESUME: Duration = Duration::from_secs(3600);

/// See the module.
pub struct Server {
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// What is intercepted.
    pub intercepts: Intercepts,
    /// What is known of the cluster's network.
    pub facts: watch::Receiver<ClusterFacts>,
    /// The cluster's DNS.
    pub lookup: Lookup,
    /// What the sessions are vouched for by.
    pub leases: SessionLeases,
    /// Where flows run.
    pub tasks: TaskTracker,
    /// Ends everything.
    pub cancelled: CancellationToken,
}

fn own_version() -> Version {
    version_of("kdev-traffic-manager")
}

#[tonic::async_trait]
impl Manager for Server {
    type SessionStream = ReceiverStream<Result<SessionEvent, Status>>;

    async fn echo(&self, request: Request<EchoMessage>) -> Result<Response<EchoMessage>, Status> {
        let said = request.into_inner();
        if said.payload.len() > EchoMessage::MAX {
            let most = EchoMessage::MAX;
            return Err(Status::invalid_argument(format!(
                "{most} bytes are said back at most"
            )));
        }
        Ok(Response::new(said))
    }

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let session = Peer::of(request.extensions())?.speaker()?;
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|first| first.kind);
        let Some(Kind::Hello(hello)) = first else {
            return Err(Failure::internal("the session wasn't opened", "hello comes first").into());
        };
        check_version(&hello.version.unwrap_or_default())?;
        tracing::info!(session = session.id, "session connected");
        if hello.resume_limit_seconds != 0 {
            let limit = Duration::from_secs(hello.resume_limit_seconds.into());
            session.set_resume_limit(limit.min(LONGEST_RESUME));
        }
        let (events, receiver) = mpsc::channel(sessions::QUEUE);
        self.sessions.connect(&session, events.clone());
        let welcome = Event::Welcome(SessionWelcome {
            version: Some(own_version()),
            redirects_udp: true,
        });
        // There is room: the channel is new.
        let _ = events.try_send(Ok(SessionEvent {
            kind: Some(welcome),
        }));
        let conversation = Conversation {
            session,
            sessions: Arc::clone(&self.sessions),
            intercepts: self.intercepts.clone(),
            facts: self.facts.clone(),
            leases: self.leases.clone(),
            events,
        };
        let cancelled = self.cancelled.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = conversation.run(requests) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn lookup(
        &self,
        request: Request<LookupRequest>,
    ) -> Result<Response<LookupResponse>, Status> {
        let query: Bytes = request.into_inner().query;
        let response = self.lookup.ask(query).await.map_err(|error| {
            tracing::debug!(%error, "a lookup failed");
            Status::unavailable(error.to_string())
        })?;
        Ok(Response::new(LookupResponse { response }))
    }
}

/// One connection of a session's.
struct Conversation {
    session: Arc<Session>,
    sessions: Arc<Sessions>,
    intercepts: Intercepts,
    facts: watch::Receiver<ClusterFacts>,
    leases: SessionLeases,
    events: Events,
}

impl Conversation {
    async fn run(mut self, mut requests: Streaming<SessionRequest>) {
        self.facts.mark_changed();
        let ended = loop {
            tokio::select! {
                // It slept too long: it has to come again, and to know that it lost its claims.
                () = self.session.over.cancelled() => {
                    if self.session.is_revoked() {
                        let _ = self.events.send(Err(revoked(&self.session).into())).await;
                    }
                    break false;
                }
                request = requests.next() => match request {
                    Some(Ok(SessionRequest { kind: Some(Kind::End(_)) })) => break true,
                    Some(Ok(SessionRequest { kind })) => {
                        self.session.handle_heard();
                        if !self.handle(kind).await {
                            break false;
                        }
                    }
                    Some(Err(_)) | None => break false,
                },
                changed = self.facts.changed() => {
                    if changed.is_err() || !self.send_network().await {
                        break false;
                    }
                }
            }
        };
        if ended {
            tracing::info!(session = self.session.id, "session ended");
            self.intercepts.end_session(&self.session.id).await;
            self.sessions.remove(&self.session);
            // The machine hears the end of this stream, and closes what it has; nothing of a session
            // outlives it.
            let (cut, sessions) = (self.session.cut.clone(), Arc::clone(&self.sessions));
            let (leases, id) = (self.leases, self.session.id.clone());
            drop(self.events);
            drop(requests);
            tokio::time::sleep(LAST_WORDS).await;
            cut.cancel();
            vouching::forget(&leases, &id, &sessions).await;
        } else {
            if self.sessions.disconnect(&self.session, &self.events) {
                tracing::info!(session = self.session.id, "session away");
            }
        }
    }

    /// Does what the session asks; false when its connection is gone.
    async fn handle(&self, kind: Option<Kind>) -> bool {
        match kind {
            Some(Kind::Ping(number)) => self.send(Event::Pong(number)).await,
            Some(Kind::Intercept(start)) => {
                self.intercepts.start(&self.session, start).await;
                true
            }
            Some(Kind::Leave(stop)) => {
                self.intercepts.stop(&self.session, stop).await;
                true
            }
            Some(Kind::Hello(_) | Kind::End(_)) | None => true,
        }
    }

    async fn send_network(&mut self) -> bool {
        let network = network(&self.facts.borrow_and_update());
        self.send(Event::Network(network)).await
    }

    async fn send(&self, event: Event) -> bool {
        self.events
            .send(Ok(SessionEvent { kind: Some(event) }))
            .await
            .is_ok()
    }
}

fn revoked(session: &Session) -> Failure {
    Failure::new(
        ErrorKind::NotConnected,
        "the session was ended in the cluster",
        format!("its Lease was deleted (session {})", session.id),
        "ask who administers the cluster, or run `kdev connect` again",
    )
}

fn network(facts: &ClusterFacts) -> ClusterNetwork {
    let texts = |prefixes: &[_]| prefixes.iter().map(ToString::to_string).collect();
    ClusterNetwork {
        service_cidrs: texts(&facts.service_cidrs),
        pod_cidrs: texts(&facts.pod_cidrs),
        domain: facts.dns.domain.clone(),
        namespaces: facts.namespaces.iter().cloned().collect(),
        direct: facts.direct.iter().map(ToString::to_string).collect(),
    }
}
