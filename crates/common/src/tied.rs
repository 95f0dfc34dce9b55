//! A program that doesn't outlive whoever started it.

use std::process::Command;

/// Has `command`'s program told to end (SIGTERM) when the thread that starts it ends, however that comes about:
/// prctl(2), `PR_SET_PDEATHSIG`. Only Linux can do that; elsewhere the program lives on.
///
/// What the program starts itself isn't told.
pub fn tie(command: &mut Command) {
    #[cfg(target_os = "linux")]
    linux::tie(command);
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use nix::errno::Errno;
    use nix::sys::prctl::set_pdeathsig;
    use nix::sys::signal::Signal;
    use nix::unistd::{Pid, getppid};

    pub(super) fn tie(command: &mut Command) {
        let parent = Pid::this();
        let told = move || {
            set_pdeathsig(Signal::SIGTERM)?;
            // It may have ended before.
            match getppid() == parent {
                true => Ok(()),
                false => Err(Errno::ESRCH.into()),
            }
        };
        // SAFETY: between fork(2) and execve(2) it makes two system calls, and allocates nothing.
        unsafe { command.pre_exec(told) };
    }
}
