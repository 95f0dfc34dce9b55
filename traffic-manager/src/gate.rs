//! Where connections arrive: nobody gets past who hasn't proven a key that a Lease vouches for. Until
//! then not a byte of kdev's protocol is exchanged, and little is spent.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kdev_cluster::vouch::Vouched;
use kdev_identity::{Acceptor, Fingerprint};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::peer::{self, PeerStream};
use crate::pending::Pending;
use crate::sessions::Sessions;

/// How long a key may take to be proven.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a Lease that was written just now may take to be seen.
const VOUCHED: Duration = Duration::from_secs(5);
/// When the kernel asks a connection that says nothing whether it is there, and how often.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);
/// How long a connection may leave unacknowledged what it was sent.
const UNHEARD: Duration = Duration::from_secs(30);
/// How long the kernel waits for room when there is none, for a descriptor say.
const BREATH: Duration = Duration::from_millis(50);

/// What all gates of the manager share.
#[derive(Clone)]
pub struct Gate {
    /// Proves the manager's key.
    pub acceptor: Acceptor,
    /// Who is vouched for.
    pub vouched: watch::Receiver<Option<Vouched>>,
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// Who gets through.
    pub through: mpsc::Sender<io::Result<PeerStream>>,
    /// Where handshakes run.
    pub tasks: TaskTracker,
    /// Ends everything.
    pub cancelled: CancellationToken,
}

/// Why a connection doesn't get through.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("no key was proven: {0}")]
    Handshake(#[source] io::Error),
    #[error("it took too long")]
    TimedOut,
    #[error("others took its place")]
    Evicted,
    #[error("nobody vouches for the key {0}")]
    Unknown(Fingerprint),
    #[error("the session {0} has too many connections")]
    TooMany(String),
}

impl Gate {
    /// Takes connections until cancelled.
    pub async fn serve(self, listener: TcpListener, pending: Pending) {
        let pending = Arc::new(Mutex::new(pending));
        loop {
            let accepted = tokio::select! {
                () = self.cancelled.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    let (gate, pending) = (self.clone(), Arc::clone(&pending));
                    self.tasks.spawn(async move {
                        tokio::select! {
                            () = gate.cancelled.cancelled() => {}
                            () = gate.take(stream, from.ip(), &pending) => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection wasn't accepted");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    async fn take(&self, stream: TcpStream, from: IpAddr, pending: &Mutex<Pending>) {
        let lock = || -> MutexGuard<'_, Pending> {
            pending.lock().unwrap_or_else(PoisonError::into_inner)
        };
        let (number, evicted) = lock().admit(from);
        let known = tokio::select! {
            biased;
            () = evicted.cancelled() => Err(Refused::Evicted),
            known = self.know(stream) => known,
        };
        lock().settle(number);
        match known {
            Ok(stream) => {
                // Closed only when the manager ends.
                let _ = self.through.send(Ok(stream)).await;
            }
            Err(why) => tracing::debug!(%from, %why, "a connection was refused"),
        }
    }

    /// Finds out who it is.
    async fn know(&self, stream: TcpStream) -> Result<PeerStream, Refused> {
        prepare(&stream).map_err(Refused::Handshake)?;
        let (stream, key) = tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream))
            .await
            .map_err(|_| Refused::TimedOut)?
            .map_err(Refused::Handshake)?;
        let mut vouched = self.vouched.clone();
        let is_known =
            |all: &Option<Vouched>| all.as_ref().is_some_and(|all| all.get(&key).is_some());
        let known = tokio::time::timeout(VOUCHED, vouched.wait_for(is_known)).await;
        let known = known.ok().and_then(Result::ok);
        let session = known.and_then(|all| all.as_ref().and_then(|all| all.get(&key).cloned()));
        let session = session.ok_or(Refused::Unknown(key))?;
        let speaks = session.speaks;
        let session = self.sessions.expect(&session.id);
        let place = session.connection();
        let place = place.ok_or_else(|| Refused::TooMany(session.id.clone()))?;
        // Its Lease may have been deleted while the session was looked up.
        if !is_known(&self.vouched.borrow()) {
            return Err(Refused::Unknown(key));
        }
        Ok(peer::admit(stream, session, speaks, place))
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // What was said and isn't acknowledged: a machine that has moved says nothing any more.
    SockRef::from(stream).set_tcp_user_timeout(Some(UNHEARD))?;
    let (idle, interval, times) = KEEPALIVE;
    let keepalive = TcpKeepalive::new()
        .with_time(idle)
        .with_interval(interval)
        .with_retries(times);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
