//! The ways to the manager: by a port-forward with the user's credentials, or by its own port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kdev_cluster::client::ClusterClient;
use kdev_cluster::install::{GRPC_PORT, ManagerPod, find_manager};
use kdev_cluster::portforward::{self, Forward};
use kdev_cluster::vouch::{ManagerKey, manager_key};
use kdev_identity::{Connector, Fingerprint, Identity};
use kdev_proto::v1::{ErrorKind, Version};
use kdev_proto::{Failure, check_version};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::failures;

/// How long a direct connection may take: it is tried because it is fast.
const DIAL: Duration = Duration::from_secs(3);

/// The manager as it was found last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its pod.
    pub pod: ManagerPod,
    /// What it will prove to be.
    pub key: ManagerKey,
}

impl Known {
    /// The hash of its key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.key.key
    }

    /// What it says of its version.
    pub fn version(&self) -> Version {
        Version {
            process: "kdev-traffic-manager".to_owned(),
            version: self.key.release.clone(),
            protocol: self.key.protocol,
        }
    }
}

/// Which manager, and as whom.
#[derive(Debug, Clone)]
pub struct ManagerAccess {
    /// The cluster.
    pub cluster: Arc<ClusterClient>,
    /// The manager's namespace.
    pub namespace: String,
    /// Proves the key of this daemon.
    pub connector: Connector,
    known: watch::Sender<Option<Known>>,
}

impl ManagerAccess {
    /// Speaks to the manager in `namespace` as `identity`.
    pub fn new(cluster: Arc<ClusterClient>, namespace: String, identity: Identity) -> Self {
        Self {
            cluster,
            namespace,
            connector: Connector::new(identity),
            known: watch::Sender::new(None),
        }
    }

    /// The manager as it was found last, and notice of another one.
    pub fn known(&self) -> watch::Receiver<Option<Known>> {
        self.known.subscribe()
    }

    /// Finds the manager's pod, and reads its key.
    ///
    /// # Errors
    ///
    /// When there is none, or it is of a release that this one doesn't understand.
    pub async fn find(&self) -> Result<Known, Failure> {
        let client = self.cluster.kube();
        let pod = find_manager(client, &self.namespace)
            .await
            .map_err(|error| failures::manager(&self.namespace, &error))?;
        // Also of the pod that is known: its container may have been started again, with another key.
        let key = manager_key(client, &pod)
            .await
            .map_err(|error| failures::manager_key(&error))?;
        let known = Known { pod, key };
        check_version(&known.version())?;
        self.known.send_if_modified(|last| {
            let is_new = last.as_ref() != Some(&known);
            *last = Some(known.clone());
            is_new
        });
        Ok(known)
    }

    /// Opens a port-forward to the manager.
    ///
    /// # Errors
    ///
    /// When there is none, or it can't be forwarded to.
    pub async fn forward(&self) -> Result<(Known, Forward), Failure> {
        let known = self.find().await?;
        let forward = portforward::open(
            self.cluster.kube(),
            &known.pod.namespace,
            &known.pod.name,
            GRPC_PORT,
        )
        .await
        .map_err(|error| failures::port_forward(&error))?;
        Ok((known, forward))
    }

    /// Connects to the manager's own port at `address`.
    ///
    /// # Errors
    ///
    /// When nobody answers there in time, or the manager hasn't been found yet.
    pub async fn dial(&self, address: SocketAddr) -> Result<(Known, TcpStream), Failure> {
        let known = self.known.borrow().clone();
        let known = known.ok_or_else(|| not_direct(address, &"the manager isn't found yet"))?;
        let stream = tokio::time::timeout(DIAL, TcpStream::connect(address))
            .await
            .map_err(|_| not_direct(address, &"no answer"))?
            .map_err(|error| not_direct(address, &error))?;
        stream
            .set_nodelay(true)
            .map_err(|error| not_direct(address, &error))?;
        Ok((known, stream))
    }
}

/// The manager can't be reached at one of its own addresses.
pub fn not_direct(address: SocketAddr, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        ErrorKind::Manager,
        format!("the manager isn't reached at {address}"),
        why.to_string(),
        "port-forwards are used meanwhile",
    )
}
