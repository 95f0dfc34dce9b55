//! What a machine's routes look like.

use std::net::IpAddr;

use ipnet::IpNet;

/// The table that the kernel looks into when no rule says otherwise (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// A route that the kernel has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalRoute {
    /// Where to.
    pub prefix: IpNet,
    /// The network device, or what the kernel does instead: "unreachable", "blackhole", "prohibit".
    pub owner: String,
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The table it is in.
    pub table: u32,
    /// What it does.
    pub kind: RouteKind,
}

/// What a route does with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Sends them on.
    Unicast,
    /// Keeps them: the prefix is an address of this machine.
    Local,
    /// Drops them.
    Blocked,
}

impl LocalRoute {
    /// Whether it takes what no other takes: a default route, or one of the two halves that VPN
    /// clients put over a default route to leave it in place.
    pub fn is_default(&self) -> bool {
        self.prefix.prefix_len() <= 1
    }
}

/// The gateways of default routes, each once.
pub fn default_gateways(routes: &[LocalRoute]) -> Vec<IpAddr> {
    let mut gateways: Vec<IpAddr> = routes
        .iter()
        .filter(|route| route.is_default())
        .filter_map(|route| route.via)
        .collect();
    gateways.sort_unstable();
    gateways.dedup();
    gateways
}
