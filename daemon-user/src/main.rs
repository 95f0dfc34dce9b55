//! The user's daemon: kubeconfig, sessions and intercepts.

mod activation;
mod caller;
mod claims;
mod daemon;
mod failures;
mod leaving;
mod manage;
mod modes;
mod preview;
mod progress;
mod service;
mod session;
mod under_way;
mod wanted;

use std::fs::DirBuilder;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::process::ExitCode;

use kdev_common::causes::with_causes;
use kdev_common::{detach, fault, logging, paths, runtime};

fn main() -> ExitCode {
    detach::settle();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Heard by the command that started it, unless it has served already.
            let _ = writeln!(std::io::stderr(), "{error:#}");
            tracing::error!(error = format!("{error:#}"), "kdev-userd ends");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let dirs = paths::UserDirs::find()
        .ok_or_else(|| anyhow::anyhow!("this user has no home directory; set HOME"))?;
    log(&dirs);
    detach::raise_descriptor_limit();
    fault::arm();
    let runtime = runtime::start()?;
    let done = runtime.block_on(daemon::run(dirs));
    // A credential plugin can't be cancelled; nobody waits for it any more.
    runtime.shutdown_background();
    done
}

/// Logs where logs belong, else beside the socket: a home that is missing or can't be written to is no reason not to
/// serve. Where neither can be written to, the daemon can't listen either, and says so.
fn log(dirs: &paths::UserDirs) {
    let Err(error) = logging::to_directory(&dirs.state, "kdev-userd") else {
        return;
    };
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dirs.run);
    if made.is_ok() && logging::to_directory(&dirs.run, "kdev-userd").is_ok() {
        tracing::warn!(
            error = with_causes(&error),
            "the log is here, as it can't be where it belongs"
        );
    }
}
