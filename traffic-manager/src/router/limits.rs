//! The limits of the router's ports.

/// What one port, and each of its connections, may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortLimits {
    /// Of each connection.
    pub connection: kdev_router::Limits,
    /// Most connections at once; more wait in the kernel's queue.
    pub connections: usize,
}

impl Default for PortLimits {
    fn default() -> Self {
        Self {
            connection: kdev_router::Limits::default(),
            connections: 4096,
        }
    }
}
