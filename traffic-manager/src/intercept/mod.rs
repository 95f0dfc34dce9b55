//! One intercept's life: claimed, redirected, proven, restored.

mod end;
mod proof;
mod reporter;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kdev_cluster::redirect::{self, Intercept, PortRef, Protocol, Route, ServiceName};
use kdev_common::fault::{Point, point};
use kdev_proto::v1::intercept_state::Phase;
use kdev_proto::v1::{InterceptStart, InterceptState};
use kube::Api;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::intercepts::Tools;
use crate::router::{Joined, Machine, RouterPort};
use crate::sessions::Session;
use reporter::Reporter;

pub use end::put_back;
pub use reporter::Farewell;

/// How long the API server may take to show a claim that was just written.
const CLAIM: Duration = Duration::from_secs(10);
/// After so long the Service itself is looked at: a claim was written before its session spoke of it.
const LOOK: Duration = Duration::from_secs(1);
/// How long redirecting may take.
const REDIRECT: Duration = Duration::from_secs(20);
/// Before a proof that failed is tried again, at first.
const PROVE_AGAIN: Duration = Duration::from_secs(2);
/// The same after many that failed.
const PROVE_SELDOM: Duration = Duration::from_secs(30);
/// What a session hears that was away for too long.
const LAPSED: &str = "the Service was given back, as this machine was away for too long";
/// What a session hears whose claim isn't there.
const UNCLAIMED: &str = "its claim isn't on the Service: somebody has taken it away";
/// What a session hears whose Service was deleted.
const GONE: &str = "the service was deleted";
/// What a session hears whose Service has lost its port.
const PORT_GONE: &str = "the service no longer has the port";
/// What an intercept hears.
#[derive(Debug, Clone)]
pub enum News {
    /// The Service's port leads to the router.
    Redirected,
    /// It can't be redirected any more.
    Lost(String),
    /// Its Service was deleted.
    Gone,
    /// Its Service has its port no more.
    PortGone,
    /// An attempt failed; another one follows.
    Trouble(String),
    /// The session wants to know how it stands; it may be one that is new under its old id.
    AskedAgain(Arc<Session>),
    /// It is over.
    Leave,
}

/// Runs an intercept to its end.
pub async fn run(
    tools: &Tools,
    session: &Arc<Session>,
    start: &InterceptStart,
    service: &ServiceName,
    news: &mut mpsc::Receiver<News>,
) -> Option<Farewell> {
    let id = &start.id;
    point(Point::StartHeard);
    let last = InterceptState {
        id: id.to_owned(),
        ..InterceptState::default()
    };
    let mut reporter = Reporter {
        session: Arc::clone(session),
        last,
    };
    let claimed = tokio::select! {
        claimed = claim(tools, session, id, service) => claimed,
        () = left(news, &mut reporter) => return None,
    };
    let Some(claim) = claimed else {
        return Some(match gone(tools, start).await {
            Some(why) => reporter.farewell(Phase::Gone, why),
            None if tools.lapsed.has(id) => reporter.farewell(Phase::Lapsed, LAPSED),
            None => reporter.farewell(Phase::Lost, UNCLAIMED),
        });
    };
    tools.lapsed.forget(id);
    point(Point::ClaimSeen);
    let machine = Machine {
        session: Arc::clone(session),
        streams: Arc::clone(&session.streams),
        flows: tools.flows.clone(),
    };
    let port = match tools.ports.get(service, &claim.port).await {
        Ok(port) => port,
        Err(error) => {
            let reason = format!("the manager's router can't open a port: {error}");
            return Some(reporter.farewell(Phase::Lost, reason));
        }
    };
    let route = Route {
        addresses: tools.ports.addresses().to_vec(),
        port: port.port(),
        nodes: tools.node.iter().cloned().collect(),
    };
    // Before anything changes: what no rule wants must still get to the pods.
    if needs_pods(&claim) && !reach_pods(&port, &mut reporter, news).await {
        return None;
    }
    let joined = Arc::clone(&port).join(claim.clone(), machine);
    point(Point::Joined);
    let one = Claimed {
        tools,
        service,
        claim: &claim,
        joined: &joined,
    };
    one.stay_with_pods().await;
    if tools.redirector.route(id, route).await.is_err() {
        return Some(reporter.farewell(Phase::Failed, "the manager is ending"));
    }
    let end = match one.redirected(&mut reporter, news).await {
        Ok(()) => one.hold(&mut reporter, news).await,
        Err(end) => end,
    };
    let over = match end {
        End::Gone => {
            one.abandon(port).await;
            return Some(reporter.farewell(Phase::Gone, GONE));
        }
        End::PortGone => {
            let is_free = one.give_back(port, &mut reporter, news).await;
            return is_free.then(|| reporter.farewell(Phase::Gone, PORT_GONE));
        }
        End::Left if session.over.is_cancelled() => {
            // What it was told holds no more.
            reporter.last.phase = Phase::Unspecified.into();
            tools.lapsed.note(id);
            let is_free = one.give_back(port, &mut reporter, news).await;
            return is_free.then(|| reporter.farewell(Phase::Lapsed, LAPSED));
        }
        End::Lost(reason) => Some(reason),
        End::Left => None,
    };
    if let Some(reason) = &over {
        reporter.report(Phase::Lost, reason, Duration::ZERO);
    }
    one.restore(&reporter.session, news, over).await;
    None
}

