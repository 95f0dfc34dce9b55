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
mod wanted;

use std::process::ExitCode;

use kdev_common::{detach, fault, logging, paths, runtime};

fn main() -> ExitCode {
    detach::settle();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "kdev-userd ends");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let dirs = paths::UserDirs::find()
        .ok_or_else(|| anyhow::anyhow!("this user has no home directory; set HOME"))?;
    logging::to_directory(&dirs.state, "kdev-userd")?;
    detach::raise_descriptor_limit();
    fault::arm();
    let runtime = runtime::start()?;
    let done = runtime.block_on(daemon::run(dirs));
    // A credential plugin can't be cancelled; nobody waits for it any more.
    runtime.shutdown_background();
    done
}
