//! The machine that an intercept's connections and datagrams go to.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use kdev_flow::carry::Stream;
use kdev_flow::outgoing::Outgoing;
use kdev_flow::{Carrier, frame};
use kdev_proto::v1::flow_failed::Reason;
use kdev_proto::v1::flow_frame::Kind;
use kdev_proto::v1::{FlowOpen, FlowProtocol};

use crate::resumable::{FlowId, Registered, ResumableFlows};
use crate::sessions::Session;
use crate::waiting::{Waiting, WaitingStreams};

/// How long a connection waits for a stream to the machine, and for the machine's answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the machine may take to answer on one stream, a dial of its own included.
const ONE_STREAM: Duration = Duration::from_secs(4);

/// See the module.
#[derive(Clone)]
pub struct Machine {
    /// Its session.
    pub session: Arc<Session>,
    /// Streams to it that wait for connections.
    pub streams: Arc<WaitingStreams>,
    /// Where its flows are found again when a connection to it breaks.
    pub flows: ResumableFlows,
}

/// What a connection to the machine is for.
pub enum Purpose<'a> {
    /// This client's connection.
    Client(SocketAddr),
    /// This client's datagrams.
    Datagrams(SocketAddr),
    /// A probe with this token, which the machine answers itself.
    Probe(&'a [u8]),
}

/// What a connection says first.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// It; at most [`Words::MOST`].
    pub bytes: Bytes,
    /// They may be heard once at most, by anybody.
    pub once: bool,
}

impl Words {
    /// As many travel with a question.
    pub const MOST: usize = 16 << 10;
}

/// A connection that the machine has taken.
pub struct Taken {
    /// Its stream.
    pub stream: Stream,
    /// Where it is found again; `None` where too many are.
    pub registered: Option<Registered>,
}

/// Why the machine doesn't take a connection; completes "the connection can't go to the machine: ".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The machine says no.
    #[error("nothing listens on its local port")]
    Refused,
    /// The machine doesn't say anything.
    #[error("the machine is out of reach")]
    Silent,
    /// Nobody wants it to, any more.
    #[error("the intercept is over")]
    Left,
    /// What may be heard once was on its way when the connection to the machine broke, which hasn't come back.
    #[error("the machine has gone out of reach, which may have heard it")]
    Unknown,
}

impl NotTaken {
    /// Whether the machine has heard nothing, so that somebody else may hear it.
    pub fn is_unheard(self) -> bool {
        self != Self::Unknown
    }
}

impl Machine {
    /// Asks the machine to take a connection of an intercept, whose `first` words travel with the question as
    /// soon as there are any: an answer to them so costs no round trip more than one on a connection that
    /// exists. They are in the result's [`Stream::said`]. A question that isn't answered is asked again, and the machine
    /// takes it once. Dropping the future takes it back, and so does `left`, unless words that may be heard once have been said.
    ///
    /// # Errors
    ///
    /// Why it doesn't.
    pub async fn take(
        &self,
        intercept: &str,
        purpose: Purpose<'_>,
        first: impl Future<Output = Words>,
        left: impl Future<Output = ()>,
    ) -> Result<Taken, NotTaken> {
        let (protocol, client, probe) = match purpose {
            Purpose::Client(client) => (FlowProtocol::Tcp, client.to_string(), Bytes::new()),
            Purpose::Datagrams(client) => (FlowProtocol::Udp, client.to_string(), Bytes::new()),
            Purpose::Probe(token) => (
                FlowProtocol::Tcp,
                String::new(),
                Bytes::copy_from_slice(token),
            ),
        };
        let mut open = FlowOpen {
            protocol: protocol.into(),
            intercept: intercept.to_owned(),
            client,
            probe,
            ..FlowOpen::default()
        };
        // Datagrams begin anew.
        let mut registered = None;
        if protocol == FlowProtocol::Tcp {
            // Known before the machine hears of it, as the flow may lose its stream at once.
            let flow: FlowId = rand::random();
            registered = self.flows.register(&flow, &self.session);
            open.flow = Bytes::copy_from_slice(&flow);
        }
        let heard = AtomicBool::new(false);
        let question = Question {
            open,
            registered: registered.as_ref(),
            heard: &heard,
        };
        let left = async {
            left.await;
            if heard.load(Ordering::Relaxed) {
                pending().await
            }
        };
        let stream = tokio::select! {
            biased;
            () = left => Err(NotTaken::Left),
            asked = question.ask(&self.streams, first) => asked,
            () = self.patience(&heard) => Err(NotTaken::Silent),
        };
        match stream {
            Ok(stream) => Ok(Taken { stream, registered }),
            Err(NotTaken::Silent) if heard.into_inner() => Err(NotTaken::Unknown),
            Err(why) => Err(why),
        }
    }

