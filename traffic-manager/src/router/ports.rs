//! The router's ports: one for each port of a Service that somebody has claimed.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kdev_cluster::redirect::{PortRef, Protocol, ServiceName};
use kdev_flow::budget::Budget;
use kube::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{PortLimits, RouterPort};

/// All of them; each lives as long as somebody has it.
pub struct RouterPorts {
    pub(super) client: Client,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) limits: PortLimits,
    pub(super) tasks: TaskTracker,
    /// Cancelled when the manager ends.
    pub(super) ending: CancellationToken,
    /// What the datagrams of all ports may hold while they wait.
    pub(super) datagrams: Arc<Budget>,
    open: Mutex<HashMap<Key, Weak<RouterPort>>>,
}

/// Most bytes of datagrams that wait for their flows on all ports together.
const DATAGRAMS: u64 = 32 << 20;

type Key = (ServiceName, u16, Protocol);

impl RouterPorts {
    /// Has none yet; they listen on each of `addresses`, and what they need runs on `tasks`. Clients are told of it when
    /// the manager is `ending`.
    pub fn new(
        client: Client,
        addresses: Vec<IpAddr>,
        limits: PortLimits,
        tasks: TaskTracker,
        ending: CancellationToken,
    ) -> Self {
        Self {
            client,
            addresses,
            limits,
            tasks,
            ending,
            datagrams: Arc::new(Budget::new(DATAGRAMS)),
            open: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Weak<RouterPort>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses that they listen on.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The port for a Service's port, opened if it isn't.
    ///
    /// # Errors
    ///
    /// When no port is free on all addresses.
    pub async fn get(&self, service: &ServiceName, port: &PortRef) -> io::Result<Arc<RouterPort>> {
        let key = (service.clone(), port.number, port.protocol);
        if let Some(open) = self.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(open);
        }
        let opened = RouterPort::open(self, service, port);
        let opened = Arc::new(opened.await?);
        let mut all = self.lock();
        all.retain(|_, port| port.strong_count() > 0);
        // Somebody may have been faster; claims on one port have to lead to one.
        if let Some(open) = all.get(&key).and_then(Weak::upgrade) {
            return Ok(open);
        }
        all.insert(key, Arc::downgrade(&opened));
        Ok(opened)
    }
}
