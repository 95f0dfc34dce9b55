//! Connections and datagrams from the cluster: streams that wait ready at the manager, and local dials.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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
use kdev_proto::v1::flow_frame::Kind;
use kdev_proto::v1::{FlowFrame, FlowOpen, FlowProtocol, FlowResume};
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::intercepts::Intercepts;
use super::manager_link::Link;

/// Streams that wait: as many connections may come at one moment without an extra round trip.
const WAITING: usize = 32;

/// Between two attempts at resuming a flow.
const BETWEEN: Duration = Duration::from_millis(100);

/// Keeps streams waiting as long as there are intercepts, until cancelled. Dials run on `tasks`; a TCP
/// flow may be without a connection to the manager for `limit`.
pub async fn run(
    mut link: watch::Receiver<Link>,
    intercepts: Arc<Intercepts>,
    limit: Duration,
    tasks: TaskTracker,
    cancelled: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(WAITING));
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
            let intercepts = Arc::clone(&intercepts);
            let (broke, cancelled) = (broke.clone(), cancelled.clone());
            let connection = Connection {
                link: link.clone(),
                generation,
            };
            tasks.spawn(async move {
                let serve = async {
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
                    answer(accepted, &intercepts, connection, limit).await;
                };
                tokio::select! {
                    () = cancelled.cancelled() => {}
                    () = serve => {}
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

async fn answer(
    accepted: Accepted,
    intercepts: &Intercepts,
    connection: Connection,
    limit: Duration,
) {
    let Accepted {
        open,
        outgoing,
        incoming,
    } = accepted;
    let Some(local) = intercepts.local_address(&open.intercept) else {
        let gone = Failed::new(
            kdev_proto::v1::flow_failed::Reason::Refused,
            "this machine doesn't hold the intercept",
        );
        return say(frame::failed(&gone), incoming, outgoing).await;
    };
    if !open.probe.is_empty() {
        // The manager waits for nothing but this answer.
        return say(frame::opened(), incoming, outgoing).await;
    }
    if open.protocol() == FlowProtocol::Udp {
        return match program_of_datagrams(local).await {
            Ok(program) => {
                intercepts.count_connection(&open.intercept);
                relay(program, incoming, outgoing, connection).await;
            }
            Err(error) => refuse(local, &error, incoming, outgoing).await,
        };
    }
    match loopback::connect(local).await {
        Ok(program) => {
            intercepts.count_connection(&open.intercept);
            if outgoing.send(frame::opened()).await.is_ok() {
                let means = OtherLinks {
                    connection,
                    flow: open.flow,
                    attempts: 0,
                    limit,
                };
                let carrier = means.connection.carrier();
                let stream = means.watched(Stream::new(outgoing, incoming, carrier));
                carry_socket(program, stream, means).await;
            }
        }
        Err(error) => refuse(local, &error, incoming, outgoing).await,
    }
}

/// A socket of its own for one client's datagrams to the local program. A port where nobody takes them refuses
/// before any is sent, so that none is lost to it.
async fn program_of_datagrams(local: SocketAddr) -> std::io::Result<UdpSocket> {
    let Some(reached) = loopback::receiver(local.port()).await else {
        return Err(std::io::ErrorKind::ConnectionRefused.into());
    };
    let socket = UdpSocket::bind((reached.ip(), 0)).await?;
    socket.connect(reached).await?;
    Ok(socket)
}

/// Carries one client's datagrams until they stop, or the program doesn't take them any more.
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

/// Tells the manager that the local program doesn't take it.
async fn refuse(local: SocketAddr, error: &std::io::Error, incoming: Incoming, outgoing: Outgoing) {
    tracing::debug!(%local, %error, "the local program doesn't answer");
    say(frame::failed(&Failed::from(error)), incoming, outgoing).await;
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
