//! One intercept's life: claimed, redirected, proven, restored.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kdev_cluster::redirect::{Intercept, Route, ServiceName};
use kdev_proto::v1::InterceptState;
use kdev_proto::v1::intercept_state::Phase;
use kube::Api;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::intercepts::Tools;
use crate::probe;
use crate::router::RouterPort;
use crate::sessions::Session;

/// How long the API server may take to show a claim that was just written.
const CLAIM: Duration = Duration::from_secs(10);
/// How long redirecting may take.
const REDIRECT: Duration = Duration::from_secs(20);
/// How long the cluster's nodes may take to learn of the redirection.
const PROBE: Duration = Duration::from_secs(10);
/// How long they may take to learn that it is over.
const ELSEWHERE: Duration = Duration::from_secs(6);
/// While a node switches, the router is one of several endpoints: one connection proves little.
const IN_A_ROW_HERE: u32 = 8;
/// The same on the way back.
const IN_A_ROW_ELSEWHERE: u32 = 16;
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between two attempts: what the nodes know can't be waited for from here.
const BETWEEN: Duration = Duration::from_millis(20);

/// What an intercept hears.
#[derive(Debug, Clone)]
pub enum News {
    /// The Service's port leads to the router.
    Redirected,
    /// It leads to the pods again.
    Restored,
    /// It can't be redirected any more.
    Lost(String),
    /// An attempt failed; another one follows.
    Trouble(String),
    /// The session wants to know how it stands.
    AskedAgain,
    /// It is over.
    Leave,
}

/// Reports to the session, and remembers the last report.
struct Reporter<'a> {
    session: &'a Session,
    last: InterceptState,
}

impl Reporter<'_> {
    fn report(&mut self, phase: Phase, reason: impl Into<String>, probe: Duration) {
        self.last.phase = phase.into();
        self.last.reason = reason.into();
        self.last.probe_us = u64::try_from(probe.as_micros()).unwrap_or(u64::MAX);
        self.repeat();
    }

    fn repeat(&self) {
        self.session.report(self.last.clone());
    }
}

