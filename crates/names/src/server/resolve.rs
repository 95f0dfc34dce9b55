//! One query: from the bytes that came to the bytes that go back.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use tokio::time::{self, timeout};

use super::handle::{Counters, Settings, Shared};
use crate::cache::Key;
use crate::forward::{ForwardError, Via};
use crate::lookup::{BadAnswer, ClusterLookup, LookupError, Whose};
use crate::policy::{Route, classify};
use crate::request::{Edns, Received, Request};
use crate::verdict::{Said, Verdict, decide};
use crate::{reply, rewrite, wire};

/// Negative answers about names that kdev fills in are good for this many seconds at most: the
/// outside may say "never", but the Service may be there in a minute.
const FILLED_IN_NEGATIVE_TTL: u32 = 5;

/// By what the client asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    Udp,
    Tcp,
}

/// How likely a name is the cluster's where the outside doesn't know it, and so how long it is waited for there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Likely {
    /// It is, by all appearances.
    Cluster,
    /// It may be anybody's.
    Anybody,
    /// Most such names are the outside's, or nobody's.
    Hardly,
}

/// Answers queries.
#[derive(Debug)]
pub(super) struct Resolver<L> {
    lookup: L,
    shared: Arc<Shared>,
}

/// A query with all that its answer depends on.
struct Task<'a> {
    packet: &'a [u8],
    request: &'a Request,
    client: Client,
    settings: &'a Settings,
}

impl Client {
    fn limit(self, request: &Request) -> usize {
        match self {
            Self::Udp => request.datagram_limit(),
            Self::Tcp => wire::MAX_MESSAGE,
        }
    }

    fn via(self) -> Via {
        match self {
            Self::Udp => Via::Udp,
            Self::Tcp => Via::Tcp,
        }
    }
}

impl<L: ClusterLookup> Resolver<L> {
    pub(super) fn new(lookup: L, shared: Arc<Shared>) -> Self {
        Self { lookup, shared }
    }

    /// The answer to a packet, or `None` when it may not have one. Cancelled by dropping.
    pub(super) async fn answer(&self, packet: &[u8], client: Client) -> Option<Vec<u8>> {
        Counters::add(&self.shared.counters.queries);
        let request = match Received::read(packet) {
            Received::Request(request) => request,
            Received::Answered(answer) => return Some(answer),
            Received::Ignored => return None,
        };
        let settings = self.shared.settings();
        let route = route(&settings, &request);
        tracing::trace!(question = %request.question, ?route, "query");
        let task = Task {
            packet,
            request: &request,
            client,
            settings: &settings,
        };
        Some(match route {
            Route::Outside => self.outside(&task).await,
            Route::OutsideFirst(ask) => self.outside_first(&task, &ask, likely(&request)).await,
            Route::OutsideThenCluster(ask) => self.outside_first(&task, &ask, Likely::Hardly).await,
            Route::Cluster(ask) => self.cluster(&task, &ask).await,
            Route::Localhost => task.write(reply::localhost(&request)),
            Route::Nonexistent => task.write(reply::empty(&request, ResponseCode::NXDomain)),
        })
    }

    /// The answer to a query whose turn won't come.
    pub(super) fn failure(&self, packet: &[u8], client: Client) -> Option<Vec<u8>> {
        match Received::read(packet) {
            Received::Request(request) => Some(self.server_failure(&request, client)),
            Received::Answered(answer) => Some(answer),
            Received::Ignored => None,
        }
    }

    fn server_failure(&self, request: &Request, client: Client) -> Vec<u8> {
        Counters::add(&self.shared.counters.failures);
        let answer = reply::empty(request, ResponseCode::ServFail);
        reply::write(answer, client.limit(request))
    }

    async fn outside(&self, task: &Task<'_>) -> Vec<u8> {
        match self.ask_outside(task).await {
            Ok(answer) => self.give_outside(task, answer),
            Err(error) => {
                tracing::debug!(%error, question = %task.request.question, "no answer from outside");
                self.server_failure(task.request, task.client)
            }
        }
    }

    async fn cluster(&self, task: &Task<'_>, ask: &Name) -> Vec<u8> {
        let refuse = |code| task.write(reply::empty(task.request, code));
        match task.request.edns {
            Edns::Unreadable => return refuse(ResponseCode::FormErr),
            Edns::Present { version, .. } if version > 0 => return refuse(ResponseCode::BADVERS),
            Edns::Present { .. } | Edns::Absent => {}
        }
        match self.ask_cluster(task.request, ask, Likely::Cluster).await {
            Ok(answer) => self.give_cluster(task, answer, ask),
            Err(_) => self.server_failure(task.request, task.client),
        }
    }

