//! The `kdev` command: reads what was typed, asks the daemons, shows what they say.

mod args;
mod commands;
mod daemons;
mod holder;
mod mark;
mod names;
mod output;
mod ports;
mod process;
mod rule_args;

use std::process::ExitCode;

use clap::Parser as _;
use kdev_proto::Failure;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(args)),
        Err(error) => Err(Failure::internal("kdev can't start", error)),
    };
    match done.and_then(|code| output::written().map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output::failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
