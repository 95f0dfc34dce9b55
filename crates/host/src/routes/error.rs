//! Why the routes couldn't be set.

use std::io;

use ipnet::IpNet;

use crate::Unsupported;

/// Why the routes couldn't be compared with what is desired, or made so.
#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    /// This system isn't supported.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The kernel couldn't be asked.
    #[error("can't talk to the kernel about routes")]
    Connect(#[source] io::Error),
    /// The kernel didn't list what there is.
    #[error("can't list the machine's {what}")]
    List {
        /// "routes" or "network devices".
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody has removed the device.
    #[error("the network device {device} is gone")]
    DeviceGone {
        /// Its name.
        device: String,
    },
    /// A route stays that shouldn't.
    #[error("can't remove the route to {prefix}")]
    Remove {
        /// The route.
        prefix: IpNet,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl RoutesError {
    /// What a person can do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Unsupported(_) => "use kdev on Linux",
            Self::DeviceGone { .. } => "connect again, and find out what removed it",
            Self::Connect(_) | Self::List { .. } | Self::Remove { .. } => {
                "run the daemon as root or with CAP_NET_ADMIN, then connect again"
            }
        }
    }
}
