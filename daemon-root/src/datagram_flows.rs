//! UDP and ping: a flow per program's port (or identifier) and target, opened by its first datagram.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt as _;
use kdev_flow::datagram_queue::{Inlet, Outlet, queue};
use kdev_flow::frame;
use kdev_flow::ledger::Violation;
use kdev_flow::open::Opened;
use kdev_flow::rpc::read::Broken;
use kdev_proto::v1::flow_failed::Reason;
use kdev_proto::v1::flow_frame::Kind as Step;
use kdev_proto::v1::{FlowFrame, FlowOpen, FlowProtocol};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::carriers::{Carriers, Place};
use crate::opening::{self, open_flow};

/// Most flows at once on a device; what comes beyond is dropped, as by a full NAT.
const LIMIT: usize = 8192;
/// Bytes of an echo request before its payload (RFC 792, RFC 4443 section 4.1).
const ECHO_HEADER: usize = 8;
/// Most bytes that wait on all flows of a device together.
const BUDGET: u64 = 64 << 20;

/// What a datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A UDP datagram's payload.
    Udp,
    /// An ICMP message; the client's port is its identifier, the target's is 0.
    Echo,
}

impl From<Kind> for FlowProtocol {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Udp => Self::Udp,
            Kind::Echo => Self::Echo,
        }
    }
}

type Key = (Kind, SocketAddr, SocketAddr);
type Table = Arc<Mutex<HashMap<Key, Inlet>>>;

/// What the flows of all shards of a device share.
#[derive(Debug, Clone)]
pub struct Budget {
    flows: Arc<Semaphore>,
    held: Arc<kdev_flow::budget::Budget>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            flows: Arc::new(Semaphore::new(LIMIT)),
            held: Arc::new(kdev_flow::budget::Budget::new(BUDGET)),
        }
    }
}

/// What goes back to a program.
#[derive(Debug)]
pub enum Reply {
    /// A datagram of the target's.
    Datagram {
        /// What it is.
        kind: Kind,
        /// Where it comes from.
        target: SocketAddr,
        /// The program.
        client: SocketAddr,
        /// Its payload.
        payload: Bytes,
    },
    /// The target can't be reached.
    Failed {
        /// What was sent to it.
        kind: Kind,
        /// The target.
        target: SocketAddr,
        /// The program.
        client: SocketAddr,
        /// Why.
        reason: Reason,
        /// The header of the last echo request; nothing of a datagram.
        last: Bytes,
    },
}

/// All such flows of a shard.
#[derive(Debug)]
pub struct DatagramFlows {
    table: Table,
    carriers: Arc<Carriers>,
    replies: mpsc::Sender<Reply>,
    budget: Budget,
    tasks: TaskTracker,
    cancelled: CancellationToken,
}

impl DatagramFlows {
    /// Makes an empty set, whose flows run on `tasks` until `cancelled` and answer on `replies`.
    pub fn new(
        carriers: Arc<Carriers>,
        budget: Budget,
        replies: mpsc::Sender<Reply>,
        tasks: TaskTracker,
        cancelled: CancellationToken,
    ) -> Self {
        Self {
            table: Table::default(),
            carriers,
            replies,
            budget,
            tasks,
            cancelled,
        }
    }

