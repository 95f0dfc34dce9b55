//! Connections and datagrams from the cluster: streams that wait ready at the manager, and local dials.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::TryStreamExt as _;
use kdev_common::channel::Channel;
use kdev_common::loopback;
use kdev_flow::carry::{Resume, Resumed, Stream};
use kdev_flow::datagram::{self, IDLE};
use kdev_flow::frame::{self, Failed};
use kdev_flow::open::{OpenError, open};
use kdev_flow::outgoing::{Outgoing, outgoing};
use kdev_flow::rpc::Incoming;
use kdev_flow::rpc::client::FlowsClient;
use kdev_flow::rpc::read::Broken;
use kdev_flow::socket::carry_socket;
use kdev_flow::{Carrier, farewell};
use kdev_proto::v1::flow_failed::Reason;
use kdev_proto::v1::flow_frame::Kind;
use kdev_proto::v1::{FlowFrame, FlowOpen, FlowProtocol, FlowResume};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::calls::{Answer, Calls};
use super::intercepts::Intercepts;
use super::manager_link::Link;

/// Streams that wait: as many connections may come at one moment without an extra round trip.
const WAITING: usize = 32;

/// Between two attempts at resuming a flow.
const BETWEEN: Duration = Duration::from_millis(100);

/// Keeps streams waiting as long as there are intercepts, until cancelled; from then on what comes over them is refused, as long
/// as the manager can be answered: so it goes to the pods. Dials run on `tasks`; a TCP
/// flow may be without a connection to the manager for `limit`.
pub async fn run(
    mut link: watch::Receiver<Link>,
    intercepts: Arc<Intercepts>,
    limit: Duration,
    tasks: TaskTracker,
    cancelled: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(WAITING));
    let calls = Arc::new(Mutex::new(Calls::new(limit)));
    let mut held = intercepts.any_held();
    // The connection on which a stream broke; the next one is waited for.
    let (broke, broken) = watch::channel(0);
    let next = async || -> Option<()> {
        loop {
            held.wait_for(|any| *any).await.ok()?;
            let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
            let (channel, generation) = link
                .wait_for(|link| link.channel.is_some() && link.generation > *broken.borrow())
                .await
                .ok()
                .and_then(|link| Some((link.channel.clone()?, link.generation)))?;
            let desk = Desk {
                intercepts: Arc::clone(&intercepts),
                calls: Arc::clone(&calls),
                limit,
                over: cancelled.clone(),
            };
            let broke = broke.clone();
            let connection = Connection {
                link: link.clone(),
                generation,
            };
            tasks.spawn(async move {
                let carrier = connection.carrier();
                let accepted = tokio::select! {
                    accepted = accept(channel, &carrier) => accepted,
                    // Nothing comes over a connection that was given up, and it may take the
                    // kernel a quarter of an hour to say so.
                    () = connection.clone().given_up() => None,
                };
                let Some(accepted) = accepted else {
                    broke.send_modify(|broken| *broken = generation.max(*broken));
                    return;
                };
                drop(slot);
                let (over, is_over) = (desk.over.clone(), desk.over.is_cancelled());
                tokio::select! {
                    () = over.cancelled(), if !is_over => {}
                    () = desk.answer(accepted, connection) => {}
                }
            });
        }
    };
    let mut next = next;
    tokio::select! {
        () = cancelled.cancelled() => {}
        _ = next() => {}
    }
}

/// One connection of the link's to the manager.
#[derive(Clone)]
struct Connection {
    link: watch::Receiver<Link>,
    generation: u64,
}

impl Connection {
    fn carrier(&self) -> Carrier {
        let link = self.link.borrow();
        if link.generation == self.generation {
            link.carrier.clone()
        } else {
            // It is gone already.
            Carrier::default()
        }
    }

    /// Waits until the link isn't on it any more.
    async fn given_up(mut self) {
        let generation = self.generation;
        let other = |link: &Link| link.channel.is_none() || link.generation != generation;
        // An error is the end of the link's task, and of all connections.
        let _ = self.link.wait_for(other).await;
    }

    /// Waits until the link isn't on any.
    async fn lost(mut self) {
        let _ = self.link.wait_for(|link| link.channel.is_none()).await;
    }
}

