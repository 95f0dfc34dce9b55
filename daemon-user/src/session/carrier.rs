//! Carriers: connections to the manager that this daemon makes and hands to the root daemon as a
//! connected local socket. A port-forward serves until there is a direct way, and again when that breaks.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Fuse};
use kdev_cluster::portforward::Forward;
use kdev_common::carrier::{CarrierKind, Preamble};
use kdev_common::outage::Outage;
use kdev_common::socket::{self, descriptor_of};
use kdev_common::{descriptor, paths};
use kdev_proto::Failure;
use kdev_proto::v1::{CarrierStatus, ErrorKind, State};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, Nudge};
use super::direct::Direct;
use super::manager_access::{Known, ManagerAccess};
use super::root_link::{Link, Shown};
use super::voucher::Voucher;

/// Carriers of a session. Flows are spread over them: a port-forward's limit is the CPU that the API
/// server and the kubelet give to one WebSocket.
pub const COUNT: u32 = 3;

/// How long a carrier that takes another's place may take to carry.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// What a carrier needs.
#[derive(Debug, Clone)]
pub struct Means {
    /// The manager.
    pub access: ManagerAccess,
    /// The direct way to it.
    pub direct: Direct,
    /// The root daemon, as it was heard last.
    pub root: watch::Receiver<Link>,
    /// What the root daemon wants to see.
    pub shown: watch::Receiver<Option<Shown>>,
    /// Sees to it that the manager knows the root daemon's key.
    pub voucher: Arc<Voucher>,
}

/// Keeps carrier number `id` alive until cancelled: whenever it breaks, the next one is opened.
pub async fn keep(id: u32, means: Means, nudge: Nudge, cancelled: CancellationToken) {
    let mut backoff = Backoff::new(nudge);
    let mut outage = Outage::default();
    let keep = async {
        loop {
            let Some(shown) = means.shown().await else {
                // The root link is gone, and the session with it.
                return;
            };
            let ended = tokio::select! {
                ended = means.carry(id, &shown, &mut backoff, &mut outage) => ended,
                // Another lease has another token, and takes none of the old one's carriers.
                () = means.shows_another(&shown) => continue,
            };
            let Err(failure) = ended;
            if outage.handle_lost(Instant::now().into()) {
                tracing::info!(carrier = id, reason = %failure.why, "carrier lost");
            } else {
                tracing::debug!(carrier = id, reason = %failure.why, "no carrier yet");
            }
            backoff.wait().await;
        }
    };
    tokio::select! {
        () = cancelled.cancelled() => {}
        () = keep => {}
    }
}

/// The connection to the root daemon.
type Local = socket::Connection;

/// A connection to the manager, before it is a carrier.
enum Way {
    Forward(Forward),
    Direct(TcpStream, SocketAddr),
}

impl Way {
    fn kind(&self) -> CarrierKind {
        match self {
            Self::Forward(_) => CarrierKind::PortForward,
            Self::Direct(..) => CarrierKind::Direct,
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Forward(_) => None,
            Self::Direct(_, address) => Some(*address),
        }
    }

    /// Hands it over on the local socket.
    async fn show(&mut self, preamble: &Preamble, local: &mut Local) -> io::Result<()> {
        match self {
            Self::Forward(_) => local.write_all(&preamble.encode()).await,
            Self::Direct(stream, _) => {
                descriptor::send(&descriptor_of(local), &preamble.encode(), stream)
            }
        }
    }

    /// Copies bytes where somebody has to, until either end is gone; says why. Dropping the future ends
    /// both.
    async fn pump(self, mut local: Local) -> Failure {
        let why = match self {
            Self::Forward(forward) => {
                let ended = forward.pump(local, &CancellationToken::new()).await;
                ended.err().map(|error| error.to_string())
            }
            Self::Direct(stream, _) => {
                // It is the root daemon's now, which says nothing but its end.
                drop(stream);
                let _ = local.read_u8().await;
                None
            }
        };
        let why = why.unwrap_or_else(|| "it was closed".to_owned());
        Failure::new(ErrorKind::Manager, "a carrier broke", why, "")
    }
}

/// Copies for a carrier until that is gone; nothing happens after that.
type Pump = Fuse<BoxFuture<'static, Failure>>;

/// A carrier that carries.
struct Running {
    pump: Pump,
    kind: CarrierKind,
    /// Of a direct one.
    address: Option<SocketAddr>,
}

impl Means {
    async fn shown(&self) -> Option<Shown> {
        let mut shown = self.shown.clone();
        shown.wait_for(Option::is_some).await.ok()?.clone()
    }

    async fn shows_another(&self, than: &Shown) {
        let mut shown = self.shown.clone();
        // An error is the end of the session, which cancels all.
        if shown
            .wait_for(|now| now.as_ref() != Some(than))
            .await
            .is_err()
        {
            std::future::pending().await
        }
    }

    /// Carries until what carries breaks.
    async fn carry(
        &self,
        id: u32,
        shown: &Shown,
        backoff: &mut Backoff,
        outage: &mut Outage,
    ) -> Result<Infallible, Failure> {
        self.voucher.vouched(shown.key).await;
        let running = self.open(id, shown).await?;
        let started = Instant::now();
        let ended = self.follow(id, shown, running, outage).await;
        // One that lived is no reason to wait; one that broke at once is.
        backoff.handle_lived(started.elapsed());
        ended
    }