    /// Sends a datagram on its flow. Never waits: what doesn't fit is lost, as on any network.
    pub fn send(&self, kind: Kind, client: SocketAddr, target: SocketAddr, payload: Bytes) {
        let key = (kind, client, target);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flow) = table.get(&key)
            && !flow.is_closed()
        {
            return flow.push(payload);
        }
        let Ok(permit) = Arc::clone(&self.budget.flows).try_acquire_owned() else {
            tracing::debug!("too many flows: a datagram is dropped");
            return;
        };
        let (inlet, outlet) = queue(&self.budget.held);
        inlet.push(payload);
        table.insert(key, inlet);
        drop(table);
        let flow = Flow {
            kind,
            client,
            target,
            table: Arc::clone(&self.table),
            carriers: Arc::clone(&self.carriers),
            replies: self.replies.clone(),
            _permit: permit,
        };
        let cancelled = self.cancelled.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = flow.run(outlet) => {}
            }
        });
    }

    /// Flows now.
    pub fn count(&self) -> usize {
        self.table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

struct Flow {
    kind: Kind,
    client: SocketAddr,
    target: SocketAddr,
    table: Table,
    carriers: Arc<Carriers>,
    replies: mpsc::Sender<Reply>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Flow {
    fn drop(&mut self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self.kind, self.client, self.target);
        // A datagram that came while this one ended may have opened a successor.
        if table.get(&key).is_some_and(Inlet::is_closed) {
            table.remove(&key);
        }
    }
}

impl Flow {
    async fn run(self, mut datagrams: Outlet) {
        let request = || FlowOpen {
            protocol: FlowProtocol::from(self.kind).into(),
            target: self.target.to_string(),
            ..FlowOpen::default()
        };
        let mut last = Bytes::new();
        let failed = loop {
            match open_flow(request, &self.carriers, opening::PATIENCE).await {
                Ok(opened) => {
                    let failed = self.carry(&mut datagrams, &mut last, opened).await;
                    // What came while it ended goes over the next one.
                    if failed.is_some() || datagrams.close_if_empty() {
                        break failed;
                    }
                }
                Err(reason) => {
                    let first = datagrams.try_next().unwrap_or_default();
                    last = self.header(&first);
                    break Some(reason);
                }
            }
        };
        drop(datagrams);
        if let Some(reason) = failed {
            let (kind, client, target) = (self.kind, self.client, self.target);
            let _ = self
                .replies
                .send(Reply::Failed {
                    kind,
                    target,
                    client,
                    reason,
                    last,
                })
                .await;
        }
    }

    /// As much of an echo request as tells it; nothing of a datagram.
    fn header(&self, message: &[u8]) -> Bytes {
        match self.kind {
            Kind::Echo => Bytes::copy_from_slice(&message[..message.len().min(ECHO_HEADER)]),
            Kind::Udp => Bytes::new(),
        }
    }

    /// Carries until the flow is idle, fails, or its carrier breaks: the next datagram opens another. Where a better carrier
    /// comes it stays, as whatever is under way, or comes later to the port that it has at the far end, would be lost. Keeps the
    /// header of the `last` echo request.
    async fn carry(
        &self,
        datagrams: &mut Outlet,
        last: &mut Bytes,
        (place, opened): (Place, Opened),
    ) -> Option<Reason> {
        let Opened {
            outgoing,
            mut incoming,
            ..
        } = opened;
        // Only what has a place on the carrier is taken: what waits may still become the oldest.
        let up = async {
            while let Ok(place) = outgoing.reserve().await {
                let datagram = datagrams.next().await;
                *last = self.header(&datagram);
                place.send(frame::data(datagram));
            }
        };
        let down = async {
            loop {
                let message = incoming.try_next().await;
                if let Err(Broken::NoFrame(what)) = &message {
                    place.carrier().close_for(what);
                }
                match message.ok()?? {
                    FlowFrame {
                        kind: Some(Step::Data(payload)),
                    } => {
                        let (kind, client, target) = (self.kind, self.client, self.target);
                        let reply = Reply::Datagram {
                            kind,
                            target,
                            client,
                            payload,
                        };
                        self.replies.send(reply).await.ok()?;
                    }
                    FlowFrame {
                        kind: Some(Step::Failed(failed)),
                    } => return Some(failed.reason()),
                    FlowFrame {
                        kind: Some(Step::End(_)),
                    } => return None,
                    _ => {
                        place.carrier().close_for(&Violation::Misplaced);
                        return None;
                    }
                }
            }
        };
        tokio::select! {
            () = up => None,
            failed = down => failed,
        }
    }
}
