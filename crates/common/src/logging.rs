//! Logging to a rolling file for daemons, to standard error for programs without a directory.
//!
//! The contract: TRACE per packet, DEBUG per flow, INFO per change of a session, WARN is worth waking
//! someone; names and addresses of the user's traffic never above DEBUG.

use std::io;
use std::path::Path;

use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Days of logs that are kept.
const KEPT_FILES: usize = 3;

/// Variable that sets the filter, in the syntax of `tracing_subscriber::EnvFilter`.
pub const FILTER_VARIABLE: &str = "KDEV_LOG";

/// Why logging couldn't start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The directory couldn't be made.
    #[error("can't make the log directory {path}")]
    Directory {
        /// The directory.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file couldn't be opened.
    #[error("can't open a log file in {path}")]
    File {
        /// The directory.
        path: String,
        /// What the appender said.
        #[source]
        source: InitError,
    },
}

fn filter() -> EnvFilter {
    EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// Logs to `<dir>/<process>.<date>.log`, a file per day.
///
/// # Errors
///
/// When the directory or the file can't be made.
pub fn to_directory(dir: &Path, process: &str) -> Result<(), LoggingError> {
    let path = dir.display().to_string();
    std::fs::create_dir_all(dir).map_err(|source| LoggingError::Directory {
        path: path.clone(),
        source,
    })?;
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(process)
        .filename_suffix("log")
        .max_log_files(KEPT_FILES)
        .build(dir)
        .map_err(|source| LoggingError::File { path, source })?;
    // Written in place, not by a thread of its own: a line that explains a crash must not be lost.
    fmt()
        .with_env_filter(filter())
        .with_ansi(false)
        .with_writer(std::sync::Mutex::new(appender))
        .init();
    // A daemon has no standard error that anybody would read.
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a task panicked")));
    Ok(())
}

/// Logs to standard error, as containers want it.
pub fn to_stderr() {
    fmt()
        .with_env_filter(filter())
        .with_ansi(false)
        .with_writer(io::stderr)
        .init();
}