struct Accepted {
    open: FlowOpen,
    outgoing: Outgoing,
    incoming: Incoming,
}

/// Waits for a connection; `None` when the connection to the manager broke before one came.
async fn accept(channel: Channel, carrier: &Carrier) -> Option<Accepted> {
    let (outgoing, frames) = outgoing();
    let mut incoming = FlowsClient::new(channel).accept(frames).await.ok()?;
    match incoming.try_next().await {
        Ok(Some(FlowFrame {
            kind: Some(Kind::Open(open)),
        })) => {
            return Some(Accepted {
                open: *open,
                outgoing,
                incoming,
            });
        }
        Ok(Some(_)) => carrier.close_for(&"a connection's first frame doesn't open it"),
        Err(Broken::NoFrame(what)) => carrier.close_for(&what),
        Ok(None) | Err(Broken::Carrier(_)) => {}
    }
    None
}

/// Where connections are answered.
struct Desk {
    intercepts: Arc<Intercepts>,
    calls: Arc<Mutex<Calls>>,
    /// How long a TCP flow may be without a connection.
    limit: Duration,
    /// Cancelled when nothing is taken any more.
    over: CancellationToken,
}

impl Desk {
    /// Where an intercept's connections go, if it is held.
    fn local_address(&self, intercept: &str) -> Option<SocketAddr> {
        let local = self.intercepts.local_address(intercept);
        local.filter(|_| !self.over.is_cancelled())
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, accepted: Accepted, connection: Connection) {
        let Accepted {
            open,
            outgoing,
            incoming,
        } = accepted;
        if !open.probe.is_empty() {
            // The manager waits for nothing but this answer.
            let answer = match self.local_address(&open.intercept) {
                Some(_) => frame::opened(),
                None => not_held(),
            };
            return say(answer, incoming, outgoing).await;
        }
        if open.protocol() == FlowProtocol::Udp {
            return self.relay(&open, incoming, outgoing, connection).await;
        }
        let asked = self.calls().handle_asked(&open.flow, Instant::now());
        let refusal = match asked {
            Answer::Take => match self.dial(&open).await {
                Ok(program) => {
                    return self
                        .carry(program, open, (outgoing, incoming), connection)
                        .await;
                }
                Err(refusal) => {
                    self.calls().handle_refused(&open.flow);
                    refusal
                }
            },
            Answer::TakenBefore => frame::failed(&Failed::new(Reason::TakenBefore, "taken before")),
            Answer::RefusedBefore => frame::failed(&Failed::new(Reason::Refused, "refused before")),
            Answer::OverBefore => frame::failed(&Failed::new(Reason::OverBefore, "over before")),
        };
        say(refusal, incoming, outgoing).await;
    }

    /// Connects to the local program; or what the manager is told.
    async fn dial(&self, open: &FlowOpen) -> Result<TcpStream, FlowFrame> {
        let Some(local) = self.local_address(&open.intercept) else {
            return Err(not_held());
        };
        let program = loopback::connect(local).await;
        program.map_err(|error| refusal(local, &error))
    }

    /// Carries a connection that was taken.
    async fn carry(
        &self,
        program: TcpStream,
        open: FlowOpen,
        (outgoing, incoming): (Outgoing, Incoming),
        connection: Connection,
    ) {
        self.intercepts.count_connection(&open.intercept);
        // If nobody hears it, its connection has broken, and the flow is resumed: the program may have heard something.
        let _ = outgoing.send(frame::opened()).await;
        let means = OtherLinks {
            connection,
            flow: open.flow.clone(),
            attempts: 0,
            limit: self.limit,
        };
        let carrier = means.connection.carrier();
        let stream = means.watched(Stream::new(outgoing, incoming, carrier));
        carry_socket(program, stream, means).await;
        self.calls().handle_over(&open.flow);
    }