/// Tries until the Service's pods are reached from here, and tells the session that they aren't; false when it
/// leaves.
async fn reach_pods(
    port: &RouterPort,
    reporter: &mut Reporter,
    news: &mut mpsc::Receiver<News>,
) -> bool {
    let (mut due, mut pause) = (Instant::now(), PROVE_AGAIN);
    loop {
        let attempt = async {
            tokio::time::sleep_until(due).await;
            port.reach_pods().await
        };
        let reached = tokio::select! {
            reached = attempt => reached,
            () = left(news, reporter) => return false,
        };
        match reached {
            Ok(()) => return true,
            Err(pods) => reporter.report(Phase::Failed, unreached(&pods), Duration::ZERO),
        }
        due = Instant::now() + pause;
        pause = (pause * 2).min(PROVE_SELDOM);
    }
}

/// Waits until the intercept is over before it has begun; who asks meanwhile hears how it stands. Cancel safe.
async fn left(news: &mut mpsc::Receiver<News>, reporter: &mut Reporter) {
    loop {
        match news.recv().await {
            Some(News::Leave) | None => return,
            Some(News::AskedAgain(session)) => reporter.repeat_to(session),
            Some(_) => {}
        }
    }
}

/// Waits until the API server shows the claim: what only the session says counts for nothing.
async fn claim(
    tools: &Tools,
    session: &Session,
    id: &str,
    service: &ServiceName,
) -> Option<Intercept> {
    let mut claims = tools.redirector.annotated();
    let find = async {
        loop {
            let found = claims
                .borrow_and_update()
                .iter()
                .find(|one| {
                    one.intercept.id == id
                        && one.intercept.session == session.id
                        && one.service == *service
                })
                .map(|one| one.intercept.clone());
            if found.is_some() {
                return found;
            }
            claims.changed().await.ok()?;
        }
    };
    let none = async {
        tokio::time::sleep(LOOK).await;
        let there = redirect::claims_on(&tools.client, service).await;
        let is_it = |one: &Intercept| one.id == id && one.session == session.id;
        match there {
            Ok(there) if !there.iter().flatten().any(is_it) => {}
            // It comes, or nobody knows.
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        found = find => found,
        () = none => None,
        () = tokio::time::sleep(CLAIM) => None,
    }
}

/// Whether some of the port's connections go on to the pods.
fn needs_pods(claim: &Intercept) -> bool {
    claim.port.protocol == Protocol::Tcp && claim.leaves_some()
}

/// Why an intercept isn't begun that the pods would pay for.
fn unreached(pods: &[SocketAddr]) -> String {
    let pods: Vec<_> = pods.iter().map(ToString::to_string).collect();
    format!(
        "the manager's pod doesn't get through to the Service's pods ({}), and what no rule wants would be lost",
        pods.join(", ")
    )
}

/// Why there is nothing any more that a session could have claimed; `None` where there is, or where nobody knows.
async fn gone(tools: &Tools, start: &InterceptStart) -> Option<&'static str> {
    let services: Api<Service> = Api::namespaced(tools.client.clone(), &start.namespace);
    let found = services.get_opt(&start.service).await.ok()?;
    let Some(found) = found else {
        return Some(GONE);
    };
    // Another one of its name was made after it was deleted.
    let is_other = |uid: &String| !start.service_uid.is_empty() && *uid != start.service_uid;
    if found.metadata.uid.as_ref().is_some_and(is_other) {
        return Some(GONE);
    }
    let is_it = |port: &PortRef| {
        (u32::from(port.number), port.protocol.to_string()) == (start.port, start.protocol.clone())
    };
    let has_port = start.port == 0 || redirect::ports_of(&found).iter().any(is_it);
    (!has_port).then_some(PORT_GONE)
}

