//! The probe: a connection, or a datagram, through a Service's own address that proves where it leads.
//!
//! The manager speaks to the Service, as a client would, and sends a token. The router recognises the
//! token, asks the machine, and sends another one back once the machine has answered: a pod that
//! echoes what it gets must not be taken for the machine.

mod connection;
mod datagram;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kdev_cluster::redirect::Protocol;

pub use connection::peek;

/// Bytes of a token: a fixed half that is no start of a known protocol, and a random one.
pub const TOKEN_LENGTH: usize = 32;
const FIXED: [u8; 16] = *b"\0kdev-probe-v1\r\n";

/// How many probes have to arrive after the first one, in rounds of so many at once. While a node
/// switches, the router is one of several endpoints, so a few prove little; and they go on only when
/// the ones before have arrived, since what doesn't arrive bothers a pod.
const ROUNDS: [usize; 2] = [3, 24];

/// A token; as good as a secret, as only the prober and the router of one manager know it.
pub type Token = [u8; TOKEN_LENGTH];

/// Makes a token that nobody can guess.
fn token() -> Token {
    let mut token = [0; TOKEN_LENGTH];
    token[..FIXED.len()].copy_from_slice(&FIXED);
    token[FIXED.len()..].copy_from_slice(&rand::random::<[u8; TOKEN_LENGTH - FIXED.len()]>());
    token
}

/// How one attempt of a probe went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The Service's address can't be connected to.
    #[error("{address} can't be connected to from the manager's pod: {source}")]
    Connect {
        /// The Service's address.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The connection arrived somewhere else, as a pod of the workload's.
    #[error("{address} still leads elsewhere than to the machine")]
    Elsewhere {
        /// The Service's address.
        address: SocketAddr,
    },
    /// Nobody answered.
    #[error("{address} accepts, but nothing comes back")]
    Silent {
        /// The Service's address.
        address: SocketAddr,
    },
    /// Nothing answers datagrams.
    #[error("{address}: no datagram comes back")]
    Lost {
        /// The Service's address.
        address: SocketAddr,
    },
}

/// Sends as many probes as it takes to know that all that `addresses` get leads to the machine; returns how long the
/// first one took.
///
/// # Errors
///
/// What went wrong; while the cluster's nodes still learn of a redirection, the next attempt may work.
pub async fn rounds(
    protocol: Protocol,
    addresses: &[SocketAddr],
    expected: &Expected,
) -> Result<Duration, ProbeError> {
    let mut whole = Duration::ZERO;
    for (number, address) in addresses.iter().enumerate() {
        let first = match protocol {
            Protocol::Udp => datagram::first(*address, expected).await?,
            Protocol::Tcp | Protocol::Sctp => connection::attempt(*address, expected).await?,
        };
        if number == 0 {
            whole = first;
        }
        for count in ROUNDS {
            let probes = (0..count).map(async |_| match protocol {
                Protocol::Udp => datagram::attempt(*address, expected, first).await,
                Protocol::Tcp | Protocol::Sctp => connection::attempt(*address, expected).await,
            });
            futures::future::try_join_all(probes).await?;
        }
    }
    Ok(whole)
}

/// What a router's port knows of the probe that may arrive.
#[derive(Debug)]
pub struct Expected {
    token: Token,
    answer: Token,
    outstanding: AtomicUsize,
}

impl Expected {
    /// A port's own token.
    pub fn new() -> Self {
        Self {
            token: token(),
            answer: token(),
            outstanding: AtomicUsize::new(0),
        }
    }

    /// What the prober sends.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// What the router sends back.
    pub fn answer(&self) -> &Token {
        &self.answer
    }

    /// From now until the guard is dropped a probe may arrive.
    pub fn announce(&self) -> Announced<'_> {
        self.outstanding.fetch_add(1, Ordering::AcqRel);
        Announced(self)
    }

    /// Whether a probe may arrive.
    pub fn is_announced(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) > 0
    }

    /// Whether this is its token.
    pub fn is(&self, token: &Token) -> bool {
        *token == self.token
    }
}

/// See [`Expected::announce`].
#[derive(Debug)]
pub struct Announced<'a>(&'a Expected);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::AcqRel);
    }
}