    /// Asks both at once, or the cluster only after the outside where the name is hardly its own.
    async fn outside_first(&self, task: &Task<'_>, ask: &Name, likely: Likely) -> Vec<u8> {
        let mut outside = pin!(self.ask_outside_of(task));
        let mut cluster = pin!(self.ask_cluster(task.request, ask, likely));
        let (mut from_outside, mut from_cluster) = (None, None);
        let start = time::Instant::now();
        let patience = self.shared.limits.patience;
        if likely == Likely::Hardly {
            // So that the cluster, which is asked below, neither hears of what exists outside nor answers for it.
            let answer = outside.as_mut().await;
            if !is_nonexistent(&answer) {
                from_cluster = Some(Err(LookupError::Away));
            }
            from_outside = Some(answer);
        }
        loop {
            let said = (outside_said(&from_outside), cluster_said(&from_cluster));
            let verdict = decide(said.0, said.1, start.elapsed(), patience);
            let until = match verdict {
                Verdict::Wait => None,
                Verdict::WaitUntil(elapsed) => Some(start + elapsed),
                Verdict::Outside | Verdict::Cluster | Verdict::Failure => break,
            };
            tokio::select! {
                answer = &mut outside, if from_outside.is_none() => from_outside = Some(answer),
                answer = &mut cluster, if from_cluster.is_none() => from_cluster = Some(answer),
                () = time::sleep_until(until.unwrap_or(start)), if until.is_some() => {}
            }
        }
        match (from_outside, from_cluster) {
            (Some(Ok((answer, true))), _) => self.give_outside(task, answer),
            (_, Some(Ok(answer))) if code_exists(&answer) => self.give_cluster(task, answer, ask),
            (Some(Ok((mut answer, false))), _) => {
                wire::cap_ttls(&mut answer, FILLED_IN_NEGATIVE_TTL);
                self.give_outside(task, answer)
            }
            _ => self.server_failure(task.request, task.client),
        }
    }

    async fn ask_outside(&self, task: &Task<'_>) -> Result<Vec<u8>, ForwardError> {
        let via = task.client.via();
        task.settings.upstream.ask(task.packet, via).await
    }

    /// The outside's answer, and whether by it the name exists there. A name of one label may be a
    /// top-level domain (`shop`, `app`): that exists without an address, and nobody has ever reached
    /// anything by it.
    async fn ask_outside_of(&self, task: &Task<'_>) -> Result<(Vec<u8>, bool), ForwardError> {
        let answer = self.ask_outside(task).await?;
        let no_error = |answer: &[u8]| wire::response_code(answer) == ResponseCode::NoError.low();
        let exists = no_error(&answer);
        let question = &task.request.question;
        let other = match question.query_type {
            RecordType::A => RecordType::AAAA,
            RecordType::AAAA => RecordType::A,
            _ => return Ok((answer, exists)),
        };
        if !exists || wire::answers(&answer) > 0 || question.name.num_labels() > 1 {
            return Ok((answer, exists));
        }
        let Some(packet) = wire::with_type(task.packet, other) else {
            return Ok((answer, exists));
        };
        let upstream = &task.settings.upstream;
        let has_other = match upstream.ask(&packet, task.client.via()).await {
            Ok(answer) => no_error(&answer) && wire::answers(&answer) > 0,
            // Not known: what resolved before goes first.
            Err(_) => true,
        };
        Ok((answer, has_other))
    }

