//! A namespace with Services of every kind that can be intercepted, in front of pods of every kind.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::who_answers;
use crate::wait;
use crate::workload::{self, Namespace, Pod};

const READY: Duration = Duration::from_secs(60);
/// Whatever a person or a controller changes of an object; what stays is what an intercept must not change.
const SETTLES: Duration = Duration::from_secs(10);

/// How a Service is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialled {
    /// By its own address, from the node.
    Inside,
    /// By a port of the node, from a machine beside it.
    Outside,
}

/// One way to have a Service.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// The Service's name.
    pub service: &'static str,
    /// What `kdev intercept --port LOCAL:` names, and the number that it means.
    pub port: (&'static str, u16),
    /// The label `app` of its pods.
    pub app: &'static str,
    /// How it is dialled.
    pub dialled: Dialled,
}

const fn inside(service: &'static str, port: (&'static str, u16), app: &'static str) -> Kind {
    Kind {
        service,
        port,
        app,
        dialled: Dialled::Inside,
    }
}

const fn outside(service: &'static str) -> Kind {
    Kind {
        dialled: Dialled::Outside,
        ..inside(service, ("http", 80), "bare")
    }
}

/// All of them.
pub const KINDS: [Kind; 15] = [
    inside("of-statefulset", ("http", 80), "set"),
    inside("of-daemonset", ("http", 80), "daemon"),
    inside("of-replicaset", ("http", 80), "replica"),
    inside("of-job", ("http", 80), "job"),
    inside("of-pods", ("http", 80), "bare"),
    // One Service: a target with a name, and one with a number; asked for by name and by number.
    inside("many-ports", ("named", 80), "bare"),
    inside("many-ports", ("8081", 8081), "bare"),
    inside("unnamed-port", ("", 80), "bare"),
    inside("tcp-and-udp", ("7", 7), "bare"),
    inside("other-targets", ("http", 80), "differs"),
    inside("sticky", ("http", 80), "bare"),
    inside("local", ("http", 80), "set"),
    outside("node-port"),
    outside("load-balancer"),
    outside("load-balancer-local"),
];

/// See the module.
#[derive(Debug)]
pub struct Kinds<'a> {
    cluster: &'a Cluster,
    namespace: Namespace<'a>,
}

impl<'a> Kinds<'a> {
    /// Makes them, and waits until each serves.
    pub fn up(cluster: &'a Cluster, topic: &str) -> Self {
        let namespace = Namespace::new(cluster, topic);
        let made = Self { cluster, namespace };
        let items: Vec<Value> = made.pods_of_kinds().into_iter().chain(services()).collect();
        let items: Vec<Value> = items.into_iter().map(|one| made.placed(one)).collect();
        cluster.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": items }));
        for kind in KINDS {
            let pods = if kind.app == "daemon" { 1 } else { 2 };
            wait::until_true("every pod is ready", READY, || {
                made.endpoints(kind.service) == pods
            });
            wait::until_true("kube-proxy knows the Service", READY, || {
                made.from(&kind, || who_answers(made.address(&kind)).is_ok())
            });
        }
        made
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }

    /// Where a Service is dialled.
    pub fn address(&self, kind: &Kind) -> SocketAddr {
        let service = self.service(kind.service);
        let spec = &service["spec"];
        match kind.dialled {
            Dialled::Inside => {
                let address = spec["clusterIP"].as_str().and_then(|ip| ip.parse().ok());
                let address: IpAddr = address.unwrap_or_else(|| panic!("no address: {service}"));
                (address, kind.port.1).into()
            }
            Dialled::Outside => {
                let port = spec["ports"][0]["nodePort"].as_u64();
                let port = port.and_then(|port| u16::try_from(port).ok());
                (self.node(), port.expect("a port of the node")).into()
            }
        }
    }

    /// Does something from where a Service is dialled.
    pub fn from<T: Send>(&self, kind: &Kind, work: impl FnOnce() -> T + Send) -> T {
        match kind.dialled {
            Dialled::Inside => self.cluster.node().inside(work),
            Dialled::Outside => self.cluster.laptop().network().inside(work),
        }
    }

    /// The pods that have a label `app`.
    pub fn pods(&self, app: &str) -> Vec<Pod> {
        workload::pods(self.cluster, self.namespace(), &format!("app={app}"))
    }

    /// All pods.
    pub fn all_pods(&self) -> Vec<Pod> {
        workload::pods(self.cluster, self.namespace(), "app")
    }

    /// What an intercept may change of a Service, once nothing changes any more.
    #[track_caller]
    pub fn expect(&self, service: &str, before: &Value) {
        let found = wait::within(SETTLES, || (self.look_at(service) == *before).then_some(()));
        if found.is_none() {
            assert_eq!(self.look_at(service), *before, "{service}");
        }
    }

    /// What an intercept may change of a Service.
    pub fn look_at(&self, service: &str) -> Value {
        let object = self.service(service);
        let mut slices: Vec<String> = self
            .slices(service)
            .iter()
            .map(|slice| {
                let labels = &slice["metadata"]["labels"];
                let author = &labels["endpointslice.kubernetes.io/managed-by"];
                let mut ports: Vec<_> = array(&slice["ports"]).map(Value::to_string).collect();
                ports.sort();
                let mut endpoints: Vec<_> = array(&slice["endpoints"])
                    .map(|endpoint| format!("{}{}", endpoint["addresses"], endpoint["conditions"]))
                    .collect();
                endpoints.sort();
                format!("{author} {ports:?} {endpoints:?}")
            })
            .collect();
        slices.sort();
        // What `kubectl apply` remembers is there before and after.
        let annotations = &object["metadata"]["annotations"];
        json!({ "spec": object["spec"], "annotations": annotations, "slices": slices })
    }

