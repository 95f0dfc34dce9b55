//! The process that undoes the settings when the daemon can't.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sys::signal::SigSet;

use super::super::{ResolverError, Restored};
use super::journal::{Store, this_process};
use super::undo;

/// The guard, as its parent has it.
#[derive(Debug)]
pub(in crate::resolver) struct Guard {
    child: Child,
    /// Closing it is the signal; the kernel does so when this process dies.
    pipe: Option<ChildStdin>,
}

/// What a guard is called in the list of processes.
const NAME: &str = "kdev-guard";

impl Guard {
    pub(in crate::resolver) fn spawn(
        program: &Path,
        args: &[&OsStr],
    ) -> Result<Self, ResolverError> {
        let failed = |source| ResolverError::Guard {
            program: program.to_owned(),
            source,
        };
        let mut command = Command::new(program);
        command
            // Not the daemon's name: who kills all of those must not kill what mends after them.
            .arg0(NAME)
            .args(args)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: setsid(2) and pthread_sigmask(3) are async-signal-safe, and nothing is allocated.
        unsafe { command.pre_exec(stand_apart) };
        let mut child = command.spawn().map_err(failed)?;
        let mut guard = Self {
            pipe: child.stdin.take(),
            child,
        };
        if let Some(pipe) = &mut guard.pipe {
            pipe.write_all(this_process().as_bytes()).map_err(failed)?;
        }
        Ok(guard)
    }

    pub(in crate::resolver) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(in crate::resolver) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.take());
        if let Err(error) = self.child.wait() {
            tracing::debug!(%error, "the guard can't be waited for");
        }
    }
}

/// Out of reach of the terminal and of signals to the group, from before the program starts: a
/// service manager that stops the daemon sends SIGTERM to the guard as well, and the daemon may
/// still need it then.
fn stand_apart() -> io::Result<()> {
    nix::unistd::setsid()?;
    SigSet::all().thread_block()?;
    Ok(())
}

pub(in crate::resolver) fn run_guard(dir: &Path) -> Result<Restored, ResolverError> {
    // Both are done already, unless somebody else started this process.
    let _ = nix::unistd::setsid();
    let _ = SigSet::all().thread_block();
    let mut owner = String::new();
    // An error is an end as well.
    let _ = io::stdin().read_to_string(&mut owner);
    let store = Store::open(dir)?;
    match store.load()? {
        // A daemon that was started since has undone it, and may have settings of its own.
        Some(journal) if journal.owner == owner => undo(&store, &journal),
        _ => Ok(Restored::Nothing),
    }
}
