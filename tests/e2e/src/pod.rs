//! Pods as the node sees them: their network, from within which a test listens and connects as a
//! program of the pod's would, and their process.

use std::net::{IpAddr, SocketAddr, TcpListener};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::namespace::Network;

/// See the module.
#[derive(Debug)]
pub struct PodPlace {
    /// The pod's name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// The process that its container began with.
    pub pid: i32,
    /// Its network.
    pub network: Network,
}

impl PodPlace {
    /// The running pods of a namespace that have a label, `key=value`; each of one container.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn all(cluster: &Cluster, namespace: &str, label: &str) -> Vec<Self> {
        let list = cluster.get(&["-n", namespace, "pods", "-l", label]);
        let tasks = cluster
            .on_node(&["ctr", "-n", "k8s.io", "task", "ls"])
            .ok()
            .lines();
        let items = list["items"].as_array().into_iter().flatten();
        let all: Vec<Self> = items.filter_map(|pod| Self::of(pod, &tasks)).collect();
        assert!(!all.is_empty(), "no pod {label} in {namespace}: {list:#}");
        all
    }

    /// The manager's pod.
    #[track_caller]
    pub fn manager(cluster: &Cluster) -> Self {
        let label = "app.kubernetes.io/name=kdev-traffic-manager";
        let mut all = Self::all(cluster, "kdev", label);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn of(pod: &Value, tasks: &[String]) -> Option<Self> {
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            return None;
        }
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str()?;
        let id = id.strip_prefix("containerd://")?;
        // "ID PID RUNNING"
        let task = tasks.iter().find(|line| line.starts_with(id))?;
        let pid = task.split_whitespace().nth(1)?.parse().ok()?;
        Some(Self {
            name: pod["metadata"]["name"].as_str()?.to_owned(),
            address: pod["status"]["podIP"].as_str()?.parse().ok()?,
            pid,
            network: Network::of(pid).ok()?,
        })
    }

    /// Listens on a free port of the pod's.
    #[track_caller]
    pub fn listen(&self) -> (TcpListener, SocketAddr) {
        self.network.inside(|| {
            let listener = TcpListener::bind((self.address, 0)).expect("a port is free");
            let address = listener.local_addr().expect("it is bound");
            (listener, address)
        })
    }
}
