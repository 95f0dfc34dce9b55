//! Which of the machine's packets go to the cluster.
//!
//! Routes are desired state: [`Routes::apply`] compares what is wanted with what the kernel has on
//! the device and makes the difference. What others on the machine have stays theirs.

mod carve;
mod error;
mod local;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "there is no kernel yet to make it so in")
)]
mod plan;
#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "unsupported.rs"]
mod system;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

pub use self::carve::carve;
pub use self::error::RoutesError;
pub use self::local::{LocalRoute, MAIN_TABLE, RouteKind, default_gateways};
pub use self::plan::plan;
use crate::device::Device;

/// The number by which the kernel knows kdev's routes from others (`rtm_protocol`, 'k'); `ip route`
/// shows it as `proto 107`.
pub const PROTOCOL: u8 = 0x6b;

/// What is to go to the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredRoutes {
    /// The cluster's prefixes.
    pub prefixes: Vec<IpNet>,
    /// Addresses that keep their old way whatever the prefixes say: the API server, the machine's
    /// resolvers. Gateways of the machine's other routes are exempt without being named here.
    pub exempt: Vec<IpNet>,
}

/// What has become of each prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteReport {
    /// One for each desired prefix, in order, without repetitions.
    pub routes: Vec<RouteState>,
    /// What the kernel hadn't before.
    pub added: Vec<IpNet>,
    /// What the kernel has no more.
    pub removed: Vec<IpNet>,
}

/// What has become of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteState {
    /// The desired prefix.
    pub prefix: IpNet,
    /// What is routed in its place: less than the prefix where addresses keep their old way.
    pub installed: Vec<IpNet>,
    /// Exempt addresses within it.
    pub exempted: Vec<IpNet>,
    /// Who else on the machine has addresses of it.
    pub conflicts: Vec<Conflict>,
    /// Why some or all of it isn't routed, if nobody else has it.
    pub problem: Option<Problem>,
}

/// Somebody else on the machine who has addresses of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// What the other one routes.
    pub with: IpNet,
    /// The network device that it goes to, or what else the kernel does with it.
    pub owner: String,
    /// The gateway that it goes to.
    pub via: Option<IpAddr>,
    /// What kdev did about it.
    pub answer: Answer,
}

/// What kdev did about somebody else's route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The other is a part of the prefix: that part stays with the other.
    PartKept,
    /// The other is the same prefix: nothing was installed.
    LeftToOwner,
    /// The other is larger: the prefix goes to the cluster, the rest stays with the other.
    Installed,
    /// It is an address of this machine: it stays here.
    OwnAddress,
    /// A routing rule of the machine comes before the routes: the prefix was installed, and at least
    /// some of it goes to the other.
    Shadowed,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { with, owner, .. } = self;
        let owner = match self.via {
            Some(via) => format!("{owner} (via {via})"),
            None => owner.clone(),
        };
        match self.answer {
            Answer::PartKept => write!(f, "{with} stays with {owner}"),
            Answer::LeftToOwner => write!(f, "left to {owner}, which has exactly {with}"),
            Answer::Installed => write!(f, "taken out of {with} of {owner}"),
            Answer::OwnAddress => {
                write!(
                    f,
                    "{} is this machine's own address on {owner}",
                    with.addr()
                )
            }
            Answer::Shadowed => {
                write!(
                    f,
                    "a routing rule of this machine sends it to {owner} ({with})"
                )
            }
        }
    }
}

/// Why a prefix isn't routed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// So many addresses aren't a cluster's.
    #[error("{0} is too wide for a cluster")]
    TooWide(IpNet),
    /// It is loopback, link-local, multicast or the like.
    #[error("{0} never leaves a machine or its link")]
    NeverRouted(IpNet),
    /// The device has no IPv6.
    #[error("this machine has no IPv6 for kdev's device")]
    NoIpv6,
    /// The kernel refused a route.
    #[error("the kernel refused {prefix}: {reason}")]
    Refused {
        /// The route.
        prefix: IpNet,
        /// What the kernel said.
        reason: String,
    },
}

/// The routes over a device. They vanish with the device.
#[derive(Debug)]
pub struct Routes {
    system: system::Routes,
}

impl Routes {
    /// Takes charge of the routes over a device, in the calling thread's network namespace.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the kernel can't be talked to.
    pub fn new(device: &Device) -> Result<Self, RoutesError> {
        Ok(Self {
            system: system::Routes::new(device)?,
        })
    }

    /// Makes the kernel's routes over the device those that are desired, by adding and removing as
    /// few as needed; with no prefixes, none stays. Can be called again at any time, for instance
    /// after the machine's network changed. Cancel safe: the next call does what this one left.
    ///
    /// # Errors
    ///
    /// When the kernel can't be asked, or a route can't be removed. A route that can't be added is
    /// the [`Problem`] of its prefix.
    pub async fn apply(&mut self, desired: &DesiredRoutes) -> Result<RouteReport, RoutesError> {
        self.system.apply(desired).await
    }

    /// Lists all routes of the machine in all tables, of this device as well.
    ///
    /// # Errors
    ///
    /// When the kernel can't be asked.
    pub async fn local_routes(&self) -> Result<Vec<LocalRoute>, RoutesError> {
        self.system.local_routes().await
    }

    /// Lists the gateways of the machine's default routes.
    ///
    /// # Errors
    ///
    /// When the kernel can't be asked.
    pub async fn gateways(&self) -> Result<Vec<IpAddr>, RoutesError> {
        Ok(default_gateways(&self.local_routes().await?))
    }
}
