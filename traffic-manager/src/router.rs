//! The router: a port per intercept, whose connections go to the machine that asked for them, and to
//! the Service's pods once the intercept is over: the cluster's nodes learn of that one by one, and
//! until the last has, connections still come here.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use kdev_flow::carry::Stream;
use kdev_flow::socket::carry_socket;
use kdev_flow::{frame, splice};
use kdev_proto::v1::flow_frame::Kind;
use kdev_proto::v1::{FlowOpen, FlowProtocol};
use rand::seq::SliceRandom as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::probe::Expected;
use crate::resumable::{FlowId, Registered, ResumableFlows};
use crate::sessions::Session;
use crate::waiting::WaitingStreams;

/// Most connections that one intercept has at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 4096;

/// How long a connection waits for a stream to the machine, and for the machine's answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the machine may take to answer on one stream, a dial of its own included.
const ONE_STREAM: Duration = Duration::from_secs(4);
/// How long one pod may take to accept while there is another.
const NEXT_POD: Duration = Duration::from_secs(1);
/// How long the last one may take.
const LAST_POD: Duration = Duration::from_secs(3);
/// Pods that are tried.
const PODS: usize = 3;

/// Before the next connection is accepted when one couldn't be.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Attempts at finding a port that is free on every address of the pod.
const PORT_ATTEMPTS: usize = 16;

/// A port of the router, open as long as this lives.
#[derive(Debug)]
pub struct RouterPort {
    port: u16,
    probe: Arc<Expected>,
    destination: watch::Sender<Destination>,
    _open: DropGuard,
}

/// Where the connections of a port go.
#[derive(Debug, Clone)]
enum Destination {
    Machine,
    Pods(Arc<[SocketAddr]>),
}

struct Way {
    intercept: String,
    machine: Machine,
    probe: Arc<Expected>,
    destination: watch::Receiver<Destination>,
    slots: Arc<Semaphore>,
    closed: CancellationToken,
}

/// The machine that connections go to.
#[derive(Clone)]
pub struct Machine {
    /// Its session.
    pub session: Arc<Session>,
    /// Streams to it that wait for connections.
    pub streams: Arc<WaitingStreams>,
    /// Where its flows are found again when a connection to it breaks.
    pub flows: ResumableFlows,
}

impl RouterPort {
    /// Opens a port on every address of the pod; its connections go to `machine`.
    ///
    /// # Errors
    ///
    /// When no port is free on all of them.
    pub async fn open(
        addresses: &[IpAddr],
        intercept: String,
        machine: Machine,
        tasks: &TaskTracker,
    ) -> io::Result<Self> {
        let listeners = bind_same(addresses).await?;
        let port = match listeners.first() {
            Some(listener) => listener.local_addr()?.port(),
            None => return Err(io::Error::other("the pod has no address")),
        };
        let closed = CancellationToken::new();
        let probe = Arc::new(Expected::new());
        let (destination, destination_rx) = watch::channel(Destination::Machine);
        let way = Arc::new(Way {
            intercept,
            machine,
            probe: Arc::clone(&probe),
            destination: destination_rx,
            slots: Arc::new(Semaphore::new(CONNECTIONS)),
            closed: closed.clone(),
        });
        for listener in listeners {
            tasks.spawn(accept(listener, Arc::clone(&way), tasks.clone()));
        }
        Ok(Self {
            port,
            probe,
            destination,
            _open: closed.drop_guard(),
        })
    }

    /// The port's number.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on new connections go to one of `pods`, and so do those that wait for the machine.
    pub fn lead_to_pods(&self, pods: Vec<SocketAddr>) {
        self.destination
            .send_replace(Destination::Pods(pods.into()));
    }

    /// What the port knows of probes.
    pub fn probe(&self) -> &Arc<Expected> {
        &self.probe
    }
}

async fn bind_same(addresses: &[IpAddr]) -> io::Result<Vec<TcpListener>> {
    let mut last = io::Error::other("the pod has no address");
    'attempt: for _ in 0..PORT_ATTEMPTS {
        let mut listeners: Vec<TcpListener> = Vec::with_capacity(addresses.len());
        for address in addresses {
            let port = match listeners.first() {
                Some(first) => first.local_addr()?.port(),
                None => 0,
            };
            match TcpListener::bind((*address, port)).await {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    last = error;
                    continue 'attempt;
                }
            }
        }
        return Ok(listeners);
    }
    Err(last)
}

async fn accept(listener: TcpListener, way: Arc<Way>, tasks: TaskTracker) {
    loop {
        let slot = Arc::clone(&way.slots).acquire_owned();
        let accepted = tokio::select! {
            () = way.closed.cancelled() => return,
            accepted = async { (slot.await, listener.accept().await) } => accepted,
        };
        match accepted {
            (Ok(slot), Ok((connection, client))) => {
                let way = Arc::clone(&way);
                tasks.spawn(async move {
                    // A connection that exists goes on after the intercept has ended, as one to a pod
                    // does after the pod has left the Service; it ends with the machine's session.
                    if let Err(reason) = carry(connection, client, &way, slot).await {
                        tracing::debug!(intercept = way.intercept, reason, "connection reset");
                    }
                });
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "the router didn't accept a connection");
                // Too many descriptors, most likely: some have to be given back.
                tokio::time::sleep(AFTER_ERROR).await;
            }
            (Err(_), _) => return,
        }
    }
}