    /// How long the machine may take. What it may have heard is a connection of its program's already, and may be without a
    /// carrier for as long as any; unless there is nobody any more who could come with it.
    async fn patience(&self, heard: &AtomicBool) {
        let waited = async {
            tokio::time::sleep(PATIENCE).await;
            if heard.load(Ordering::Relaxed) {
                let more = self.session.resume_limit().saturating_sub(PATIENCE);
                tokio::time::sleep(more).await;
            }
        };
        tokio::select! {
            () = waited => {}
            () = self.session.over.cancelled() => {}
        }
    }
}

/// What the machine is asked.
struct Question<'a> {
    open: FlowOpen,
    registered: Option<&'a Registered>,
    /// Whether words that may be heard once have been said.
    heard: &'a AtomicBool,
}

impl Question<'_> {
    /// Asks over waiting streams until the machine answers on one, or comes with the flow, as it had heard of it on one that
    /// broke.
    async fn ask(
        &self,
        streams: &WaitingStreams,
        first: impl Future<Output = Words>,
    ) -> Result<Stream, NotTaken> {
        tokio::pin!(first);
        let mut words = None;
        loop {
            let asked = async {
                let mut waiting = streams.take().await;
                let asked = self.ask_over(&mut waiting, first.as_mut(), &mut words);
                let answer = tokio::time::timeout(ONE_STREAM, asked).await;
                (waiting, answer.ok().flatten())
            };
            let comes = tokio::select! {
                carrier = self.comes() => carrier,
                (waiting, answer) = asked => match answer {
                    Some(Kind::Opened(_)) => {
                        return Ok(Stream {
                            outgoing: waiting.outgoing,
                            incoming: waiting.incoming,
                            carrier: waiting.carrier,
                            said: words.unwrap_or_default(),
                        });
                    }
                    Some(Kind::Failed(failed)) => match failed.reason() {
                        Reason::TakenBefore => {
                            match tokio::time::timeout(ONE_STREAM, self.comes()).await {
                                Ok(carrier) => carrier,
                                // It may only have tried to.
                                Err(_) => continue,
                            }
                        }
                        Reason::OverBefore => return Err(NotTaken::Silent),
                        _ => return Err(NotTaken::Refused),
                    },
                    // Its connection broke: the next one may be alive.
                    _ => continue,
                },
            };
            return Ok(Stream::broken(comes, words.unwrap_or_default()));
        }
    }

    /// Waits until the machine comes with the flow over another carrier.
    async fn comes(&self) -> Carrier {
        match self.registered {
            Some(registered) => registered.comes().await,
            None => pending().await,
        }
    }

    /// Asks over one stream, with the words as soon as they are known; the answer, `None` if it breaks before.
    async fn ask_over(
        &self,
        waiting: &mut Waiting,
        mut first: Pin<&mut impl Future<Output = Words>>,
        words: &mut Option<Bytes>,
    ) -> Option<Kind> {
        let sent = waiting.outgoing.send(frame::open(self.open.clone())).await;
        sent.ok()?;
        if let Some(words) = &*words {
            say(&waiting.outgoing, words).await?;
        }
        loop {
            tokio::select! {
                biased;
                spoken = &mut first, if words.is_none() => {
                    let once = spoken.once && !spoken.bytes.is_empty();
                    self.heard.fetch_or(once, Ordering::Relaxed);
                    say(&waiting.outgoing, words.insert(spoken.bytes)).await?;
                }
                answer = waiting.incoming.next() => return answer?.ok()?.kind,
            }
        }
    }
}

async fn say(outgoing: &Outgoing, words: &Bytes) -> Option<()> {
    if !words.is_empty() {
        outgoing.send(frame::data(words.clone())).await.ok()?;
    }
    Some(())
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
