//! A workload of a test's own.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::who_answers;
use crate::wait;

const READY: Duration = Duration::from_secs(60);

/// A namespace with the Deployment and Service `web`: http on 80, an echo on 7 over TCP and over UDP.
#[derive(Debug)]
pub struct Workload<'a> {
    cluster: &'a Cluster,
    namespace: Namespace<'a>,
}

/// A pod of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its identity: changes when it is replaced.
    pub uid: String,
    /// How often its container was started again.
    pub restarts: u64,
}

impl<'a> Workload<'a> {
    /// Makes it in a namespace of its own, and waits until it serves.
    pub fn up(cluster: &'a Cluster, topic: &str) -> Self {
        let namespace = Namespace::new(cluster, topic);
        let made = Self { cluster, namespace };
        cluster.apply(&made.objects());
        let name = made.namespace();
        cluster
            .kubectl(&[
                "-n",
                name,
                "rollout",
                "status",
                "--timeout=60s",
                "deploy/web",
            ])
            .ok();
        let address = made.address(80);
        wait::until_true("kube-proxy knows the Service", READY, || {
            made.slices().len() == 1 && cluster.node().inside(|| who_answers(address)).is_ok()
        });
        made
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }

    /// Runs kubectl in its namespace.
    #[track_caller]
    pub fn kubectl(&self, args: &[&str]) -> crate::command::Outcome {
        let namespace = ["-n", self.namespace()];
        self.cluster.kubectl(&[&namespace[..], args].concat())
    }

    /// Makes one more Service in front of it.
    pub fn add_service(&self, name: &str, spec: &Value) {
        let metadata = json!({ "name": name, "namespace": self.namespace() });
        let kind = "Service";
        self.cluster.apply(
            &json!({ "apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec }),
        );
    }

    /// Makes one more Service in front of it, of one port: http on 80. Returns its address, once it serves there.
    pub fn add_single(&self, name: &str) -> SocketAddr {
        let port = json!({ "name": "http", "port": 80, "targetPort": "http" });
        let spec = json!({ "selector": { "app": "web" }, "ports": [port] });
        self.add_service(name, &spec);
        let service = self.cluster.get(&["-n", self.namespace(), "service", name]);
        let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
        let address: IpAddr = address
            .parse()
            .unwrap_or_else(|_| panic!("no address: {service}"));
        let address = (address, 80).into();
        wait::until_true("kube-proxy knows the Service", READY, || {
            let node = self.cluster.node();
            node.inside(|| who_answers(address)).is_ok()
        });
        address
    }

    /// The Service as it is now.
    pub fn service(&self) -> Value {
        self.cluster
            .get(&["-n", self.namespace(), "service", "web"])
    }

    /// The address of one of the Service's ports.
    pub fn address(&self, port: u16) -> SocketAddr {
        let service = self.service();
        let address = service["spec"]["clusterIP"].as_str().unwrap_or_default();
        let address: IpAddr = address
            .parse()
            .unwrap_or_else(|_| panic!("no address: {service}"));
        (address, port).into()
    }

    /// Who wrote the Service's slices last: kdev those too that it has borrowed from the cluster's controller.
    pub fn slices(&self) -> Vec<String> {
        let label = "kubernetes.io/service-name=web";
        let list = self
            .cluster
            .get(&["-n", self.namespace(), "endpointslices", "-l", label]);
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let key = "endpointslice.kubernetes.io/managed-by";
        let author = |slice: &Value| {
            let metadata = &slice["metadata"];
            let is_borrowed = metadata["annotations"]["kdev.dev/original"].is_string();
            let author = metadata["labels"][key].as_str();
            let author = author.filter(|_| !is_borrowed).unwrap_or("kdev.dev");
            author.to_owned()
        };
        items.iter().map(author).collect()
    }

    /// Its pods.
    pub fn pods(&self) -> Vec<Pod> {
        pods(self.cluster, self.namespace(), "app=web")
    }

    /// Runs the workload's client in one of its pods.
    #[track_caller]
    pub fn in_pod(&self, args: &[&str]) -> crate::command::Outcome {
        let exec = ["exec", "deploy/web", "--", "/workload"];
        self.kubectl(&[&exec[..], args].concat())
    }

    /// Which pod, or who else, answers a request that a pod makes.
    #[track_caller]
    pub fn answers_a_pod(&self) -> String {
        let page = self.in_pod(&["get", "http://web/"]).ok().json();
        page["pod"].as_str().unwrap_or_default().to_owned()
    }

    /// Expects the Service as if nobody had ever touched it.
    #[track_caller]
    pub fn assert_untouched(&self) {
        let service = self.service();
        assert_eq!(
            service["spec"]["selector"],
            json!({ "app": "web" }),
            "{service:#}"
        );
        let annotations = service["metadata"]["annotations"].to_string();
        assert!(!annotations.contains("kdev.dev/"), "{annotations}");
        assert_eq!(self.slices(), ["endpointslice-controller.k8s.io"]);
        let endpoints = self
            .cluster
            .get(&["-n", self.namespace(), "endpoints", "web"]);
        let labels = endpoints["metadata"]["labels"].to_string();
        assert!(!labels.contains("skip-mirror"), "{labels}");
    }

    fn objects(&self) -> Value {
        let metadata = json!({ "name": "web", "namespace": self.namespace() });
        let port = |name: &str, port: u16, protocol: &str| json!({ "name": name, "port": port, "targetPort": name, "protocol": protocol });
        let ports = [
            port("http", 80, "TCP"),
            port("echo", 7, "TCP"),
            port("echo-udp", 7, "UDP"),
        ];
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": { "selector": { "app": "web" }, "ports": ports },
        });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": 2,
                "selector": { "matchLabels": { "app": "web" } },
                "template": { "metadata": { "labels": { "app": "web" } }, "spec": pod() },
            },
        });
        json!({ "apiVersion": "v1", "kind": "List", "items": [service, deployment] })
    }
}

