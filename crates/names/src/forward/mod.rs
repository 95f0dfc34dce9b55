//! Asks name servers and gives their answer, byte for byte: the way of the machine's own names, and
//! the traffic manager's way to cluster DNS.

mod exchange;
mod health;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hickory_proto::op::ResponseCode;
use tokio::time::{Instant, sleep_until};

use crate::wire;
use exchange::{Expected, exchange};
use health::Health;

pub use exchange::ExchangeError;

/// By what the servers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// By UDP; an answer marked as truncated is given as it is, for the client to ask by TCP.
    Udp,
    /// By TCP.
    Tcp,
    /// By UDP, and by TCP when the answer is marked as truncated.
    UdpThenTcp,
}

/// How long name servers are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// After this time without an answer the next server is asked, too.
    pub per_server: Duration,
    /// After this time the query has failed.
    pub overall: Duration,
    /// A server that was silent is asked last for this time.
    pub silence: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            per_server: Duration::from_secs(2),
            // Resolvers give up after 5 s (resolv.conf(5), `timeout`): they should hear of the
            // failure before that.
            overall: Duration::from_millis(4500),
            silence: Duration::from_secs(30),
        }
    }
}

/// Name servers in the order of preference. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Upstream {
    servers: Arc<[SocketAddr]>,
    health: Arc<Health>,
    timing: Timing,
}

/// Why no name server answered.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// There is none.
    #[error("there is no name server to ask")]
    NoServers,
    /// What should be asked isn't a DNS query.
    #[error("the message isn't a DNS query with one question")]
    NotAQuery,
    /// All of them failed.
    #[error("no name server answered; {server} was the last to fail: {source}")]
    Failed {
        /// The one that failed last.
        server: SocketAddr,
        /// What happened.
        source: ExchangeError,
    },
    /// None of them said anything.
    #[error("no name server answered within {} ms", .0.as_millis())]
    Silent(Duration),
}

struct Attempt {
    server: usize,
    again: bool,
}

impl Upstream {
    /// Makes an upstream of these servers, most preferred first.
    #[must_use]
    pub fn new(servers: impl IntoIterator<Item = SocketAddr>, timing: Timing) -> Self {
        let servers: Arc<[SocketAddr]> = servers.into_iter().collect();
        Self {
            health: Arc::new(Health::new(servers.len())),
            servers,
            timing,
        }
    }

    /// The servers, most preferred first.
    #[must_use]
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// Asks `query`, a DNS message with one question, under a fresh id and from a fresh port each
    /// time, and gives the answer under the query's own id; no other byte of either is changed.
    ///
    /// A server that is silent, unreachable, or answers that it failed, refuses or doesn't implement
    /// the query gives way to the next one. When none does better, the first such answer is given.
    ///
    /// Cancelled by dropping.
    ///
    /// # Errors
    ///
    /// See [`ForwardError`].
    pub async fn ask(&self, query: &[u8], via: Via) -> Result<Vec<u8>, ForwardError> {
        if self.servers.is_empty() {
            return Err(ForwardError::NoServers);
        }
        let expected = Expected::of(query).ok_or(ForwardError::NotAQuery)?;
        let mut answer = self.ask_servers(query, &expected, via).await?;
        if let Some(id) = wire::id(query) {
            wire::set_id(&mut answer, id);
        }
        Ok(answer)
    }

    async fn ask_servers(
        &self,
        query: &[u8],
        expected: &Expected,
        via: Via,
    ) -> Result<Vec<u8>, ForwardError> {
        let per_server = self.timing.per_server;
        let deadline = Instant::now() + self.timing.overall;
        let mut waiting: VecDeque<Attempt> = self
            .health
            .order(Instant::now())
            .into_iter()
            .map(|server| Attempt {
                server,
                again: false,
            })
            .collect();
        // Earlier attempts stay: a late answer is an answer.
        let mut asked = FuturesUnordered::new();
        let mut newest: Option<(Attempt, Instant)> = None;
        let mut poor_answer = None;
        let mut failure = None;

        loop {
            if newest.is_none()
                && let Some(attempt) = waiting.pop_front()
            {
                let (server, address) = (attempt.server, self.servers[attempt.server]);
                asked.push(async move {
                    (
                        server,
                        exchange(address, query, expected, via, per_server).await,
                    )
                });
                newest = Some((attempt, Instant::now() + per_server));
            }
            if asked.is_empty() {
                break;
            }
            let next = newest.as_ref().map_or(deadline, |(_, next)| *next);
            tokio::select! {
                biased;
                Some((server, result)) = asked.next() => {
                    match result {
                        Ok(answer) => {
                            self.health.answered(server);
                            if !gives_way(&answer) {
                                return Ok(answer);
                            }
                            poor_answer.get_or_insert(answer);
                        }
                        Err(source) => {
                            self.health.silent(server, Instant::now() + self.timing.silence);
                            let server = self.servers[server];
                            failure = Some(ForwardError::Failed { server, source });
                        }
                    }
                    newest = newest.filter(|(attempt, _)| attempt.server != server);
                }
                () = sleep_until(deadline) => break,
                () = sleep_until(next), if newest.is_some() => {
                    if let Some((Attempt { server, again }, _)) = newest.take() {
                        self.health.silent(server, Instant::now() + self.timing.silence);
                        // Datagrams get lost; a TCP connection sees to that itself.
                        if !again && via != Via::Tcp {
                            waiting.push_back(Attempt { server, again: true });
                        }
                    }
                }
            }
        }
        match (poor_answer, failure) {
            (Some(answer), _) => Ok(answer),
            (None, Some(failure)) => Err(failure),
            (None, None) => Err(ForwardError::Silent(self.timing.overall)),
        }
    }
}

/// Whether another server may know better, as resolvers see it (RFC 2308 section 7.1 and the C
/// library's habit).
fn gives_way(answer: &[u8]) -> bool {
    matches!(
        ResponseCode::from_low(wire::response_code(answer)),
        ResponseCode::ServFail | ResponseCode::NotImp | ResponseCode::Refused
    )
}
