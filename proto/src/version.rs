//! Which release this is, and whether two sides understand each other.

use crate::Failure;
use crate::v1::{ErrorKind, Version};

/// The release of this build.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Number of the interfaces; raised when two releases can't work together any more.
pub const PROTOCOL: u32 = 6;

/// What a process of this build answers when asked for its version.
pub fn version_of(process: &str) -> Version {
    Version {
        process: process.to_owned(),
        version: RELEASE.to_owned(),
        protocol: PROTOCOL,
    }
}

/// Checks that a process speaks this build's interfaces.
///
/// # Errors
///
/// [`ErrorKind::Version`], saying which side is the older one and how it is brought up to date.
pub fn check_version(other: &Version) -> Result<(), Failure> {
    if other.protocol == PROTOCOL {
        return Ok(());
    }
    let older_is_other = other.protocol < PROTOCOL;
    let next = match (other.process.as_str(), older_is_other) {
        ("kdev-traffic-manager", true) => "upgrade the manager: `kdev install`",
        ("kdev-rootd", true) => {
            "end the old root daemon: `kdev quit`, or restart the kdev-rootd service"
        }
        (_, true) => "end the old daemon with `kdev quit`, then run the command again",
        (_, false) => "upgrade kdev on this machine",
    };
    Err(Failure::new(
        ErrorKind::Version,
        format!(
            "{} and this kdev don't understand each other",
            other.process
        ),
        format!(
            "{} is release {} with interface {}, this is release {RELEASE} with interface {PROTOCOL}",
            other.process, other.version, other.protocol
        ),
        next,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_side_is_the_one_to_upgrade() {
        let mut manager = version_of("kdev-traffic-manager");
        assert_eq!(check_version(&manager), Ok(()));
        manager.protocol = PROTOCOL - 1;
        assert!(check_version(&manager).is_err_and(|f| f.next.contains("kdev install")));
        manager.protocol = PROTOCOL + 1;
        assert!(check_version(&manager).is_err_and(|f| f.next.contains("on this machine")));
    }
}
