//! A connection to the kernel's routing messages, with the task that drives it.

use std::io;

use rtnetlink::Handle;
use tokio::task::AbortHandle;

/// A connection whose task ends with it.
#[derive(Debug)]
pub(crate) struct Netlink {
    handle: Handle,
    task: AbortHandle,
}

impl Netlink {
    /// Connects to the kernel, in the network namespace of the calling thread.
    ///
    /// Must be called within a tokio runtime.
    pub(crate) fn connect() -> io::Result<Self> {
        // The messages are multicasts and late answers; nothing is subscribed to here.
        let (connection, handle, _messages) = rtnetlink::new_connection()?;
        let task = tokio::spawn(connection).abort_handle();
        Ok(Self { handle, task })
    }

    /// Where requests start.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the kernel said, as the error that the same system call would have returned.
pub(crate) fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