    /// Waits until what carries breaks, and lets a better one take its place meanwhile.
    async fn follow(
        &self,
        id: u32,
        shown: &Shown,
        mut running: Running,
        outage: &mut Outage,
    ) -> Result<Infallible, Failure> {
        let told = self.tell_back(id, outage);
        tokio::pin!(told);
        // The one that a better one has taken the place of: the root daemon lets go of it with its last flow.
        let mut former: Pump = std::future::pending().boxed().fuse();
        loop {
            tokio::select! {
                never = &mut told => match never {},
                failure = &mut running.pump => {
                    if let Some(address) = running.address {
                        self.direct.failed(address);
                    }
                    return Err(failure);
                }
                _ = &mut former => {}
                better = self.open_better(id, shown), if running.kind == CarrierKind::PortForward => {
                    let address = better.address;
                    match self.take_over(id, &mut running, better).await {
                        Ok(taken) => former = std::mem::replace(&mut running, taken).pump,
                        // The one that there is goes on.
                        Err(failure) => {
                            tracing::debug!(carrier = id, reason = %failure.why, "no better carrier");
                            address.into_iter().for_each(|address| self.direct.failed(address));
                        }
                    }
                }
            }
        }
    }

    /// Opens a direct one where that works, else a port-forward.
    async fn open(&self, id: u32, shown: &Shown) -> Result<Running, Failure> {
        if let Some(address) = self.direct.address().await {
            match self.open_direct(address, id, shown).await {
                Ok(running) => return Ok(running),
                Err(failure) => {
                    tracing::debug!(carrier = id, reason = %failure.why, "no direct carrier");
                    self.direct.failed(address);
                }
            }
        }
        let (known, forward) = self.access.forward().await?;
        hand_over(Way::Forward(forward), &known, id, shown).await
    }

    async fn open_direct(
        &self,
        address: SocketAddr,
        id: u32,
        shown: &Shown,
    ) -> Result<Running, Failure> {
        let (known, stream) = self.access.dial(address).await?;
        hand_over(Way::Direct(stream, address), &known, id, shown).await
    }

    /// Waits until there is a direct way, and opens a carrier over it.
    async fn open_better(&self, id: u32, shown: &Shown) -> Running {
        loop {
            let address = self.direct.available().await;
            match self.open_direct(address, id, shown).await {
                Ok(running) => return running,
                Err(failure) => {
                    tracing::debug!(carrier = id, reason = %failure.why, "no direct carrier");
                    self.direct.failed(address);
                }
            }
        }
    }

    /// Lets both carry until the root daemon uses the better one: no flow is without a carrier.
    async fn take_over(
        &self,
        id: u32,
        former: &mut Running,
        mut better: Running,
    ) -> Result<Running, Failure> {
        let kind = better.kind.as_str();
        let used = timeout(TAKE_OVER, self.used(id, |one| one == kind));
        tokio::select! {
            failure = &mut better.pump => return Err(failure),
            used = used => if used.is_err() {
                return Err(not_used());
            },
            // Its flows find the better one by themselves.
            _ = &mut former.pump => {}
        }
        Ok(better)
    }

    /// Tells once that the carrier is back, when it carries: one that only opens is of no use yet.
    async fn tell_back(&self, id: u32, outage: &mut Outage) -> Infallible {
        self.used(id, |_| true).await;
        if let Some(away) = outage.handle_back(Instant::now().into()) {
            tracing::info!(carrier = id, ?away, "carrier back");
        }
        std::future::pending().await
    }

    /// Waits until the root daemon says that this carrier carries, over the kind of way that it has to.
    /// Cancel safe.
    async fn used(&self, id: u32, is_it: impl Fn(&str) -> bool) {
        let is_used = |status: &CarrierStatus| {
            let part = status.part.as_ref();
            status.id == id
                && is_it(&status.kind)
                && part.is_some_and(|part| part.state() == State::Ok)
        };
        let mut root = self.root.clone();
        let used = root.wait_for(|link| link.carriers.iter().any(is_used));
        if used.await.is_err() {
            // The end of the session, which cancels all.
            std::future::pending().await
        }
    }
}

fn not_used() -> Failure {
    let why = format!("it doesn't carry after {} s", TAKE_OVER.as_secs());
    Failure::new(ErrorKind::Manager, "a carrier isn't used", why, "")
}

/// Hands a connection over to the root daemon, as carrier number `id`.
async fn hand_over(
    mut way: Way,
    known: &Known,
    id: u32,
    shown: &Shown,
) -> Result<Running, Failure> {
    let local = |error: std::io::Error| {
        Failure::new(
            ErrorKind::Daemon,
            "the root daemon doesn't take a carrier",
            error.to_string(),
            "`kdev status` says whether it runs",
        )
    };
    let (kind, address) = (way.kind(), way.address());
    let preamble = Preamble {
        token: shown.token,
        manager: *known.fingerprint().as_bytes(),
        id,
        kind,
    };
    let mut socket = socket::connect(&paths::carrier_socket())
        .await
        .map_err(local)?;
    way.show(&preamble, &mut socket).await.map_err(local)?;
    Ok(Running {
        pump: way.pump(socket).boxed().fuse(),
        kind,
        address,
    })
}
