//! The manager in the cluster: dials, lookups, router and restoration.

mod calls;
mod flows;
mod gate;
mod health;
mod intercept;
mod intercepts;
mod lapsed;
mod lease;
mod lookup;
mod manager;
mod peer;
mod pending;
mod probe;
mod resumable;
mod router;
mod server;
mod sessions;
mod settings;
mod sweep;
mod vouching;
mod waiting;

use std::process::ExitCode;

use kdev_common::{fault, logging, runtime};
use settings::Settings;

fn main() -> ExitCode {
    logging::to_stderr();
    fault::arm();
    let settings = match Settings::from_env(|name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!(%error, "the manager can't start");
            return ExitCode::FAILURE;
        }
    };
    let run = || runtime::start()?.block_on(manager::run(settings));
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the manager ends");
            ExitCode::FAILURE
        }
    }
}
