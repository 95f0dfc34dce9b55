//! The router: a port per intercept, whose connections go to the machine that asked for them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use kdev_flow::{frame, relay};
use kdev_proto::v1::flow_frame::Kind;
use kdev_proto::v1::{FlowFrame, FlowOpen, FlowProtocol};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::probe::Expected;
use crate::waiting::WaitingStreams;

/// Most connections that one intercept has at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 4096;

/// How long a connection waits for a stream to the machine, and for the machine's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Attempts at finding a port that is free on every address of the pod.
const PORT_ATTEMPTS: usize = 16;

/// A port of the router, open as long as this lives.
#[derive(Debug)]
pub struct RouterPort {
    port: u16,
    probe: Arc<Expected>,
    _open: DropGuard,
}

struct Way {
    intercept: String,
    streams: Arc<WaitingStreams>,
    probe: Arc<Expected>,
    slots: Arc<Semaphore>,
    closed: CancellationToken,
}

impl RouterPort {
    /// Opens a port on every address of the pod; its connections go to `streams`.
    ///
    /// # Errors
    ///
    /// When no port is free on all of them.
    pub async fn open(
        addresses: &[IpAddr],
        intercept: String,
        streams: Arc<WaitingStreams>,
        tasks: &TaskTracker,
    ) -> io::Result<Self> {
        let listeners = bind_same(addresses).await?;
        let port = match listeners.first() {
            Some(listener) => listener.local_addr()?.port(),
            None => return Err(io::Error::other("the pod has no address")),
        };
        let closed = CancellationToken::new();
        let probe = Arc::new(Expected::new());
        let way = Arc::new(Way {
            intercept,
            streams,
            probe: Arc::clone(&probe),
            slots: Arc::new(Semaphore::new(CONNECTIONS)),
            closed: closed.clone(),
        });
        for listener in listeners {
            tasks.spawn(accept(listener, Arc::clone(&way), tasks.clone()));
        }
        Ok(Self {
            port,
            probe,
            _open: closed.drop_guard(),
        })
    }

    /// The port's number.
    pub fn port(&self) -> u16 {
        self.port
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
                tokio::task::yield_now().await;
            }
            (Err(_), _) => return,
        }
    }
}

async fn carry(
    mut connection: TcpStream,
    client: SocketAddr,
    way: &Way,
    _slot: OwnedSemaphorePermit,
) -> Result<(), &'static str> {
    let probe = way.probe.is_probe(&connection).await;
    // Whoever isn't answered sees a reset: an orderly end would look like an empty answer.
    let reset = |connection: &TcpStream| {
        let _ = connection.set_zero_linger();
    };
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
    let Ok(asked) = tokio::time::timeout(PATIENCE, ask_machine(way, open)).await else {
        reset(&connection);
        return Err("the machine didn't answer in time");
    };
    let Some((outgoing, incoming)) = asked else {
        reset(&connection);
        return Err("the machine refused: nothing listens on the local port");
    };
    if probe {
        // The machine's answer is the proof; the token goes back to the prober.
        return connection
            .write_all(way.probe.token())
            .await
            .map_err(|_| "the prober left");
    }
    relay::relay(connection, incoming, outgoing).await;
    Ok(())
}

type Stream = (
    tokio::sync::mpsc::Sender<FlowFrame>,
    tonic::Streaming<FlowFrame>,
);

/// Asks over waiting streams until a living one answers; `None` when the machine says no.
async fn ask_machine(way: &Way, open: FlowOpen) -> Option<Stream> {
    loop {
        let mut waiting = way.streams.take().await;
        if waiting
            .outgoing
            .send(frame::open(open.clone()))
            .await
            .is_err()
        {
            continue;
        }
        match waiting.incoming.next().await {
            Some(Ok(FlowFrame {
                kind: Some(Kind::Opened(_)),
            })) => {
                return Some((waiting.outgoing, waiting.incoming));
            }
            Some(Ok(FlowFrame {
                kind: Some(Kind::Failed(_)),
            })) => return None,
            // Its carrier broke while it waited: the next one may be alive.
            _ => {}
        }
    }
}
