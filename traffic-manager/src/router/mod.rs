//! The router: a port for each port of a Service that somebody has claimed. Its connections go to the
//! machine that claimed all of them; or each request to the machine whose rule it matches, and the others to
//! the Service's pods; or all to the pods, once the last intercept is over: the cluster's nodes learn of that
//! one by one, and until the last has, connections still come here. Datagrams of a UDP port go the same ways,
//! all of them to one machine.

mod affinity;
mod claimants;
mod datagrams;
mod limits;
mod machine;
mod notices;
mod pods;
mod ports;
mod requests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kdev_cluster::redirect::{Intercept, PortRef, Protocol, ServiceName};
use kdev_flow::carry;
use kdev_flow::socket::carry_socket;
use kdev_flow::splice;
use kdev_router::{Limits, RouterError, pass, repeatable, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::probe::Expected;
use claimants::{Claimant, Claimants};
use machine::{NotTaken, Purpose, Words};
use notices::Notices;
use pods::{Pods, Unreachable};
use requests::{Requests, Unavailable};

pub use limits::PortLimits;
pub use machine::Machine;
pub use ports::RouterPorts;

/// Before the next connection is accepted when one couldn't be.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Attempts at finding a port that is free on every address of the pod.
const PORT_ATTEMPTS: usize = 16;

/// A port of the router, open as long as this lives.
pub struct RouterPort {
    port: u16,
    way: Arc<Way>,
    _open: DropGuard,
}

/// What the connections of a port need.
struct Way {
    service: ServiceName,
    claimants: Arc<Claimants>,
    pods: Pods,
    limits: Limits,
    notices: Arc<Notices>,
    slots: Arc<Semaphore>,
    closed: CancellationToken,
    ending: CancellationToken,
    tasks: TaskTracker,
}

/// A claim on a router's port, until it is dropped.
pub struct Joined {
    port: Arc<RouterPort>,
    claimant: Arc<Claimant>,
}

impl Joined {
    /// What is known of the claim's probes.
    pub fn probe(&self) -> &Expected {
        &self.claimant.probe
    }

    /// From now on what would go to the machine goes to the pods, and so does what waits for it.
    pub fn leave(&self) {
        self.port.way.claimants.remove(&self.claimant.claim.id);
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.leave();
    }
}

impl RouterPort {
    /// Opens a port on every address of the pod.
    ///
    /// # Errors
    ///
    /// When no port is free on all of them.
    async fn open(all: &RouterPorts, service: &ServiceName, port: &PortRef) -> io::Result<Self> {
        let tasks = &all.tasks;
        let closed = CancellationToken::new();
        let pods = Pods::follow(all.client.clone(), service.clone(), port.clone(), tasks);
        let way = Arc::new(Way {
            service: service.clone(),
            claimants: Arc::default(),
            pods,
            limits: all.limits.connection.clone(),
            notices: Arc::new(Notices::new(service.clone(), port.number)),
            slots: Arc::new(Semaphore::new(all.limits.connections)),
            closed: closed.clone(),
            ending: all.ending.clone(),
            tasks: tasks.clone(),
        });
        let number = match port.protocol {
            Protocol::Udp => {
                let (number, sockets) = bind_same(&all.addresses, UdpSocket::bind).await?;
                for socket in sockets {
                    tasks.spawn(datagrams::serve(
                        socket,
                        Arc::clone(&way),
                        Arc::clone(&all.datagrams),
                    ));
                }
                number
            }
            // Nothing but these two can be claimed.
            Protocol::Tcp | Protocol::Sctp => {
                let (number, listeners) = bind_same(&all.addresses, TcpListener::bind).await?;
                for listener in listeners {
                    tasks.spawn(accept(listener, Arc::clone(&way)));
                }
                number
            }
        };
        Ok(Self {
            port: number,
            way,
            _open: closed.drop_guard(),
        })
    }

    /// The port's number.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether connections get to the Service's pods from here, see [`Pods::reach`].
    ///
    /// # Errors
    ///
    /// The pods that were tried.
    pub async fn reach_pods(&self) -> Result<(), Vec<SocketAddr>> {
        self.way.pods.reach().await
    }

    /// Connections that a claim's rule wants go to its machine from now on, until the result is dropped.
    pub fn join(self: Arc<Self>, claim: Intercept, machine: Machine) -> Joined {
        let claimant = Arc::new(Claimant {
            claim,
            machine,
            probe: Expected::new(),
            left: CancellationToken::new(),
        });
        self.way.claimants.add(&claimant);
        Joined {
            port: self,
            claimant,
        }
    }
}

/// What is bound to a port.
trait Bound {
    fn port(&self) -> io::Result<u16>;
}

impl Bound for TcpListener {
    fn port(&self) -> io::Result<u16> {
        self.local_addr().map(|address| address.port())
    }
}

impl Bound for UdpSocket {
    fn port(&self) -> io::Result<u16> {
        self.local_addr().map(|address| address.port())
    }
}

/// Binds one free port on each of the addresses.
async fn bind_same<B: Bound>(
    addresses: &[IpAddr],
    bind: impl AsyncFn(SocketAddr) -> io::Result<B>,
) -> io::Result<(u16, Vec<B>)> {
    let mut last = io::Error::other("the pod has no address");
    'attempt: for _ in 0..PORT_ATTEMPTS {
        let mut number = 0;
        let mut all: Vec<B> = Vec::with_capacity(addresses.len());
        for address in addresses {
            match bind((*address, number).into()).await {
                Ok(bound) => {
                    number = bound.port()?;
                    all.push(bound);
                }
                Err(error) => {
                    last = error;
                    continue 'attempt;
                }
            }
        }
        if number != 0 {
            return Ok((number, all));
        }
    }
    Err(last)
}