/// Why an intercept is over.
enum End {
    /// Its session left it, or is over.
    Left,
    /// It can't be kept.
    Lost(String),
    /// There is no such Service any more.
    Gone,
    /// The Service has no such port any more.
    PortGone,
}

/// How far the proof of a redirected Service is.
enum Proof {
    /// It is to be tried from that moment on.
    Wanted(Instant),
    /// The machine answered.
    Given,
}

/// An intercept with a claim that the API server shows and a port of the router.
struct Claimed<'a> {
    tools: &'a Tools,
    service: &'a ServiceName,
    claim: &'a Intercept,
    joined: &'a Joined,
}

impl Claimed<'_> {
    /// Waits until the Service's port leads to the router.
    async fn redirected(
        &self,
        reporter: &mut Reporter,
        news: &mut mpsc::Receiver<News>,
    ) -> Result<(), End> {
        let end = Instant::now() + REDIRECT;
        let mut trouble = String::new();
        loop {
            let one = tokio::select! {
                one = news.recv() => one,
                () = tokio::time::sleep_until(end) => {
                    let seconds = REDIRECT.as_secs();
                    let reason = format!("the Service isn't redirected after {seconds} s{trouble}");
                    return Err(End::Lost(reason));
                }
            };
            match one {
                Some(News::Redirected) => return Ok(()),
                Some(News::Lost(reason)) => return Err(End::Lost(reason)),
                Some(News::Gone) => return Err(End::Gone),
                Some(News::PortGone) => return Err(End::PortGone),
                Some(News::Leave) | None => return Err(End::Left),
                Some(News::Trouble(text)) => trouble = format!(": {text}"),
                Some(News::AskedAgain(session)) => reporter.repeat_to(session),
            }
        }
    }

    /// Proves the redirection, and holds it until it is over. A proof that failed is tried again: the
    /// session that doesn't want to wait for it leaves.
    async fn hold(&self, reporter: &mut Reporter, news: &mut mpsc::Receiver<News>) -> End {
        point(Point::Redirected);
        reporter.report(Phase::Redirected, "", Duration::ZERO);
        let (mut proof, mut pause) = (Proof::Wanted(Instant::now()), PROVE_AGAIN);
        loop {
            let prove = async {
                match proof {
                    Proof::Wanted(from) => tokio::time::sleep_until(from).await,
                    Proof::Given => std::future::pending().await,
                }
                self.prove().await
            };
            tokio::select! {
                proven = prove => match proven {
                    Ok(took) => {
                        point(Point::Proven);
                        reporter.report(Phase::Active, "", took);
                        (proof, pause) = (Proof::Given, PROVE_AGAIN);
                    }
                    Err(reason) => {
                        reporter.report(Phase::Failed, reason, Duration::ZERO);
                        proof = Proof::Wanted(Instant::now() + pause);
                        pause = (pause * 2).min(PROVE_SELDOM);
                    }
                },
                one = news.recv() => match one {
                    Some(News::Lost(reason)) => return End::Lost(reason),
                    Some(News::Gone) => return End::Gone,
                    Some(News::PortGone) => return End::PortGone,
                    Some(News::Leave) | None => return End::Left,
                    Some(News::AskedAgain(session)) => reporter.repeat_to(session),
                    Some(News::Trouble(text)) => {
                        if matches!(proof, Proof::Given) {
                            reporter.report(Phase::Contested, text, Duration::ZERO);
                        }
                    }
                    Some(News::Redirected) => {
                        // After trouble, that is.
                        if reporter.last.phase() == Phase::Contested {
                            proof = Proof::Wanted(Instant::now());
                        }
                    }
                },
            }
        }
    }
}