    /// A workload's number of replicas.
    pub fn replicas(&self, workload: &str) -> Value {
        let object = self.cluster.get(&["-n", self.namespace(), workload]);
        object["spec"]["replicas"].clone()
    }

    fn service(&self, name: &str) -> Value {
        self.cluster.get(&["-n", self.namespace(), "service", name])
    }

    fn slices(&self, service: &str) -> Vec<Value> {
        let label = format!("kubernetes.io/service-name={service}");
        let get = ["-n", self.namespace(), "endpointslices", "-l", &label];
        array(&self.cluster.get(&get)["items"]).cloned().collect()
    }

    /// How many endpoints of a Service take connections.
    fn endpoints(&self, service: &str) -> usize {
        let slices = self.slices(service);
        let endpoints = slices.iter().flat_map(|slice| array(&slice["endpoints"]));
        endpoints
            .filter(|endpoint| endpoint["conditions"]["ready"] == true)
            .count()
    }

    fn node(&self) -> IpAddr {
        let nodes = self.cluster.get(&["nodes"]);
        let addresses = &nodes["items"][0]["status"]["addresses"];
        let mut internal = array(addresses).filter(|address| address["type"] == "InternalIP");
        let address = internal.next().and_then(|one| one["address"].as_str());
        address
            .and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("no address of the node: {addresses}"))
    }

    fn placed(&self, mut object: Value) -> Value {
        object["metadata"]["namespace"] = json!(self.namespace());
        object
    }

    fn pods_of_kinds(&self) -> Vec<Value> {
        let controlled = |kind: &str, app: &str, more: Value| {
            let mut spec = json!({
                "selector": { "matchLabels": { "app": app } },
                "template": { "metadata": { "labels": { "app": app } }, "spec": workload::pod() },
            });
            for (key, value) in more.as_object().into_iter().flatten() {
                spec[key] = value.clone();
            }
            json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": app }, "spec": spec })
        };
        let set = json!({ "replicas": 2, "serviceName": "set", "podManagementPolicy": "Parallel" });
        let mut once = workload::pod();
        once["restartPolicy"] = json!("Never");
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "job" },
            "spec": {
                "parallelism": 2, "completions": 2,
                "template": { "metadata": { "labels": { "app": "job" } }, "spec": once },
            },
        });
        let bare = |name: &str, app: &str, http: u16| {
            let mut spec = workload::pod();
            let container = &mut spec["containers"][0];
            container["ports"][0]["containerPort"] = json!(http);
            let number = json!({ "name": "HTTP_PORT", "value": http.to_string() });
            if let Some(env) = container["env"].as_array_mut() {
                env.push(number);
            }
            let metadata = json!({ "name": name, "labels": { "app": app } });
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec })
        };
        vec![
            controlled("StatefulSet", "set", set),
            controlled("DaemonSet", "daemon", json!({})),
            controlled("ReplicaSet", "replica", json!({ "replicas": 2 })),
            job,
            bare("bare-1", "bare", 8080),
            bare("bare-2", "bare", 8080),
            bare("differs-1", "differs", 8080),
            bare("differs-2", "differs", 8181),
        ]
    }
}

fn services() -> Vec<Value> {
    let http = json!([{ "name": "http", "port": 80, "targetPort": "http" }]);
    let service = |name: &str, app: &str, more: Value| {
        let mut spec = json!({ "selector": { "app": app }, "ports": http });
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec })
    };
    let many = json!([
        { "name": "named", "port": 80, "targetPort": "http" },
        { "name": "numbered", "port": 8081, "targetPort": 8080 },
        { "name": "echo", "port": 7, "targetPort": "echo" },
    ]);
    let both = json!([
        { "name": "web", "port": 7, "targetPort": "http" },
        { "name": "talk", "port": 7, "targetPort": 7007, "protocol": "UDP" },
    ]);
    let balanced = json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local" });
    vec![
        service("of-statefulset", "set", json!({})),
        service("of-daemonset", "daemon", json!({})),
        service("of-replicaset", "replica", json!({})),
        service("of-job", "job", json!({})),
        service("of-pods", "bare", json!({})),
        service("many-ports", "bare", json!({ "ports": many })),
        service(
            "unnamed-port",
            "bare",
            json!({ "ports": [{ "port": 80, "targetPort": 8080 }] }),
        ),
        service("tcp-and-udp", "bare", json!({ "ports": both })),
        service("other-targets", "differs", json!({})),
        service("sticky", "bare", json!({ "sessionAffinity": "ClientIP" })),
        service("local", "set", json!({ "internalTrafficPolicy": "Local" })),
        service("node-port", "bare", json!({ "type": "NodePort" })),
        service("load-balancer", "bare", json!({ "type": "LoadBalancer" })),
        service("load-balancer-local", "bare", balanced),
    ]
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
