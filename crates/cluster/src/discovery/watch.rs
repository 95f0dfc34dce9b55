//! The task that keeps the facts up to date.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures::future::{self, BoxFuture, FutureExt};
use futures::stream::{self, SelectAll, StreamExt};
use kube::Client;
use kube::runtime::watcher;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::facts::{Known, State};
use super::sources::{self, News, SERVICE_CIDR_VERSIONS, Source, Told};
use super::{ClusterDns, ClusterFacts};
use crate::client::{ApiError, ApiFailure, classify_watch};

/// How long changes are gathered before they are told of: a namespace comes with its pods.
const GATHER: Duration = Duration::from_millis(200);

/// Facts that are kept up to date.
#[derive(Debug)]
pub struct Discovery {
    /// The facts, and notice of their changes.
    pub facts: watch::Receiver<ClusterFacts>,
    /// Ends after the token is cancelled or the last receiver is gone.
    pub task: JoinHandle<()>,
}

/// The token was cancelled before the facts were known.
#[derive(Debug, Error)]
#[error("discovery was cancelled")]
pub struct Cancelled;

/// Finds out the facts and keeps them up to date, until `cancel` is cancelled.
///
/// `own_service` is the manager's, as `namespace/name`: it and the nodes tell where the manager is
/// reached directly. Returns when all is known for the first time; an API server that is away is waited for.
/// Needs to list and watch nodes, namespaces and ServiceCIDRs; Services and pods too where the
/// others don't tell. What is forbidden is left out.
pub async fn start(
    client: Client,
    dns: ClusterDns,
    own_service: String,
    cancel: CancellationToken,
) -> Result<Discovery, Cancelled> {
    let mut watcher = Watcher::new(client, dns, &own_service);
    let first = tokio::select! {
        facts = watcher.first() => facts,
        () = cancel.cancelled() => return Err(Cancelled),
    };
    let (sender, facts) = watch::channel(first);
    let task = tokio::spawn(async move {
        tokio::select! {
            () = watcher.run(&sender) => {}
            () = cancel.cancelled() => {}
            () = sender.closed() => {}
        }
    });
    Ok(Discovery { facts, task })
}

struct Watcher {
    client: Client,
    state: State,
    always: SelectAll<Source>,
    service_cidrs: Option<Source>,
    /// Which of the API's versions is watched.
    version: usize,
    services: Option<Source>,
    pods: Option<Source>,
    sample: Option<BoxFuture<'static, Result<BTreeSet<IpAddr>, ApiError>>>,
}

impl Watcher {
    fn new(client: Client, dns: ClusterDns, own_service: &str) -> Self {
        let always = stream::select_all([
            sources::namespaces(&client),
            sources::nodes(&client),
            sources::own(&client, own_service),
        ]);
        Self {
            state: State::new(dns),
            always,
            service_cidrs: Some(sources::service_cidrs(&client, SERVICE_CIDR_VERSIONS[0])),
            version: 0,
            services: None,
            pods: None,
            sample: None,
            client,
        }
    }

    async fn first(&mut self) -> ClusterFacts {
        loop {
            if let Some(facts) = self.state.facts() {
                return facts;
            }
            self.step().await;
        }
    }

    async fn run(&mut self, sender: &watch::Sender<ClusterFacts>) {
        loop {
            self.step().await;
            let gathered = Instant::now() + GATHER;
            loop {
                tokio::select! {
                    () = self.step() => {}
                    () = sleep_until(gathered) => break,
                }
            }
            if let Some(facts) = self.state.facts() {
                sender.send_if_modified(|current| {
                    let is_new = *current != facts;
                    *current = facts;
                    is_new
                });
            }
        }
    }

    /// Takes in one piece of news. Nothing is lost if it is dropped while it waits.
    async fn step(&mut self) {
        tokio::select! {
            Some(news) = self.always.next() => self.handle_news(news),
            news = next(&mut self.service_cidrs) => self.handle_news(news),
            news = next(&mut self.services) => self.handle_news(news),
            news = next(&mut self.pods) => self.handle_news(news),
            sample = answer(&mut self.sample) => {
                self.sample = None;
                let complain = |error: &ApiError| tracing::debug!(%error, "no pods to compare with");
                self.state.sample = Some(sample.inspect_err(complain).unwrap_or_default());
            }
        }
        self.follow_needs();
    }

    fn handle_news(&mut self, news: News) {
        match news {
            News::Namespaces(told) => take(&mut self.state.namespaces, told, "namespaces"),
            News::Nodes(told) => take(&mut self.state.nodes, told, "nodes"),
            News::Services(told) => take(&mut self.state.services, told, "services"),
            News::Pods(told) => take(&mut self.state.pods, told, "pods"),
            News::Own(told) => take(&mut self.state.own, told, "the manager's Service"),
            News::ServiceCidrs(Err(error)) if is_missing(&error) => {
                self.version += 1;
                self.service_cidrs = SERVICE_CIDR_VERSIONS
                    .get(self.version)
                    .map(|version| sources::service_cidrs(&self.client, version));
                if self.service_cidrs.is_none() {
                    self.state.service_cidrs.handle_unavailable();
                }
            }
            News::ServiceCidrs(told) => take(&mut self.state.service_cidrs, told, "servicecidrs"),
        }
    }

    /// Starts and ends the watches that are only needed at times.
    fn follow_needs(&mut self) {
        match (self.state.needs_services(), self.services.is_some()) {
            (true, false) => self.services = Some(sources::services(&self.client)),
            (false, true) => {
                self.services = None;
                self.state.services = Known::default();
            }
            _ => {}
        }
        match (self.state.needs_pods(), self.pods.is_some()) {
            (true, false) => self.pods = Some(sources::pods(&self.client)),
            (false, true) => {
                self.pods = None;
                self.state.pods = Known::default();
            }
            _ => {}
        }
        if self.state.needs_sample() && self.sample.is_none() {
            self.sample = Some(sources::sample(self.client.clone()).boxed());
        }
    }
}

fn take<T>(known: &mut Known<T>, told: Told<T>, what: &str) {
    match told {
        Ok(event) => known.handle_event(event),
        Err(error) => {
            let failure = classify_watch(&error);
            tracing::debug!(what, %failure, "can't watch; trying until it works");
            if matches!(failure, ApiFailure::Forbidden(_)) {
                known.handle_unavailable();
            }
        }
    }
}

/// Returns whether the cluster doesn't know the kind.
fn is_missing(error: &watcher::Error) -> bool {
    matches!(classify_watch(error), ApiFailure::NotFound { .. })
}

async fn next(source: &mut Option<Source>) -> News {
    if let Some(stream) = source
        && let Some(news) = stream.next().await
    {
        return news;
    }
    future::pending().await
}

async fn answer<T>(question: &mut Option<BoxFuture<'static, T>>) -> T {
    match question {
        Some(question) => question.await,
        None => future::pending().await,
    }
}
