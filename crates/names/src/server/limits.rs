//! What the server bounds.

use std::time::Duration;

/// Bounds of the server, all of them for one machine's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Queries under way at once; beyond, the oldest is answered with a server failure. Each has a
    /// few sockets at most: keep it well below the limit of open files.
    pub in_flight: usize,
    /// TCP connections at once; beyond, the oldest is closed.
    pub connections: usize,
    /// Queries of one TCP connection under way at once; beyond, it isn't read.
    pub pipelined: usize,
    /// A TCP connection without a query under way is closed after this time (RFC 7766 section 6.2.3).
    pub idle: Duration,
    /// Longest wait for the cluster's answer to a name of its own: nearly as long as a program waits by default, which
    /// asks twice for 5 s each (resolv.conf(5)), so that it outlasts a short outage.
    pub cluster: Duration,
    /// The same for a single label, which the machine's own name servers are asked for as well: that they don't know it waits
    /// for this.
    pub shared: Duration,
    /// The same for a name that is hardly the cluster's, such as `host.lan`: programs ask for many of them, and each that
    /// nobody has waits for this. One slow round trip.
    pub unlikely: Duration,
    /// How long a cluster that gave no answer isn't asked for such names: in an outage, one of them in this time waits.
    pub respite: Duration,
    /// How long the machine's own name servers may be silent before the cluster's answer is given.
    pub patience: Duration,
    /// Answers of the cluster that are remembered.
    pub cached: usize,
    /// Bytes of these answers.
    pub cached_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 512,
            connections: 64,
            pipelined: 16,
            idle: Duration::from_secs(10),
            cluster: Duration::from_millis(9500),
            shared: Duration::from_secs(3),
            unlikely: Duration::from_secs(1),
            respite: Duration::from_secs(1),
            patience: Duration::from_millis(1500),
            cached: 1024,
            cached_bytes: 1 << 20,
        }
    }
}
