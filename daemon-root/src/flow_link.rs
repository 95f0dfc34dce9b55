//! The link between a shard, which owns the stack, and the task of one flow.
//!
//! Both directions are queues, bounded in items and in bytes. Neither side ever waits for the other while it holds anything:
//! the shard only tries, and whoever made room or added something pokes the shard to look again.
//!
//! Items are boxed: a queue keeps room for 32 of them from its first one on, and thousands of flows are
//! idle.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kdev_netstack::FlowId;
use kdev_proto::v1::flow_failed::Reason;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use crate::held::{Gauge, Held};

/// Items that wait in one direction of a flow.
pub const QUEUE: usize = 8;

/// From the program to the cluster.
#[derive(Debug, PartialEq, Eq)]
pub enum Up {
    /// The next bytes.
    Data(Bytes),
    /// The program has closed its sending side.
    End,
    /// The program's connection is gone.
    Reset,
}

/// From the cluster to the program.
#[derive(Debug)]
pub enum Down {
    /// The far end accepted.
    Opened,
    /// It didn't.
    Failed(Reason),
    /// The next bytes.
    Data(Bytes),
    /// The far end has closed its sending side.
    End,
    /// The far end's connection broke.
    Reset,
}

/// An item that waits, and that its bytes do.
#[derive(Debug)]
pub struct Waiting<T> {
    item: T,
    _held: Option<Held>,
}

impl Waiting<Up> {
    fn new(item: Up, gauge: &Arc<Gauge>) -> Self {
        let held = match &item {
            Up::Data(bytes) => Some(gauge.hold(bytes.len())),
            Up::End | Up::Reset => None,
        };
        Self { item, _held: held }
    }

    /// Whether nothing comes after it.
    pub fn is_last(&self) -> bool {
        !matches!(self.item, Up::Data(_))
    }
}

/// The flows at which a shard has to look.
#[derive(Debug, Default)]
pub struct Pokes {
    flows: Mutex<Vec<FlowId>>,
    wake: Notify,
}

impl Pokes {
    fn add(&self, flow: FlowId) {
        self.flows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(flow);
        self.wake.notify_one();
    }

    /// Moves the poked flows into `into`.
    pub fn take(&self, into: &mut Vec<FlowId>) {
        into.append(&mut self.flows.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until there may be one. Cancel safe.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }
}

/// A flow's way to poke its shard; at most once in the list at a time, which bounds the list.
#[derive(Debug, Clone)]
pub struct Poke {
    flow: FlowId,
    queued: Arc<AtomicBool>,
    pokes: Arc<Pokes>,
}

impl Poke {
    /// Makes the way of one flow.
    pub fn new(flow: FlowId, pokes: Arc<Pokes>) -> Self {
        Self {
            flow,
            queued: Arc::default(),
            pokes,
        }
    }

    /// Asks the shard to look at the flow.
    pub fn poke(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.pokes.add(self.flow);
        }
    }

    /// The shard looks now: what happens from here on is a new reason.
    pub fn looked(&self) {
        // No mere store: what the shard looks at next mustn't be older than a poke that still found this set.
        self.queued.swap(false, Ordering::AcqRel);
    }
}

/// The task's side of the link.
#[derive(Debug)]
pub struct TaskEnd {
    up: mpsc::Receiver<Box<Waiting<Up>>>,
    down: mpsc::Sender<Box<Waiting<Down>>>,
    gauges: Gauges,
    poke: Poke,
}

/// What waits in both directions.
#[derive(Debug, Clone, Default)]
struct Gauges {
    up: Arc<Gauge>,
    down: Arc<Gauge>,
}

/// Receives what the program sends.
#[derive(Debug)]
pub struct FromProgram {
    up: mpsc::Receiver<Box<Waiting<Up>>>,
    /// What was looked at and not taken yet, at most one item more than the queue holds.
    ahead: VecDeque<Waiting<Up>>,
    /// Closed when the shard has let go of the flow.
    down: mpsc::Sender<Box<Waiting<Down>>>,
    gauge: Arc<Gauge>,
    poke: Poke,
}

/// Sends to the program.
#[derive(Debug)]
pub struct ToProgram {
    down: mpsc::Sender<Box<Waiting<Down>>>,
    gauge: Arc<Gauge>,
    poke: Poke,
}

