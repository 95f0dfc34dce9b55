//! What a machine needs to know of a cluster's network: prefixes, DNS, namespaces.
//!
//! The manager finds it out in the cluster and keeps it up to date. Prefixes are as narrow as what
//! is known allows: each one becomes a route on somebody's machine.

mod direct;
mod facts;
#[cfg(fuzzing)]
pub mod fuzzing;
mod pods;
mod prefixes;
mod resolv;
mod services;
mod sources;
mod watch;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ipnet::IpNet;

pub use self::resolv::{ClusterDns, ReadResolvConfError, read_resolv_conf};
pub use self::watch::{Discovery, start};

/// The cluster's network, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Where Services' addresses come from, sorted, none inside another.
    pub service_cidrs: Vec<IpNet>,
    /// Where pods' addresses come from, sorted, none inside another. No node's address is inside.
    pub pod_cidrs: Vec<IpNet>,
    /// The cluster's DNS.
    pub dns: ClusterDns,
    /// The names of all namespaces.
    pub namespaces: BTreeSet<String>,
    /// Where the manager's own port may be reached from outside of the cluster, the likeliest first.
    pub direct: Vec<SocketAddr>,
}