/// The pods of a namespace that a label selector selects.
pub fn pods(cluster: &Cluster, namespace: &str, selector: &str) -> Vec<Pod> {
    let list = cluster.get(&["-n", namespace, "pods", "-l", selector]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut pods: Vec<Pod> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|pod| Pod {
            name: text(&pod["metadata"]["name"]),
            uid: text(&pod["metadata"]["uid"]),
            restarts: pod["status"]["containerStatuses"][0]["restartCount"]
                .as_u64()
                .unwrap_or(0),
        })
        .collect();
    pods.sort();
    pods
}

/// What a pod of the workload's is made of.
pub(crate) fn pod() -> Value {
    let name = json!({ "fieldRef": { "fieldPath": "metadata.name" } });
    let port = |name: &str, port: u16, protocol: &str| json!({ "name": name, "containerPort": port, "protocol": protocol });
    let ports = [
        port("http", 8080, "TCP"),
        port("echo", 7007, "TCP"),
        port("echo-udp", 7007, "UDP"),
    ];
    json!({
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "web",
            "image": "kdev.test/workload:1",
            "env": [{ "name": "POD_NAME", "valueFrom": name }],
            "ports": ports,
            "readinessProbe": { "httpGet": { "path": "/", "port": "http" }, "periodSeconds": 1 },
        }],
    })
}

/// A namespace that goes when this is dropped.
#[derive(Debug)]
pub struct Namespace<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> Namespace<'a> {
    /// Makes one; its name is new, as an earlier one may still be going.
    pub fn new(cluster: &'a Cluster, topic: &str) -> Self {
        let made = Self::only_named(cluster, topic);
        cluster.kubectl(&["create", "namespace", &made.name]).ok();
        made
    }

    /// Only chooses the name; somebody else makes it.
    pub fn only_named(cluster: &'a Cluster, topic: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            cluster,
            name: format!("{topic}-{}-{count}", std::process::id()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        let args = [
            "delete",
            "namespace",
            &self.name,
            "--wait=false",
            "--ignore-not-found",
        ];
        self.cluster.kubectl(&args);
    }
}
