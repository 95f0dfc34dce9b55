//! What the daemon is started with.

use clap::{Parser, Subcommand};

use crate::daemon::StartedBy;

/// The privileged half of kdev; `kdev connect` starts it.
#[derive(Debug, Parser)]
#[command(name = "kdev-rootd", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run, as a service or for one user.
    Run {
        /// User id of the user it is for; a system service without it.
        #[arg(long, value_name = "UID")]
        owner: Option<u32>,
    },
    /// Start a detached daemon for one user, and return once it serves.
    Launch {
        /// User id of the user it is for.
        #[arg(long, value_name = "UID")]
        owner: u32,
        /// What it logs, in the syntax of KDEV_LOG.
        #[arg(long, value_name = "FILTER")]
        log: Option<String>,
    },
    /// Restores the resolver's file when the daemon dies; the daemon starts it.
    #[command(hide = true)]
    Guard,
}

/// How a daemon with this owner was started.
pub fn started_by(owner: Option<u32>) -> StartedBy {
    owner.map_or(StartedBy::Service, StartedBy::User)
}
