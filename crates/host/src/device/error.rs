//! Why there is no device.

use std::io;

use crate::Unsupported;

/// Why a device couldn't be made. Nothing of it is left then.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// This system isn't supported.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The kernel would refuse the name.
    #[error("{name:?} can't name a network device: 1 to 15 bytes without space and slash can")]
    Name {
        /// The name asked for.
        name: String,
    },
    /// There is a network device of this name.
    #[error("there is a network device {name} already")]
    NameTaken {
        /// The name asked for.
        name: String,
    },
    /// `/dev/net/tun` couldn't be opened.
    #[error("can't open /dev/net/tun")]
    Open(#[source] io::Error),
    /// The kernel made no TUN device.
    #[error("the kernel made no network device {name}")]
    Create {
        /// The name asked for.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The descriptor can't be waited for.
    #[error("can't wait for packets of {name}")]
    Register {
        /// The device.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel couldn't be asked to configure anything.
    #[error("can't talk to the kernel about network devices")]
    Connect(#[source] io::Error),
    /// The device was made and couldn't be configured.
    #[error("can't {step} of {name}")]
    Configure {
        /// What was to be done, as in "can't … of kdev0".
        step: String,
        /// The device.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl DeviceError {
    /// What a person can do about it.
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Unsupported(_) => "use kdev on Linux",
            Self::Name { .. } | Self::NameTaken { .. } => {
                "choose another name, or none to get the first free one"
            }
            Self::Open(error) if error.kind() == io::ErrorKind::NotFound => {
                "load the kernel's tun module (`modprobe tun`); in a container, pass /dev/net/tun in"
            }
            Self::Open(error) | Self::Create { source: error, .. }
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                "run the daemon as root or with CAP_NET_ADMIN"
            }
            _ => "see the kernel's log (`dmesg`) for what it refused",
        }
    }
}
