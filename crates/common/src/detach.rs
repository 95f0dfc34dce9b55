//! How a daemon leaves the terminal of whoever started it.
//!
//! `kdev connect | tail -1` must return: a daemon that kept the caller's standard output, or any other
//! descriptor of a shell's pipe, would hold that pipe open for its whole life.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Starts `program` with nothing of the caller's terminal, and one variable more than the caller's
/// where it is given; its standard error is `error`, until it calls [`hush`]. The child must call [`settle`] first thing.
///
/// # Errors
///
/// When the program can't be started.
pub fn spawn(
    program: &Path,
    args: &[&OsStr],
    variable: Option<(&str, &str)>,
    error: Stdio,
) -> io::Result<Child> {
    Command::new(program)
        .args(args)
        .envs(variable)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(error)
        .current_dir("/")
        .spawn()
}

/// Leaves the caller's session and closes what a shell may have left open above standard error.
///
/// Call before any descriptor is opened and any thread is started.
pub fn settle() {
    // Fails only for a process group leader, which has a terminal session of its own choosing.
    let _ = nix::unistd::setsid();
    // SAFETY: close_range(2) takes plain numbers; nothing in this process owns a descriptor above 2
    // yet, as this runs first thing in main.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// Leaves the standard error on which whoever started the daemon hears why it can't serve: once it does, it
/// belongs to nobody.
///
/// # Errors
///
/// When the system has no descriptor left.
pub fn hush() -> io::Result<()> {
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    nix::unistd::dup2_stderr(null)?;
    Ok(())
}

/// Lets this process open as many descriptors as the system allows it: a connection that is carried
/// is a socket, and the soft limit of a login shell is 1,024.
pub fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Finds a program of kdev's own: beside this one, as they are installed together.
///
/// # Errors
///
/// When this process can't tell its own path, or there is no such program beside it.
pub fn sibling(name: &str) -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!(
            "{} isn't there; kdev's programs are installed side by side",
            path.display()
        ),
    ))
}
