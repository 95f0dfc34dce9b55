//! Names: what the machine asks is asked of the cluster's own DNS server.

use std::net::SocketAddr;

use bytes::Bytes;
use kdev_names::{ForwardError, Timing, Upstream, Via};

/// Asks the cluster's DNS server.
#[derive(Debug, Clone)]
pub struct Lookup {
    upstream: Upstream,
}

impl Lookup {
    /// Asks these servers, as the pod's resolv.conf names them.
    pub fn new(servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            upstream: Upstream::new(servers, Timing::default()),
        }
    }

    /// Asks a DNS message and gives the answer whole: over TCP where UDP truncates it.
    ///
    /// # Errors
    ///
    /// When no server answers in time.
    pub async fn ask(&self, query: Bytes) -> Result<Bytes, ForwardError> {
        self.upstream
            .ask(&query, Via::UdpThenTcp)
            .await
            .map(Bytes::from)
    }
}
