//! A program on the laptop or the node that runs as long as it is wanted.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Ends when this is dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
    line: String,
}

impl Background {
    /// Starts it and waits for its first line.
    ///
    /// # Errors
    ///
    /// When it can't be started, ends, or is silent for so long.
    pub fn start(command: Command, patience: Duration) -> anyhow::Result<Self> {
        Self::start_until(command, "", patience)
    }

    /// Starts it and waits for a line that has this text in it.
    ///
    /// # Errors
    ///
    /// When it can't be started, ends, or doesn't say it for so long.
    pub fn start_until(
        mut command: Command,
        text: &'static str,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let line = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| line.clone())?;
        let output = child.stdout.take().context("its output is piped")?;
        let mut started = Self { child, line };
        let (sender, said) = mpsc::sync_channel(1);
        // Reads on afterwards: a program whose output nobody takes stands still.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.contains(text) {
                    let _ = sender.try_send(());
                }
            }
        });
        match said.recv_timeout(patience) {
            Ok(()) => Ok(started),
            Err(RecvTimeoutError::Timeout) => {
                bail!("{}: not ready after {patience:?}", started.line)
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = started.child.wait()?;
                bail!("{}: {status}", started.line)
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let Ok(pid) = i32::try_from(self.child.id()) else {
            return;
        };
        // The driver hands the signal on; killed itself, it couldn't.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}