async fn accept(listener: TcpListener, way: Arc<Way>) {
    let mut full = false;
    loop {
        let is_full = way.slots.available_permits() == 0;
        if is_full && !full {
            tracing::warn!(
                service = %way.service,
                "as many connections as a port may have (KDEV_ROUTER_CONNECTIONS); more wait"
            );
        }
        full = is_full;
        let slot = Arc::clone(&way.slots).acquire_owned();
        let accepted = tokio::select! {
            () = way.closed.cancelled() => return,
            accepted = async { (slot.await, listener.accept().await) } => accepted,
        };
        match accepted {
            (Ok(slot), Ok((connection, client))) => {
                let (connection_way, service) = (Arc::clone(&way), way.service.clone());
                way.tasks.spawn(async move {
                    // A connection that exists goes on after the intercept has ended, as one to a pod
                    // does after the pod has left the Service; it ends with the machine's session.
                    if let Err(reason) = carry(connection, client, &connection_way).await {
                        tracing::debug!(%service, %client, %reason, "connection reset");
                    }
                    drop(slot);
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

/// Why a connection was reset.
#[derive(Debug, thiserror::Error)]
enum Reset {
    #[error("the prober left")]
    Prober,
    #[error("{0}")]
    Machine(NotTaken),
    #[error("{0}")]
    Pods(Unreachable),
    #[error("one side reset it")]
    Side,
    #[error("{0}")]
    Requests(RouterError),
}

async fn carry(connection: TcpStream, client: SocketAddr, way: &Way) -> Result<(), Reset> {
    // Whoever passes bytes on has nothing to wait for.
    let _ = connection.set_nodelay(true);
    match way.claimants.probed(&connection).await {
        Ok(Some(claimant)) => return prove(connection, &claimant).await,
        Ok(None) => {}
        Err(_) => return Err(reset(&connection, Reset::Side)),
    }
    let current = way.claimants.current();
    if current.is_empty() {
        return to_pods(connection, client, way).await;
    }
    match current.of_everything() {
        Some(claimant) if !current.has_taps() => {
            to_machine(connection, client, claimant, way).await
        }
        _ => requests(connection, client, current.reads_nothing(), way).await,
    }
}

/// Answers the prober once the machine has: its answer is the proof.
async fn prove(mut connection: TcpStream, claimant: &Claimant) -> Result<(), Reset> {
    let probe = Purpose::Probe(claimant.probe.token());
    if let Err(why) = claimant.ask(probe).await {
        return Err(reset(&connection, Reset::Machine(why)));
    }
    let sent = connection.write_all(claimant.probe.answer()).await;
    sent.map_err(|_| Reset::Prober)
}

/// Hands a connection to the machine that has all of them.
async fn to_machine(
    mut connection: TcpStream,
    client: SocketAddr,
    claimant: &Claimant,
    way: &Way,
) -> Result<(), Reset> {
    let broken = AtomicBool::new(false);
    let first = first_words(&connection, &way.limits, &broken);
    match claimant.take(client, first).await {
        Ok(taken) => {
            // They were only looked at before.
            let mut said = vec![0; taken.stream.said.len()];
            let read = connection.read_exact(&mut said).await;
            if read.is_err() || broken.load(Ordering::Relaxed) {
                // The machine may be on its way with another carrier.
                drop(taken.registered);
                carry::give_up(taken.stream).await;
                return Err(reset(&connection, Reset::Side));
            }
            carry_socket(connection, taken.stream, taken.registered).await;
            Ok(())
        }
        // The intercept ended before the machine has answered.
        Err(why) if claimant.left.is_cancelled() && why.is_unheard() => {
            to_pods(connection, client, way).await
        }
        Err(why) if claimant.passes(why) => to_pods(connection, client, way).await,
        Err(why) => {
            tracing::debug!(service = %way.service, owner = claimant.claim.owner, %why, "a connection can't go to the machine");
            let ways = Arc::new(Unavailable::new(claimant, why));
            let said = serve(&mut connection, ways, &hasty(&way.limits)).await;
            // Who speaks HTTP has been told.
            said.map_err(|_| reset(&connection, Reset::Machine(why)))
        }
    }
}

/// What a client says first, when it does; no byte of it is taken. Whether its connection is `broken` has to be
/// remembered: the kernel says so once, and from then on that it has ended.
async fn first_words(connection: &TcpStream, limits: &Limits, broken: &AtomicBool) -> Words {
    let mut words = vec![0; Words::MOST];
    let count = connection.peek(&mut words).await.unwrap_or_else(|_| {
        broken.store(true, Ordering::Relaxed);
        0
    });
    words.truncate(count);
    Words {
        once: repeatable(&words, limits.headers) < count,
        // Of their own size: there may be thousands.
        bytes: Bytes::copy_from_slice(&words),
    }
}

/// The limits where nobody is there to hear more: who doesn't say at once what they speak learns soon that
/// they aren't heard.
fn hasty(limits: &Limits) -> Limits {
    Limits {
        first_byte: Duration::from_millis(200),
        head_time: Duration::from_secs(1),
        ..limits.clone()
    }
}

/// Hands each request of a connection to whom it is for; or all that is said, where nobody asks what it is.
async fn requests(
    mut connection: TcpStream,
    client: SocketAddr,
    whole: bool,
    way: &Way,
) -> Result<(), Reset> {
    let ways = Arc::new(Requests {
        claimants: Arc::clone(&way.claimants),
        pods: way.pods.clone(),
        client,
        limits: way.limits.clone(),
        notices: Arc::clone(&way.notices),
        tasks: way.tasks.clone(),
        ending: way.ending.clone(),
    });
    let served = match whole {
        true => pass(&mut connection, ways).await,
        false => serve(&mut connection, ways, &way.limits).await,
    };
    served.map_err(|error| reset(&connection, Reset::Requests(error)))
}

async fn to_pods(connection: TcpStream, client: SocketAddr, way: &Way) -> Result<(), Reset> {
    match way.pods.dial(client.ip()).await {
        Ok(pod) => splice::splice(connection, pod)
            .await
            .map_err(|_| Reset::Side),
        Err(why) => Err(reset(&connection, Reset::Pods(why))),
    }
}

/// Whoever isn't answered sees a reset: an orderly end would look like an empty answer.
fn reset(connection: &TcpStream, reason: Reset) -> Reset {
    let _ = connection.set_zero_linger();
    reason
}
