//! The cluster, the laptop beside it, and what is there before anything is measured.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use kdev_e2e::cluster::Cluster;
use kdev_e2e::laptop::{Laptop, User};
use kdev_e2e::tools;
use serde_json::{Value, json};

/// Where everything of the benchmark's own is in the cluster.
pub const NAMESPACE: &str = "bench";
/// Where the load server listens.
pub const PORT: u16 = 7100;
/// Where a pod's name server listens.
const DNS: u16 = 53;
/// The manager's namespace, and the name of its Service and Deployment.
const MANAGER: [&str; 2] = ["kdev", "kdev-traffic-manager"];
/// The kernel's table with the kernel's own way to the pods.
const TABLE: &str = "7100";

/// See the module.
#[derive(Debug)]
pub struct Scene {
    /// The cluster.
    pub cluster: Cluster,
    /// The load server, by its pod's address.
    pub server: SocketAddr,
    /// The pod that has it.
    pub pod: String,
    /// The cluster's name server, by its pod's address.
    pub names: SocketAddr,
    /// The pod that has that.
    pub names_pod: String,
    /// The addresses of the node's pods.
    pub pods: String,
    /// The API server.
    pub api_server: SocketAddr,
    /// The manager's own port, by the node's address, if it has one.
    pub manager: Option<SocketAddr>,
    /// Whether `kdev connect` can be told which carriers to use.
    pub chooses_carriers: bool,
}

impl Scene {
    /// Puts into a cluster that is up what is needed.
    ///
    /// # Errors
    ///
    /// When no such cluster is up, or it shows something else than expected. What the test library does panics on
    /// failure.
    pub fn set(name: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(
            Cluster::is_up(name),
            "no cluster named {name} is up; `target/cluster/bin/kdev-cluster up --name {name}` brings one up, \
             and `tests/bench/run` one of its own"
        );
        let cluster = Cluster::existing(name);
        cluster.import("traffic-manager");
        cluster.import("bench-load");
        // A session that somebody left would be what every way leads through.
        cluster
            .laptop()
            .run(User::Dev, &["sh", "-c", "command -v kdev && kdev quit"]);
        furnish(&cluster.laptop());
        cluster.apply(&server());
        let ready = ["wait", "--for=condition=Ready", "--timeout=60s", "pod/load"];
        cluster
            .kubectl(&[&["-n", NAMESPACE], &ready[..]].concat())
            .ok();
        cluster
            .laptop()
            .run_for(User::Dev, &["kdev", "install"], Duration::from_secs(180))
            .ok();
        let (pod, address) = only_pod(&cluster, NAMESPACE, "app=load")?;
        let (names_pod, names) = only_pod(&cluster, "kube-system", "k8s-app=kube-dns")?;
        let nodes = cluster.get(&["nodes"]);
        let node = text(&nodes, "/items/0/status/addresses/0/address")?;
        let node: IpAddr = node.parse()?;
        let pods = text(&nodes, "/items/0/spec/podCIDR")?;
        kernel_route(&cluster.laptop(), &pods, node);
        let help = cluster
            .laptop()
            .run(User::Dev, &["kdev", "connect", "--help"])
            .ok();
        Ok(Self {
            server: (address, PORT).into(),
            pod,
            names: (names, DNS).into(),
            names_pod,
            pods,
            api_server: (node, 6443).into(),
            manager: manager_port(&cluster).map(|port| (node, port).into()),
            chooses_carriers: help.stdout.contains("--direct"),
            cluster,
        })
    }

    /// What the manager's container asks for, and what it may have at most.
    pub(crate) fn manager_resources(&self) -> Value {
        let [namespace, name] = MANAGER;
        let manager = self.cluster.get(&["-n", namespace, "deployment", name]);
        let resources = "/spec/template/spec/containers/0/resources";
        manager.pointer(resources).cloned().unwrap_or_default()
    }

    /// The laptop.
    pub fn laptop(&self) -> Laptop<'_> {
        self.cluster.laptop()
    }

    /// A command on the laptop that isn't run yet.
    pub fn command(&self, user: &str, args: &[&str]) -> Command {
        self.driver(&["lap", "--name", self.cluster.name(), "--as", user], args)
    }

    /// The same on the node.
    pub fn on_node(&self, args: &[&str]) -> Command {
        self.driver(&["node", "--name", self.cluster.name()], args)
    }

    fn driver(&self, first: &[&str], args: &[&str]) -> Command {
        let mut command = Command::new(tools::cluster_program("kdev-cluster"));
        command.args(first).args(args);
        command.env_remove("KUBECONFIG").current_dir("/");
        command
    }
}

fn furnish(laptop: &Laptop<'_>) {
    laptop.furnish();
    let programs = [
        tools::program("kdev-bench-load"),
        tools::cluster_program("kubectl"),
    ];
    let programs = programs.map(|path| path.display().to_string());
    let [load, kubectl] = programs.each_ref().map(String::as_str);
    let install = ["install", "-m", "755", load, kubectl, "/usr/local/bin/"];
    laptop.run(User::Root, &install).ok();
}

/// The kernel's own way to the pods is for one user only, so that it can be there beside kdev's.
fn kernel_route(laptop: &Laptop<'_>, pods: &str, node: IpAddr) {
    let line = format!(
        "ip rule del lookup {TABLE} 2> /dev/null
         set -e
         ip rule add uidrange $(id -u eve)-$(id -u eve) lookup {TABLE}
         ip route replace {pods} via {node} table {TABLE}"
    );
    laptop.shell(User::Root, &line).ok();
}

fn only_pod(cluster: &Cluster, namespace: &str, label: &str) -> anyhow::Result<(String, IpAddr)> {
    let pods = cluster.get(&["-n", namespace, "pods", "-l", label]);
    let address = text(&pods, "/items/0/status/podIP")?;
    Ok((text(&pods, "/items/0/metadata/name")?, address.parse()?))
}

fn manager_port(cluster: &Cluster) -> Option<u16> {
    let [namespace, name] = MANAGER;
    let list = cluster.get(&["-n", namespace, "services"]);
    let services = list["items"].as_array()?;
    let service = services
        .iter()
        .find(|service| service["metadata"]["name"] == name)?;
    let port = service["spec"]["ports"][0]["nodePort"].as_u64()?;
    u16::try_from(port).ok()
}

fn text(value: &Value, pointer: &str) -> anyhow::Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    Ok(found
        .with_context(|| format!("no {pointer} in {value:#}"))?
        .to_owned())
}

fn server() -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } },
        {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "load", "namespace": NAMESPACE, "labels": { "app": "load" } },
            "spec": {
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "load",
                    "image": "kdev.test/bench-load:1",
                    "args": ["serve"],
                    "readinessProbe": { "tcpSocket": { "port": PORT }, "periodSeconds": 1 },
                }],
            },
        },
    ] })
}
