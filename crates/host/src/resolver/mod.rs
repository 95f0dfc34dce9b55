//! Whom the machine's programs ask for names.
//!
//! While kdev is connected, they ask kdev's DNS server, which forwards what isn't the cluster's to
//! whom they asked before. On Linux that is one file, `/etc/resolv.conf`, and it outlives a process:
//! a journal is written before the file, a guard process undoes it when the daemon is killed, and
//! the daemon's next start undoes what even the guard couldn't.

mod choose;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "there is no file yet to write it to")
)]
mod config;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "unsupported.rs"]
mod system;

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use self::choose::{Backend, Choice, Manager, Place, ResolverFacts, UPLINKS, choose};
pub use self::config::{MAX_SERVERS, ResolverConfig};
pub use self::error::ResolverError;

/// Where programs look for their DNS servers (resolv.conf(5)).
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What was found when the settings were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// How it is done on this machine, and why so.
    pub choice: Choice,
    /// What programs had before: whom everything that isn't the cluster's is to be forwarded to.
    pub former: ResolverConfig,
}

/// What has become of settings that were to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// The former settings are back, byte for byte.
    Done,
    /// Somebody else has made other settings meanwhile; those stay.
    LeftToOther,
    /// There was nothing to undo.
    Nothing,
}

/// The machine's DNS settings while kdev holds them. They are undone when this is dropped.
///
/// Everything here blocks for as long as a small file takes to reach the disk.
#[derive(Debug)]
pub struct ResolvConf {
    system: system::ResolvConf,
}

impl ResolvConf {
    /// Takes charge of `path`, usually [`RESOLV_CONF`], with the journal in `state_dir`. Nothing is
    /// changed yet.
    pub fn new(path: impl Into<PathBuf>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            system: system::ResolvConf::new(path.into(), state_dir.into()),
        }
    }

    /// Makes programs ask `server` (port 53) and nobody else: musl asks all servers at once and takes
    /// the first answer, be it that there is no such name. What else the file says stays, but for the
    /// options `rotate` and `trust-ad`.
    ///
    /// # Errors
    ///
    /// When the file or the journal can't be read or written; the file is then as it was.
    pub fn apply(&mut self, server: IpAddr) -> Result<Applied, ResolverError> {
        self.system.apply(server)
    }

    /// Looks whether somebody else has rewritten the file since (a DHCP client, a VPN). If so, theirs
    /// becomes what is restored later, the settings are made again, and what they asked for is
    /// returned. The same when the file was a link and its keeper has rewritten what it leads to, or
    /// systemd-resolved has other servers. A file that is missing is somebody's work in progress and
    /// left alone.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply); theirs is left in place then.
    pub fn reapply(&mut self) -> Result<Option<Applied>, ResolverError> {
        self.system.reapply()
    }

    /// Puts back what there was, unless somebody else has rewritten the file.
    ///
    /// # Errors
    ///
    /// When the file can't be written; the journal stays then, so that [`recover`] can try again.
    pub fn restore(&mut self) -> Result<Restored, ResolverError> {
        self.system.restore()
    }

    /// Begins to watch the file.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the system can't watch it.
    pub fn watch(&self) -> Result<Watch, ResolverError> {
        Ok(Watch {
            system: self.system.watch()?,
        })
    }
}

/// Tells when somebody has written the file, or what the settings were made from.
#[derive(Debug)]
pub struct Watch {
    system: system::Watch,
}

impl Watch {
    /// Waits until one of the files has been rewritten, by whomever: ask [`ResolvConf::reapply`].
    /// Files that are being written count when they are complete. Cancel safe.
    ///
    /// # Errors
    ///
    /// When the system can't watch it any more.
    pub async fn changed(&mut self) -> Result<(), ResolverError> {
        self.system.changed().await
    }
}

/// Undoes what a crash left, found by the journal in `state_dir`. Call it at the daemon's start.
///
/// # Errors
///
/// When the journal can't be read or the file can't be written.
pub fn recover(state_dir: &Path) -> Result<Restored, ResolverError> {
    system::recover(state_dir)
}

/// A small process that undoes this process's settings at once when this process is killed.
///
/// It leads a session of its own, takes no signal but SIGKILL, and has none of this process's
/// descriptors but the pipe by whose end it learns of this process's end. When the settings have
/// been undone before, it ends without a trace; dropping this value ends it and waits for it.
#[derive(Debug)]
pub struct ResolverGuard {
    system: system::Guard,
}

impl ResolverGuard {
    /// Starts `program` with `args`, by which it knows that it has to call [`run_guard`]. Do it before
    /// [`ResolvConf::apply`]. `/proc/self/exe` is this program even after an upgrade has replaced it.
    ///
    /// # Errors
    ///
    /// When it can't be started.
    pub fn spawn(program: &Path, args: &[&OsStr]) -> Result<Self, ResolverError> {
        Ok(Self {
            system: system::Guard::spawn(program, args)?,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.system.id()
    }

    /// Whether it still runs; if not, start another one.
    pub fn is_running(&mut self) -> bool {
        self.system.is_running()
    }
}

/// Is the guard: waits until standard input ends, and then undoes the settings that whoever started
/// it has left, by the journal in `state_dir`. Call it first thing in `main`.
///
/// # Errors
///
/// As [`recover`].
pub fn run_guard(state_dir: &Path) -> Result<Restored, ResolverError> {
    system::run_guard(state_dir)
}