    /// The cluster's answer by the name `ask`, remembered or fresh. A failure is noted for `status`.
    async fn ask_cluster(
        &self,
        request: &Request,
        ask: &Name,
        likely: Likely,
    ) -> Result<Message, LookupError> {
        let query = rewrite::cluster_query(request, ask, rand::random());
        let key = Key {
            question: query.queries[0].clone(),
            dnssec_ok: request.dnssec_ok(),
            checking_disabled: request.metadata.checking_disabled,
        };
        let epoch = {
            let mut cache = self.shared.cache();
            if let Some(answer) = cache.get(&key, Instant::now()) {
                return Ok(answer);
            }
            cache.epoch()
        };
        let counters = &self.shared.counters;
        let respite = self.shared.limits.respite;
        if likely == Likely::Hardly && !counters.may_bother_cluster(Instant::now(), respite) {
            return Err(LookupError::Away);
        }
        match self.look_up(&query, likely).await {
            Ok((answer, size)) => {
                let now = Instant::now();
                self.shared.cache().insert(key, &answer, size, epoch, now);
                if answer.metadata.response_code == ResponseCode::ServFail {
                    let error = "the cluster's DNS answered that it failed (SERVFAIL)".to_owned();
                    counters.cluster_gave_failure(error);
                } else {
                    counters.cluster_answered();
                }
                Ok(answer)
            }
            Err(error) => {
                tracing::debug!(%error, question = %request.question, "no answer from the cluster");
                // That one which hardly is its own takes it too long is no trouble of the cluster's.
                let trouble = (likely != Likely::Hardly).then(|| error.to_string());
                counters.cluster_silent(trouble, Instant::now());
                Err(error)
            }
        }
    }

    async fn look_up(
        &self,
        query: &Message,
        likely: Likely,
    ) -> Result<(Message, usize), LookupError> {
        let bytes = query
            .to_vec()
            .map_err(|error| LookupError::BadAnswer(BadAnswer::Question(error)))?;
        let limits = &self.shared.limits;
        let (whose, within) = match likely {
            Likely::Cluster => (Whose::Cluster, limits.cluster),
            Likely::Anybody => (Whose::Anybody, limits.shared),
            Likely::Hardly => (Whose::Anybody, limits.unlikely),
        };
        let lookup = self.lookup.lookup(Bytes::from(bytes), whose);
        let bytes = timeout(within, lookup)
            .await
            .map_err(|_| LookupError::TimedOut)??;
        let answer = rewrite::read_answer(&bytes, query).map_err(LookupError::BadAnswer)?;
        Ok((answer, bytes.len()))
    }

    fn give_outside(&self, task: &Task<'_>, answer: Vec<u8>) -> Vec<u8> {
        Counters::add(&self.shared.counters.outside);
        if answer.len() > task.client.limit(task.request)
            && let Some(cut) = wire::truncated(&answer)
        {
            return cut;
        }
        answer
    }

    fn give_cluster(&self, task: &Task<'_>, answer: Message, ask: &Name) -> Vec<u8> {
        Counters::add(&self.shared.counters.cluster);
        task.write(rewrite::client_answer(answer, task.request, ask))
    }
}

impl Task<'_> {
    fn write(&self, answer: Message) -> Vec<u8> {
        reply::write(answer, self.client.limit(self.request))
    }
}

fn route(settings: &Settings, request: &Request) -> Route {
    let name = &request.question.name;
    let Some(policy) = &settings.policy else {
        return if name.is_localhost() {
            Route::Localhost
        } else {
            Route::Outside
        };
    };
    match classify(policy, name) {
        // Only a plain question can be asked in other words.
        Route::OutsideFirst(_) | Route::OutsideThenCluster(_)
            if request.question.query_class != DNSClass::IN || request.edns == Edns::Unreadable =>
        {
            Route::Outside
        }
        route => route,
    }
}

/// How likely a name that both are asked for at once is the cluster's: one that ends in a namespace is hardly a mistake, while a
/// single label may be anything that somebody looks for.
fn likely(request: &Request) -> Likely {
    if request.question.name.num_labels() > 1 {
        Likely::Cluster
    } else {
        Likely::Anybody
    }
}

/// Whether the outside says that there is no such name, and not only that it can't tell.
fn is_nonexistent(answer: &Result<(Vec<u8>, bool), ForwardError>) -> bool {
    let nonexistent = ResponseCode::NXDomain.low();
    matches!(answer, Ok((answer, _)) if wire::response_code(answer) == nonexistent)
}

fn outside_said(answer: &Option<Result<(Vec<u8>, bool), ForwardError>>) -> Said {
    match answer {
        None => Said::Pending,
        Some(Err(_)) => Said::Failed,
        Some(Ok((_, true))) => Said::Exists,
        Some(Ok((_, false))) => Said::Negative,
    }
}

fn cluster_said(answer: &Option<Result<Message, LookupError>>) -> Said {
    match answer {
        None => Said::Pending,
        Some(Err(_)) => Said::Failed,
        Some(Ok(answer)) if code_exists(answer) => Said::Exists,
        Some(Ok(_)) => Said::Negative,
    }
}

fn code_exists(answer: &Message) -> bool {
    answer.metadata.response_code == ResponseCode::NoError
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
