//! The socket on which carriers arrive: a preamble, then bytes for the manager.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use kdev_common::carrier::{CarrierKind, PREAMBLE_LENGTH, Preamble, TOKEN_LENGTH};
use kdev_common::descriptor;
use kdev_common::socket::{LocalListener, LocalStream};
use kdev_identity::Connector;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::carriers::{Carriers, Route};

/// What a carrier shows first: whoever shows it was told it on the lease's stream.
pub type Token = [u8; TOKEN_LENGTH];

/// How long a connection may take to show its token.
const PREAMBLE: Duration = Duration::from_secs(5);

/// The lease that takes carriers now.
#[derive(Debug, Clone)]
pub struct Taker {
    /// What its carriers show.
    pub token: Token,
    /// The user whose carriers it takes.
    pub uid: u32,
    /// Where they go.
    pub carriers: Arc<Carriers>,
    /// Speaks with this daemon's key.
    pub connector: Connector,
    /// When they end.
    pub cancelled: CancellationToken,
    /// Where they run.
    pub tasks: TaskTracker,
}

/// Who takes carriers, if anyone.
#[derive(Debug, Clone, Default)]
pub struct Takers(Arc<Mutex<Option<Taker>>>);

impl Takers {
    /// From now on, `taker` takes them.
    pub fn set(&self, taker: Option<Taker>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = taker;
    }

    fn get(&self) -> Option<Taker> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Accepts carriers until cancelled.
pub async fn serve(
    listener: LocalListener,
    takers: Takers,
    tasks: TaskTracker,
    cancelled: CancellationToken,
) {
    let accept = async {
        let mut incoming = std::pin::pin!(listener.incoming());
        // Counted here, as tasks that are started one after the other needn't run in that order.
        let mut arrival = 0;
        while let Some(accepted) = incoming.next().await {
            if let Ok(stream) = accepted {
                arrival += 1;
                tasks.spawn(take(stream, takers.clone(), arrival));
            }
        }
    };
    tokio::select! {
        () = cancelled.cancelled() => {}
        () = accept => {}
    }
}

/// A descriptor as the connection that it has to be.
fn tcp(descriptor: OwnedFd) -> io::Result<TcpStream> {
    let socket = socket2::Socket::from(descriptor);
    let is_ip = |address: socket2::SockAddr| address.as_socket().is_some();
    if socket.r#type()? != socket2::Type::STREAM || !is_ip(socket.peer_addr()?) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket.into())
}

async fn take(mut stream: LocalStream, takers: Takers, arrival: u64) {
    let mut bytes = [0; PREAMBLE_LENGTH];
    let received = tokio::time::timeout(PREAMBLE, descriptor::receive(&stream, &mut bytes));
    let Ok(Ok(descriptor)) = received.await else {
        return;
    };
    let Some(preamble) = Preamble::decode(&bytes) else {
        return tracing::warn!("what came on the carrier socket isn't a carrier");
    };
    let uid = stream.who().uid;
    let Some(taker) = takers
        .get()
        .filter(|one| one.token == preamble.token && (one.uid == uid || uid == 0))
    else {
        tracing::warn!(uid, "a carrier without a lease was refused");
        return;
    };
    let Taker {
        carriers,
        connector,
        cancelled,
        tasks,
        ..
    } = taker;
    // Among the lease's tasks: it has ended only when they have.
    let route = Route {
        connector,
        manager: preamble.manager.into(),
        kind: preamble.kind,
        arrival,
    };
    let id = preamble.id;
    match (preamble.kind, descriptor) {
        (CarrierKind::PortForward, _) => {
            tasks.spawn(async move { carriers.run(id, stream, route, cancelled).await });
        }
        (CarrierKind::Direct, Some(descriptor)) => match tcp(descriptor) {
            Ok(connection) => {
                let given_up = cancelled.child_token();
                tasks.spawn(async move {
                    tokio::select! {
                        () = carriers.run(id, connection, route, given_up.clone()) => {}
                        () = async {
                            // The user's daemon has let go of it, or is gone.
                            let _ = stream.read_u8().await;
                            given_up.cancel();
                            std::future::pending().await
                        } => {}
                    }
                });
            }
            Err(error) => tracing::warn!(%error, "a carrier's descriptor is of no use"),
        },
        (CarrierKind::Direct, None) => {
            tracing::warn!("a direct carrier came without its descriptor")
        }
    }
}
