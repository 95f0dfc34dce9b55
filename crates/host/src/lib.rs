//! TUN device, routes and resolver settings of the machine.
//!
//! One module per concern. Each has the same signatures on every system; Linux is implemented, any
//! other system answers with [`Unsupported`], so that callers need no conditional compilation.
//!
//! What is decided (which routes, which file, which bytes) is decided by pure functions; the rest
//! compares it with what the system has and makes the difference. Device and routes vanish with the
//! process; the resolver's file does not, so it has a journal and a guard.

pub mod device;
pub mod link;
#[cfg(target_os = "linux")]
mod netlink;
pub mod resolver;
pub mod routes;

/// A thing that kdev does on Linux only, so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("kdev can't {what} on {} yet", std::env::consts::OS)]
pub struct Unsupported {
    /// What was asked for, as in "can't …".
    pub what: &'static str,
}

#[cfg(all(test, target_os = "linux"))]
#[path = "../tests/support/mod.rs"]
mod support;
#[cfg(all(test, target_os = "linux"))]
extern crate self as kdev_host;
