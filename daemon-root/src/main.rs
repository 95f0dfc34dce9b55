//! The privileged daemon: device, routes, DNS and the userspace stack.

mod args;
mod carrier_socket;
mod carriers;
mod daemon;
mod datagram_flows;
mod dns;
mod flow_link;
mod hand_over;
mod held;
mod launch;
mod lease;
mod lease_view;
mod opening;
mod packets;
mod service;
mod shard;
mod shards;
mod tcp_flow;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser as _;
use kdev_common::{detach, logging, paths, runtime};

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Launch { owner, log } => launch::launch(owner, log.as_deref()),
        Command::Guard => kdev_host::resolver::run_guard(Path::new(paths::ROOT_STATE_DIR))
            .map(drop)
            .map_err(Into::into),
        Command::Run { owner } => run(args::started_by(owner)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "kdev-rootd ends");
            launch::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(started_by: daemon::StartedBy) -> anyhow::Result<()> {
    detach::settle();
    logging::to_directory(Path::new(paths::ROOT_LOG_DIR), "kdev-rootd")?;
    detach::raise_descriptor_limit();
    runtime::start()?.block_on(daemon::run(started_by))
}