async fn carry(
    connection: TcpStream,
    client: SocketAddr,
    way: &Way,
    _slot: OwnedSemaphorePermit,
) -> Result<(), &'static str> {
    let mut destination = way.destination.clone();
    let pods = tokio::select! {
        biased;
        pods = pods(&mut destination) => pods,
        answer = to_machine(&connection, client, way) => match answer {
            Ok((stream, Purpose::Client(registered))) => {
                carry_socket(connection, stream, registered).await;
                return Ok(());
            }
            Ok((_, Purpose::Probe)) => return prove(connection, way).await,
            Err(reason) => match &*destination.borrow() {
                // It was asked just before the intercept ended.
                Destination::Pods(pods) => Arc::clone(pods),
                Destination::Machine => return Err(reset(&connection, reason)),
            },
        },
    };
    match dial(&pods).await {
        Some(pod) => splice::splice(connection, pod)
            .await
            .map_err(|_| "one side reset it"),
        None => Err(reset(&connection, "no pod accepts")),
    }
}

/// Waits until the port leads to pods. Cancel safe.
async fn pods(destination: &mut watch::Receiver<Destination>) -> Arc<[SocketAddr]> {
    loop {
        if let Destination::Pods(pods) = &*destination.borrow_and_update() {
            return Arc::clone(pods);
        }
        if destination.changed().await.is_err() {
            // The port is closed; what it has accepted stays with the machine.
            std::future::pending::<()>().await;
        }
    }
}

/// Dials the pods in a random order until one accepts.
async fn dial(pods: &[SocketAddr]) -> Option<TcpStream> {
    let mut pods = pods.to_vec();
    pods.shuffle(&mut rand::rng());
    pods.truncate(PODS);
    let last = pods.len().saturating_sub(1);
    for (number, pod) in pods.into_iter().enumerate() {
        let patience = if number == last { LAST_POD } else { NEXT_POD };
        if let Ok(Ok(connection)) = tokio::time::timeout(patience, TcpStream::connect(pod)).await {
            return Some(connection);
        }
    }
    None
}

enum Purpose {
    Client(Option<Registered>),
    Probe,
}

/// Asks the machine to take a connection, of which no byte is taken yet; the error says why it
/// doesn't.
async fn to_machine(
    connection: &TcpStream,
    client: SocketAddr,
    way: &Way,
) -> Result<(Stream, Purpose), &'static str> {
    let probe = way.probe.is_probe(connection).await;
    let open = FlowOpen {
        protocol: FlowProtocol::Tcp.into(),
        intercept: way.intercept.clone(),
        client: client.to_string(),
        probe: if probe {
            Bytes::copy_from_slice(way.probe.token())
        } else {
            Bytes::new()
        },
        ..FlowOpen::default()
    };
    match tokio::time::timeout(PATIENCE, ask_machine(way, open)).await {
        Ok(Some((stream, _))) if probe => Ok((stream, Purpose::Probe)),
        Ok(Some((stream, registered))) => Ok((stream, Purpose::Client(registered))),
        Ok(None) => Err("the machine refused: nothing listens on the local port"),
        Err(_) => Err("the machine didn't answer in time"),
    }
}

/// Answers the prober: the machine's own answer is the proof.
async fn prove(mut connection: TcpStream, way: &Way) -> Result<(), &'static str> {
    let sent = connection.write_all(way.probe.answer()).await;
    sent.map_err(|_| "the prober left")
}

/// Whoever isn't answered sees a reset: an orderly end would look like an empty answer.
fn reset(connection: &TcpStream, reason: &'static str) -> &'static str {
    let _ = connection.set_zero_linger();
    reason
}

/// Asks over waiting streams until a living one answers; `None` when the machine says no.
async fn ask_machine(way: &Way, open: FlowOpen) -> Option<(Stream, Option<Registered>)> {
    let machine = &way.machine;
    loop {
        let mut waiting = machine.streams.take().await;
        // Each attempt is a flow of its own, known before the machine hears of it, as it may lose the
        // stream at once.
        let flow: FlowId = rand::random();
        let registered = machine.flows.register(&flow, &machine.session);
        let open = FlowOpen {
            flow: Bytes::copy_from_slice(&flow),
            ..open.clone()
        };
        let asked = async {
            waiting.outgoing.send(frame::open(open)).await.ok()?;
            waiting.incoming.next().await?.ok()?.kind
        };
        match tokio::time::timeout(ONE_STREAM, asked).await {
            Ok(Some(Kind::Opened(_))) => {
                let stream = Stream {
                    outgoing: waiting.outgoing,
                    incoming: waiting.incoming,
                    carrier: waiting.carrier,
                };
                return Some((stream, registered));
            }
            Ok(Some(Kind::Failed(_))) => return None,
            // Its connection broke while it waited: the next one may be alive.
            _ => {}
        }
    }
}