/// Runs an intercept to its end.
pub async fn run(
    tools: &Tools,
    session: &Session,
    id: &str,
    service: &ServiceName,
    mut news: mpsc::Receiver<News>,
) {
    let last = InterceptState {
        id: id.to_owned(),
        ..InterceptState::default()
    };
    let mut reporter = Reporter { session, last };
    let Some(claim) = claim(tools, session, id, service).await else {
        return reporter.report(
            Phase::Failed,
            "the API server shows no such claim",
            Duration::ZERO,
        );
    };
    let streams = std::sync::Arc::clone(&session.streams);
    let opened = RouterPort::open(&tools.pod_ips, id.to_owned(), streams, &tools.tasks).await;
    let router = match opened {
        Ok(router) => router,
        Err(error) => {
            let reason = format!("the manager's router can't open a port: {error}");
            return reporter.report(Phase::Failed, reason, Duration::ZERO);
        }
    };
    let route = Route {
        addresses: tools.pod_ips.clone(),
        port: router.port(),
    };
    if tools.redirector.route(id, route).await.is_err() {
        return reporter.report(Phase::Failed, "the manager is ending", Duration::ZERO);
    }
    let wait = redirected(&mut reporter, &mut news);
    if let Err(reason) = tokio::time::timeout_at(Instant::now() + REDIRECT, wait)
        .await
        .unwrap_or_else(|_| Err(Some("the Service isn't redirected after 20 s".to_owned())))
    {
        if let Some(reason) = reason {
            reporter.report(Phase::Failed, reason, Duration::ZERO);
        }
        return restore(tools, &mut reporter, id, service, &claim, &router, news).await;
    }
    reporter.report(Phase::Redirected, "", Duration::ZERO);
    match prove(tools, service, &claim, &router).await {
        Ok(took) => reporter.report(Phase::Active, "", took),
        Err(reason) => reporter.report(Phase::Failed, reason, Duration::ZERO),
    }
    loop {
        match news.recv().await {
            Some(News::Lost(reason)) => {
                // As when its owner has taken the claim back: the nodes learn of that later.
                until_elsewhere(tools, service, &claim, &router).await;
                return reporter.report(Phase::Failed, reason, Duration::ZERO);
            }
            Some(News::AskedAgain) => reporter.repeat(),
            Some(News::Redirected | News::Restored | News::Trouble(_)) => {}
            // The router goes on until nothing leads to it any more.
            Some(News::Leave) | None => {
                return restore(tools, &mut reporter, id, service, &claim, &router, news).await;
            }
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
    tokio::time::timeout(CLAIM, find).await.ok().flatten()
}

/// Waits until the port leads to the router; the error is the reason to report, if there is one.
async fn redirected(
    reporter: &mut Reporter<'_>,
    news: &mut mpsc::Receiver<News>,
) -> Result<(), Option<String>> {
    loop {
        match news.recv().await {
            Some(News::Redirected) => return Ok(()),
            Some(News::Lost(reason)) => return Err(Some(reason)),
            Some(News::Leave) | None => return Err(None),
            Some(News::Trouble(text)) => reporter.last.reason = text,
            Some(News::AskedAgain) => reporter.repeat(),
            Some(News::Restored) => {}
        }
    }
}

async fn restore(
    tools: &Tools,
    reporter: &mut Reporter<'_>,
    id: &str,
    service: &ServiceName,
    claim: &Intercept,
    router: &RouterPort,
    mut news: mpsc::Receiver<News>,
) {
    if tools.redirector.forget(id).await.is_err() {
        return;
    }
    while let Some(one) = news.recv().await {
        match one {
            News::Restored | News::Lost(_) => {
                until_elsewhere(tools, service, claim, router).await;
                return reporter.report(Phase::Restored, "", Duration::ZERO);
            }
            _ => {}
        }
    }
}

/// Waits until the nodes have learned that the Service's connections go to its pods: until then the
/// router and the machine still serve what comes.
async fn until_elsewhere(
    tools: &Tools,
    service: &ServiceName,
    claim: &Intercept,
    router: &RouterPort,
) {
    let Ok(address) = address(tools, service, claim).await else {
        return;
    };
    let expected = router.probe();
    let _announced = expected.announce();
    let end = Instant::now() + ELSEWHERE;
    let mut elsewhere = 0;
    while elsewhere < IN_A_ROW_ELSEWHERE && Instant::now() < end {
        match probe::attempt(address, expected.token(), BETWEEN * 5).await {
            Ok(_) => elsewhere = 0,
            Err(_) => elsewhere += 1,
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

/// Dials the Service's own address until the machine answers.
async fn prove(
    tools: &Tools,
    service: &ServiceName,
    claim: &Intercept,
    router: &RouterPort,
) -> Result<Duration, String> {
    let address = address(tools, service, claim).await?;
    let expected = router.probe();
    let _announced = expected.announce();
    let end = Instant::now() + PROBE;
    let mut arrived = 0;
    loop {
        match probe::attempt(address, expected.token(), ATTEMPT).await {
            Ok(took) if arrived + 1 == IN_A_ROW_HERE => return Ok(took),
            Ok(_) => arrived += 1,
            Err(error) if Instant::now() > end => return Err(error.to_string()),
            Err(_) => {
                arrived = 0;
                tokio::time::sleep(BETWEEN).await;
            }
        }
    }
}

/// The Service's own address, with the port that was claimed.
async fn address(
    tools: &Tools,
    service: &ServiceName,
    claim: &Intercept,
) -> Result<SocketAddr, String> {
    let services: Api<Service> = Api::namespaced(tools.client.clone(), &service.namespace);
    let found = services
        .get(&service.name)
        .await
        .map_err(|error| error.to_string())?;
    let ip: Option<IpAddr> = found
        .spec
        .and_then(|spec| spec.cluster_ip)
        .and_then(|ip| ip.parse().ok());
    match ip {
        Some(ip) => Ok(SocketAddr::new(ip, claim.port.number)),
        None => Err("the Service has no address of its own to probe".to_owned()),
    }
}
