//! Noticing that the machine's network has changed: a cable, another Wi-Fi, a VPN.

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "unsupported.rs"]
mod system;

use std::io;

use crate::Unsupported;

/// Why changes can't be noticed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// This system isn't supported.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The kernel doesn't tell.
    #[error("can't listen to the kernel's network changes")]
    Listen(#[source] io::Error),
}

/// The machine's changes of network devices, addresses and routes, but for kdev's own routes.
#[derive(Debug)]
pub struct Changes {
    system: system::Changes,
}

/// Begins to listen, in the calling thread's network namespace: what happens from now on counts.
///
/// Must be called within a tokio runtime.
///
/// # Errors
///
/// When the kernel doesn't tell.
pub fn changes() -> Result<Changes, LinkError> {
    Ok(Changes {
        system: system::Changes::listen()?,
    })
}

impl Changes {
    /// Waits until something has changed and then been quiet for 100 ms, or has gone on changing for
    /// a second: a new Wi-Fi is a dozen changes. Cancel safe.
    ///
    /// # Errors
    ///
    /// When the kernel doesn't tell any more.
    pub async fn changed(&mut self) -> Result<(), LinkError> {
        self.system.changed().await.map_err(LinkError::Listen)
    }
}
