//! Starting the daemon so that `sudo` returns.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kdev_common::logging::FILTER_VARIABLE;
use kdev_common::{detach, paths};

/// How long the daemon may take until it serves.
const START: Duration = Duration::from_secs(10);
/// Between two looks: neither a socket nor a child can be waited for together with the other.
const LOOK: Duration = Duration::from_millis(5);

/// Starts a detached daemon, which logs what `filter` says, and waits until it serves.
pub fn launch(owner: u32, filter: Option<&str>) -> anyhow::Result<()> {
    if !nix::unistd::Uid::effective().is_root() {
        bail!("this must run as root: it makes a network device and sets routes");
    }
    let program = std::env::current_exe().context("can't tell where kdev-rootd is")?;
    let owner = owner.to_string();
    let args = ["run", "--owner", &owner].map(OsStr::new);
    let filter = filter.map(|filter| (FILTER_VARIABLE, filter));
    let mut child =
        detach::spawn(&program, &args, filter, Stdio::null()).context("can't start kdev-rootd")?;
    let deadline = Instant::now() + START;
    while std::os::unix::net::UnixStream::connect(paths::root_socket()).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!(
                "it ended at once ({status}); its log is in {}",
                paths::ROOT_LOG_DIR
            );
        }
        if Instant::now() > deadline {
            bail!(
                "it doesn't serve after 10 s; its log is in {}",
                paths::ROOT_LOG_DIR
            );
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Says on standard error why it failed, for whoever started it by hand.
pub fn complain(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "kdev-rootd: {error:#}");
}
