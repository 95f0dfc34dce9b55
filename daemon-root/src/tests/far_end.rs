//! The other side of the carriers: a manager without Kubernetes, in a network namespace where every
//! address of [`NETWORKS`] is its own. It dials and carries as the real one does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream as StdStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use kdev_common::transport;
use kdev_flow::carry::{Resume, Resumed, Stream};
use kdev_flow::frame::{self, Failed};
use kdev_flow::outgoing::{Frames, Outgoing, outgoing};
use kdev_flow::rpc::Incoming;
use kdev_flow::rpc::server::{Call, Flows, FlowsServer};
use kdev_flow::socket::carry_socket;
use kdev_flow::{Carrier, datagram};
use kdev_identity::{Acceptor, Fingerprint, Identity};
use kdev_proto::v1::flow_frame::Kind;
use kdev_proto::v1::manager_server::{Manager, ManagerServer};
use kdev_proto::v1::{
    EchoMessage, FlowFrame, FlowOpen, FlowProtocol, LookupRequest, LookupResponse, SessionEvent,
    SessionRequest,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use tokio::sync::oneshot;
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use super::machine::{ip, runtime};

/// What the far end is.
pub const NETWORKS: [&str; 2] = ["10.96.0.0/16", "fd96::/64"];
/// Where everything that is sent comes back.
pub const ECHO: u16 = 7;
/// After so long a flow of datagrams that are silent is over.
const IDLE: Duration = Duration::from_secs(5);
/// Hosts that echo datagrams, of each family.
pub const HOSTS: u8 = 16;

/// A far end, until it is dropped.
pub struct FarEnd {
    /// The machine's ends of the carriers.
    pub carriers: Vec<StdStream>,
    /// Its key, which they lead to.
    pub key: Fingerprint,
    /// Connections that were dialled so far.
    pub dialled: Arc<AtomicUsize>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The echoing host of a number below [`HOSTS`].
pub fn host(number: u8) -> [IpAddr; 2] {
    let last = u16::from(number) + 2;
    [
        Ipv4Addr::new(10, 96, 0, number + 2).into(),
        Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, last).into(),
    ]
}

impl FarEnd {
    /// Makes one with so many carriers.
    pub fn new(carriers: usize) -> Self {
        let dialled = Arc::new(AtomicUsize::default());
        let (near, far): (Vec<_>, Vec<_>) =
            (0..carriers).map(|_| StdStream::pair().unwrap()).unzip();
        let (end, ended) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let counted = Arc::clone(&dialled);
        let identity = Identity::generate().unwrap();
        let acceptor = Acceptor::new(&identity).unwrap();
        let thread = std::thread::spawn(move || {
            super::machine::own_network();
            for network in NETWORKS {
                ip(&format!("route add local {network} dev lo"));
            }
            runtime().block_on(async move {
                serve_echo().await;
                ready.send(()).unwrap();
                let streams = far.into_iter().map(|stream| Ok(opened(stream, &acceptor)));
                let streams: Vec<std::io::Result<DuplexStream>> = streams.collect();
                let served = transport::server()
                    .add_service(ManagerServer::new(Greeter))
                    .add_service(FlowsServer::new(Far { dialled: counted }))
                    .serve_with_incoming_shutdown(
                        tokio_stream::iter(streams).chain(tokio_stream::pending()),
                        std::future::pending(),
                    );
                tokio::select! {
                    _ = served => {}
                    _ = ended => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self {
            carriers: near,
            key: identity.fingerprint(),
            dialled,
            end: Some(end),
            thread: Some(thread),
        }
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What comes over a carrier once its keys are proven.
fn opened(stream: StdStream, acceptor: &Acceptor) -> DuplexStream {
    let (near, mut far) = tokio::io::duplex(256 << 10);
    let acceptor = acceptor.clone();
    stream.set_nonblocking(true).unwrap();
    let stream = UnixStream::from_std(stream).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = acceptor.accept(stream).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
    });
    near
}

async fn serve_echo() {
    for any in [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Ipv6Addr::UNSPECIFIED.into(),
    ] {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address((any, 0).into()),
            socket2::Type::STREAM,
            None,
        )
        .unwrap();
        if any.is_ipv6() {
            socket.set_only_v6(true).unwrap();
        }
        socket.bind(&SocketAddr::from((any, ECHO)).into()).unwrap();
        socket.listen(4096).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(length @ 1..) = connection.read(&mut buffer).await {
                        if connection.write_all(&buffer[..length]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
    }
    for address in (0..HOSTS).flat_map(host) {
        if address.is_ipv6() {
            // A route isn't enough to bind to it.
            ip(&format!("addr add {address}/128 dev lo nodad"));
        }
        let socket = UdpSocket::bind((address, ECHO)).await.unwrap();
        tokio::spawn(async move {
            let mut buffer = vec![0; datagram::MAX_DATAGRAM];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let _ = socket.send_to(&buffer[..length], from).await;
            }
        });
    }
}

struct Far {
    dialled: Arc<AtomicUsize>,
}

/// What else a manager does: its version is asked for.
struct Greeter;

type Answers<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// A flow of this far end's ends with its carrier.
struct Never;

impl Resume for Never {
    async fn resume(&mut self, _: u64) -> Option<Resumed> {
        None
    }
}

async fn serve(mut incoming: Incoming, outgoing: Outgoing, dialled: Arc<AtomicUsize>) {
    let Ok(Some(FlowFrame {
        kind: Some(Kind::Open(open)),
    })) = incoming.try_next().await
    else {
        return;
    };
    let target: SocketAddr = open.target.parse().unwrap();
    if let Err(error) = carry(&open, target, incoming, &outgoing, &dialled).await {
        let _ = outgoing.send(frame::failed(&Failed::from(&error))).await;
    }
}

async fn carry(
    open: &FlowOpen,
    target: SocketAddr,
    incoming: Incoming,
    outgoing: &Outgoing,
    dialled: &AtomicUsize,
) -> std::io::Result<()> {
    if open.protocol() == FlowProtocol::Tcp {
        let connection = TcpStream::connect(target).await?;
        connection.set_nodelay(true)?;
        dialled.fetch_add(1, Ordering::Relaxed);
        if outgoing.send(frame::opened()).await.is_ok() {
            let stream = Stream::new(outgoing.clone(), incoming, Carrier::default());
            carry_socket(connection, stream, Never).await;
        }
    } else {
        let any: IpAddr = match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(target).await?;
        dialled.fetch_add(1, Ordering::Relaxed);
        if outgoing.send(frame::opened()).await.is_ok() {
            let (outgoing, carrier) = (outgoing.clone(), Carrier::default());
            datagram::relay(socket, incoming, outgoing, &carrier, IDLE).await;
        }
    }
    Ok(())
}

fn nobody_asks() -> Status {
    Status::unimplemented("this far end only carries flows")
}

#[tonic::async_trait]
impl Manager for Greeter {
    type SessionStream = Answers<SessionEvent>;

    async fn echo(&self, request: Request<EchoMessage>) -> Result<Response<EchoMessage>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn session(
        &self,
        _: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        Err(nobody_asks())
    }

    async fn lookup(&self, _: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        Err(nobody_asks())
    }
}

impl Flows for Far {
    type Answer = Frames;

    async fn flow(&self, call: Call) -> Result<Frames, Status> {
        let (outgoing, frames) = outgoing();
        let dialled = Arc::clone(&self.dialled);
        tokio::spawn(serve(call.incoming, outgoing, dialled));
        Ok(frames)
    }

    async fn accept(&self, _: Call) -> Result<Frames, Status> {
        Err(nobody_asks())
    }
}