    /// Carries one client's datagrams until they stop, or the program doesn't take them any more.
    async fn relay(
        &self,
        open: &FlowOpen,
        incoming: Incoming,
        outgoing: Outgoing,
        connection: Connection,
    ) {
        let Some(local) = self.local_address(&open.intercept) else {
            return say(not_held(), incoming, outgoing).await;
        };
        match program_of_datagrams(local).await {
            Ok(program) => {
                self.intercepts.count_connection(&open.intercept);
                relay(program, incoming, outgoing, connection).await;
            }
            Err(error) => say(refusal(local, &error), incoming, outgoing).await,
        }
    }
}

fn not_held() -> FlowFrame {
    let gone = Failed::new(Reason::Refused, "this machine doesn't hold the intercept");
    frame::failed(&gone)
}

/// What the manager is told when the local program doesn't take it.
fn refusal(local: SocketAddr, error: &io::Error) -> FlowFrame {
    tracing::debug!(%local, %error, "the local program doesn't answer");
    frame::failed(&Failed::from(error))
}

/// A socket of its own for one client's datagrams to the local program. A port where nobody takes them refuses
/// before any is sent, so that none is lost to it.
async fn program_of_datagrams(local: SocketAddr) -> io::Result<UdpSocket> {
    let Some(reached) = loopback::receiver(local.port()).await else {
        return Err(io::ErrorKind::ConnectionRefused.into());
    };
    let socket = UdpSocket::bind((reached.ip(), 0)).await?;
    socket.connect(reached).await?;
    Ok(socket)
}

/// Carries them between the manager and the program.
async fn relay(
    program: UdpSocket,
    mut incoming: Incoming,
    outgoing: Outgoing,
    connection: Connection,
) {
    let carrier = connection.carrier();
    let relayed = async {
        if outgoing.send(frame::opened()).await.is_ok() {
            datagram::relay(program, &mut incoming, outgoing.clone(), &carrier, IDLE).await;
            // The manager is to hear why.
            farewell(incoming, outgoing).await;
        }
    };
    tokio::select! {
        () = relayed => {}
        // The next datagram opens another flow. Where a better connection has come they go on, so that none is lost.
        () = connection.clone().lost() => {}
    }
}

/// Says one last thing.
async fn say(last: FlowFrame, incoming: Incoming, outgoing: Outgoing) {
    if outgoing.send(last).await.is_ok() {
        farewell(incoming, outgoing).await;
    }
}

/// Resumes a flow over the link's next connection.
struct OtherLinks {
    /// The one that carries it now.
    connection: Connection,
    flow: Bytes,
    attempts: u64,
    /// How long the flow may be without one.
    limit: Duration,
}

impl OtherLinks {
    /// The stream as long as its connection isn't given up.
    fn watched(&self, stream: Stream) -> Stream {
        stream.until(self.connection.clone().given_up())
    }

    async fn next(&mut self, received: u64) -> Option<Resumed> {
        loop {
            let Connection { link, generation } = &mut self.connection;
            let channel = {
                let linked = link.wait_for(|link| link.channel.is_some()).await.ok()?;
                *generation = linked.generation;
                linked.channel.clone()?
            };
            self.attempts += 1;
            let attempt = self.attempts;
            let request = FlowOpen {
                protocol: FlowProtocol::Tcp.into(),
                flow: self.flow.clone(),
                resume: Some(FlowResume { received, attempt }),
                ..FlowOpen::default()
            };
            let mut client = FlowsClient::new(channel);
            let opened = tokio::select! {
                opened = open(request, |frames| client.flow(frames)) => opened,
                () = self.connection.clone().given_up() => continue,
            };
            match opened {
                Ok(opened) => {
                    return Some(Resumed {
                        received: opened.received,
                        stream: self.watched(Stream::over(opened, self.connection.carrier())),
                        answer: false,
                    });
                }
                Err(OpenError::Failed(_)) => return None,
                Err(OpenError::Violation) => {
                    self.connection.carrier().close_for(&OpenError::Violation);
                }
                // The link may not have noticed yet.
                Err(OpenError::Carrier(_)) => {
                    let _ = tokio::time::timeout(BETWEEN, self.connection.link.changed()).await;
                }
            }
        }
    }
}

impl Resume for OtherLinks {
    async fn resume(&mut self, received: u64) -> Option<Resumed> {
        let next = tokio::time::timeout(self.limit, self.next(received));
        next.await.ok().flatten()
    }
}
