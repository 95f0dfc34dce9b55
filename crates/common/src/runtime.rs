//! The threads of kdev's daemons.

use std::io;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};

use crate::memory;

/// A runtime on half of the processors: the programs that talk through kdev need the others, and what is
/// handed from task to task is seldom worth waking another thread for.
///
/// # Errors
///
/// When the system has no threads left.
pub fn start() -> io::Result<Runtime> {
    let processors = available_parallelism().map_or(1, usize::from);
    let runtime = Builder::new_multi_thread()
        .worker_threads((processors / 2).max(1))
        .enable_all()
        .build()?;
    // It ends with the runtime.
    runtime.spawn(memory::give_back());
    Ok(runtime)
}