impl TaskEnd {
    /// Takes the two directions apart.
    pub fn split(self) -> (FromProgram, ToProgram) {
        let Self {
            up,
            down,
            gauges,
            poke,
        } = self;
        (
            FromProgram {
                up,
                ahead: VecDeque::new(),
                down: down.clone(),
                gauge: gauges.up,
                poke: poke.clone(),
            },
            ToProgram {
                down,
                gauge: gauges.down,
                poke,
            },
        )
    }
}

impl FromProgram {
    /// Waits for the next item; a shard that is gone has reset all. Cancel safe.
    pub async fn next(&mut self) -> Up {
        let waiting = match self.ahead.pop_front() {
            Some(waiting) => Some(waiting),
            None => self.up.recv().await.map(|waiting| *waiting),
        };
        let item = waiting.map_or(Up::Reset, |waiting| waiting.item);
        // The shard may have stopped reading for want of room.
        self.poke.poke();
        item
    }

    /// The next item begins with these bytes, which can't be used yet.
    pub fn put_back(&mut self, bytes: Bytes) {
        self.gauge.take_back(bytes.len());
        let waiting = Waiting::new(Up::Data(bytes), &self.gauge);
        self.ahead.push_front(waiting);
    }

    /// Waits until the shard has let go of the flow though the program hasn't ended it. One that has, and
    /// whose last words nobody has taken yet, isn't gone. Cancel safe.
    pub async fn gone(&mut self) {
        self.down.closed().await;
        // The shard adds nothing any more, so that this is all, and no more than the queue holds.
        while let Ok(item) = self.up.try_recv() {
            self.ahead.push_back(*item);
        }
        if self.ahead.back().is_some_and(|last| last.item == Up::End) {
            std::future::pending().await
        }
    }
}

impl ToProgram {
    /// Waits for room, and sends as many bytes as there is room for; returns how many, `None` when the flow is gone.
    /// Cancel safe.
    pub async fn write(&self, mut bytes: Bytes) -> Option<usize> {
        let place = self.down.reserve().await.ok()?;
        let count = self.gauge.some_room(bytes.len()).await;
        // Nothing is waited for from here on: what is counted is sent.
        let item = Down::Data(bytes.split_to(count));
        let held = Some(self.gauge.hold(count));
        place.send(Box::new(Waiting { item, _held: held }));
        self.poke.poke();
        Some(count)
    }

    /// Sends what isn't data; false when the flow is gone. Cancel safe.
    pub async fn send(&self, item: Down) -> bool {
        let waiting = Waiting { item, _held: None };
        let sent = self.down.send(Box::new(waiting)).await.is_ok();
        self.poke.poke();
        sent
    }
}

/// The shard's side of the link.
#[derive(Debug)]
pub struct ShardEnd {
    up: mpsc::Sender<Box<Waiting<Up>>>,
    down: mpsc::Receiver<Box<Waiting<Down>>>,
    gauge: Arc<Gauge>,
    /// The flow's poke, to be reset before each look.
    pub poke: Poke,
}

impl ShardEnd {
    /// How many of so many bytes may wait for the task. Where none, the task pokes when it takes some.
    pub fn room(&self, bytes: usize) -> usize {
        self.gauge.room(bytes)
    }

    /// Makes an item ready for the task.
    pub fn waiting(&self, item: Up) -> Box<Waiting<Up>> {
        Box::new(Waiting::new(item, &self.gauge))
    }

    /// Hands an item to the task.
    ///
    /// # Errors
    ///
    /// When there is no room, or the task has ended.
    pub fn offer(&self, waiting: Box<Waiting<Up>>) -> Result<(), TrySendError<Box<Waiting<Up>>>> {
        self.up.try_send(waiting)
    }

    /// Takes what the task has for the program.
    ///
    /// # Errors
    ///
    /// When there is nothing, or the task has ended.
    pub fn take(&mut self) -> Result<Down, mpsc::error::TryRecvError> {
        self.down.try_recv().map(|waiting| waiting.item)
    }
}

/// Makes both sides of a flow's link.
pub fn link(flow: FlowId, pokes: &Arc<Pokes>) -> (ShardEnd, TaskEnd) {
    let (up, up_receiver) = mpsc::channel(QUEUE);
    let (down_sender, down) = mpsc::channel(QUEUE);
    let (gauges, poke) = (Gauges::default(), Poke::new(flow, Arc::clone(pokes)));
    let shard = ShardEnd {
        up,
        down,
        gauge: Arc::clone(&gauges.up),
        poke: poke.clone(),
    };
    let task = TaskEnd {
        up: up_receiver,
        down: down_sender,
        gauges,
        poke,
    };
    (shard, task)
}
