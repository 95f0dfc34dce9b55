//! One daemon per directory, held by a lock that the kernel takes back when the process dies.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// How long a daemon that is ending may take.
pub const HANDOVER: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

/// The right to be the only daemon of its kind; given back when dropped, or by the kernel.
#[derive(Debug)]
pub struct Instance {
    _lock: Flock<File>,
}

/// Why this process may not be the daemon.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another one runs.
    #[error("another daemon holds {path}")]
    Running {
        /// The lock file.
        path: String,
    },
    /// The directory or the lock file couldn't be made.
    #[error("can't make {path}")]
    Make {
        /// What couldn't be made.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Instance {
    /// Makes `dir` with `mode` where it is missing and takes `<dir>/<process>.lock`.
    ///
    /// A holder that doesn't serve, as `serves` tells, is one that is ending: it is waited for.
    /// Blocks for at most [`HANDOVER`].
    ///
    /// # Errors
    ///
    /// [`InstanceError::Running`] when another process holds the lock and serves, or doesn't end.
    pub fn acquire(
        dir: &Path,
        mode: u32,
        process: &str,
        serves: impl Fn() -> bool,
    ) -> Result<Self, InstanceError> {
        make_dir(dir, mode)?;
        let path = dir.join(format!("{process}.lock"));
        let deadline = Instant::now() + HANDOVER;
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)
                .map_err(|source| made(&path, source))?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self { _lock: lock }),
                Err((_, Errno::EWOULDBLOCK)) if serves() || Instant::now() > deadline => {
                    return Err(InstanceError::Running {
                        path: path.display().to_string(),
                    });
                }
                // flock(2) can wait, but not with a deadline.
                Err((_, Errno::EWOULDBLOCK)) => std::thread::sleep(LOOK),
                Err((_, errno)) => return Err(made(&path, errno.into())),
            }
        }
    }
}

fn make_dir(dir: &Path, mode: u32) -> Result<(), InstanceError> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .map_err(|source| made(dir, source))?;
    // The umask of whoever started the daemon must not decide who reaches its sockets.
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(mode))
        .map_err(|source| made(dir, source))
}

fn made(path: &Path, source: io::Error) -> InstanceError {
    InstanceError::Make {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_that_one_runs() {
        let dir = tempfile::tempdir().unwrap();
        let first = Instance::acquire(dir.path(), 0o700, "x", || false).unwrap();
        let second = Instance::acquire(dir.path(), 0o700, "x", || true);
        assert!(matches!(second, Err(InstanceError::Running { .. })));
        drop(first);
        assert!(Instance::acquire(dir.path(), 0o700, "x", || true).is_ok());
    }

    #[test]
    fn a_daemon_that_is_ending_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let ending = std::cell::Cell::new(Some(
            Instance::acquire(dir.path(), 0o700, "x", || false).unwrap(),
        ));
        let next = Instance::acquire(dir.path(), 0o700, "x", || {
            drop(ending.take());
            false
        });
        assert!(next.is_ok());
    }
}
