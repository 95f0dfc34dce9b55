//! The DNS server: by UDP and TCP on one address, everything decided by the policy.

mod handle;
mod limits;
mod places;
mod resolve;
mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::lookup::ClusterLookup;
use handle::Shared;
use places::Places;
use resolve::Resolver;

pub use handle::{ClusterTrouble, DnsHandle, DnsStats};
pub use limits::Limits;

/// A DNS server that has its address, and serves when it is run.
#[derive(Debug)]
pub struct DnsServer {
    udp: UdpSocket,
    tcp: TcpListener,
    shared: Arc<Shared>,
}

/// Why the server couldn't have its address.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Not by UDP.
    #[error(
        "the DNS server can't listen on {address} by UDP: {source}. Another program may hold that port"
    )]
    Udp {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Not by TCP.
    #[error(
        "the DNS server can't listen on {address} by TCP: {source}. Another program may hold that port"
    )]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Why the server ended on its own.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The UDP socket is of no use any more.
    #[error("the DNS server can't receive by UDP any more: {0}")]
    Udp(#[source] io::Error),
}

/// With port 0, TCP may find the port taken that UDP was given.
const FREE_PORT_ATTEMPTS: usize = 16;

impl DnsServer {
    /// Takes the address, by UDP and TCP; port 0 means any free one. Until its handle says otherwise
    /// the server has neither policy nor upstreams.
    ///
    /// # Errors
    ///
    /// See [`BindError`].
    pub async fn bind(address: IpAddr, port: u16, limits: Limits) -> Result<Self, BindError> {
        let mut attempt = 1;
        let (udp, tcp, address) = loop {
            match bind_both(SocketAddr::new(address, port)).await {
                Err(BindError::Tcp { source, .. })
                    if port == 0
                        && source.kind() == io::ErrorKind::AddrInUse
                        && attempt < FREE_PORT_ATTEMPTS =>
                {
                    attempt += 1;
                }
                result => break result?,
            }
        };
        Ok(Self {
            udp,
            tcp,
            shared: Arc::new(Shared::new(address, limits)),
        })
    }

    /// A handle, with which the server is steered also while it runs.
    #[must_use]
    pub fn handle(&self) -> DnsHandle {
        DnsHandle::new(self.shared.clone())
    }

    /// Serves until `cancel`. When it returns, all its tasks have ended and the address is free.
    ///
    /// # Errors
    ///
    /// When the UDP socket broke for good.
    pub async fn run<L: ClusterLookup>(
        self,
        lookup: L,
        cancel: CancellationToken,
    ) -> Result<(), ServeError> {
        let Self { udp, tcp, shared } = self;
        let limits = shared.limits;
        let places = Places::new(limits.in_flight);
        let resolver = Arc::new(Resolver::new(lookup, shared));
        let (mut queries, mut connections) = (JoinSet::new(), JoinSet::new());
        let result = tokio::select! {
            () = cancel.cancelled() => Ok(()),
            error = udp::serve(Arc::new(udp), &resolver, &places, limits, &mut queries) => {
                Err(ServeError::Udp(error))
            }
            () = tcp::serve(tcp, &resolver, &places, limits, &mut connections) => Ok(()),
        };
        queries.shutdown().await;
        connections.shutdown().await;
        result
    }
}

async fn bind_both(address: SocketAddr) -> Result<(UdpSocket, TcpListener, SocketAddr), BindError> {
    let refused = |source| BindError::Udp { address, source };
    let udp = UdpSocket::bind(address).await.map_err(refused)?;
    let address = udp.local_addr().map_err(refused)?;
    let tcp = TcpListener::bind(address)
        .await
        .map_err(|source| BindError::Tcp { address, source })?;
    Ok((udp, tcp, address))
}

/// Says so when a task panicked; it must not be silent, nor end the others.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a DNS query's task panicked");
    }
}
