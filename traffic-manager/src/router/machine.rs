//! The machine that an intercept's connections and datagrams go to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use kdev_flow::carry::Stream;
use kdev_flow::outgoing::Outgoing;
use kdev_flow::{CHUNK, frame};
use kdev_proto::v1::flow_frame::Kind;
use kdev_proto::v1::{FlowOpen, FlowProtocol};

use crate::resumable::{FlowId, Registered, ResumableFlows};
use crate::sessions::Session;
use crate::waiting::WaitingStreams;

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

/// A connection that the machine has taken.
pub struct Taken {
    /// Its stream.
    pub stream: Stream,
    /// Where it is found again; `None` where too many are.
    pub registered: Option<Registered>,
}

/// No words: what a connection says comes when it has been taken.
pub fn nothing() -> impl Future<Output = Bytes> {
    std::future::ready(Bytes::new())
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
}

impl Machine {
    /// Asks the machine to take a connection of an intercept, whose `first` words travel with the question as
    /// soon as there are any: an answer to them so costs no round trip more than one on a connection that
    /// exists. They have to be such as may be said twice, as a question that isn't answered may be asked again.
    /// They are in the result's [`Stream::said`]. Dropping the future takes the question back.
    ///
    /// # Errors
    ///
    /// Why it doesn't.
    pub async fn take(
        &self,
        intercept: &str,
        purpose: Purpose<'_>,
        first: impl Future<Output = Bytes>,
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
        let open = FlowOpen {
            protocol: protocol.into(),
            intercept: intercept.to_owned(),
            client,
            probe,
            ..FlowOpen::default()
        };
        let asked = tokio::time::timeout(PATIENCE, self.ask(open, first)).await;
        asked.unwrap_or(Err(NotTaken::Silent))
    }

    /// Asks over waiting streams until a living one answers.
    async fn ask(
        &self,
        open: FlowOpen,
        first: impl Future<Output = Bytes>,
    ) -> Result<Taken, NotTaken> {
        tokio::pin!(first);
        let mut words = None;
        loop {
            let mut waiting = self.streams.take().await;
            // Each attempt is a flow of its own, known before the machine hears of it, as it may lose the
            // stream at once.
            let (mut open, mut registered) = (open.clone(), None);
            // Datagrams begin anew.
            if open.protocol() == FlowProtocol::Tcp {
                let flow: FlowId = rand::random();
                registered = self.flows.register(&flow, &self.session);
                open.flow = Bytes::copy_from_slice(&flow);
            }
            let asked = async {
                waiting.outgoing.send(frame::open(open)).await.ok()?;
                let mut said = Bytes::new();
                if let Some(words) = &words {
                    said = say(&waiting.outgoing, words).await?;
                }
                loop {
                    tokio::select! {
                        biased;
                        spoken = &mut first, if words.is_none() => {
                            said = say(&waiting.outgoing, words.insert(spoken)).await?;
                        }
                        answer = waiting.incoming.next() => return Some((answer?.ok()?.kind?, said)),
                    }
                }
            };
            match tokio::time::timeout(ONE_STREAM, asked).await {
                Ok(Some((Kind::Opened(_), said))) => {
                    let stream = Stream {
                        outgoing: waiting.outgoing,
                        incoming: waiting.incoming,
                        carrier: waiting.carrier,
                        said,
                    };
                    return Ok(Taken { stream, registered });
                }
                Ok(Some((Kind::Failed(_), _))) => return Err(NotTaken::Refused),
                // Its connection broke while it waited: the next one may be alive.
                _ => {}
            }
        }
    }
}

/// Says the first words of a connection, as many as one frame takes; returns them.
async fn say(outgoing: &Outgoing, words: &Bytes) -> Option<Bytes> {
    let said = words.slice(..words.len().min(CHUNK));
    if !said.is_empty() {
        outgoing.send(frame::data(said.clone())).await.ok()?;
    }
    Some(said)
}
