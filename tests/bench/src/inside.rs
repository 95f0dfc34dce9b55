//! What is in the cluster for requests that pods make: one that makes them, two that answer, and Services in
//! front of those; and on the machine, a program that answers what comes there.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kdev_e2e::laptop::User;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::background::Background;
use crate::contender::Contender;
use crate::scene::{NAMESPACE, PORT, Scene};
use crate::work::result;

/// The Services, all of the same pods. Which requests of them come to the machine: all,
pub(crate) const WHOLE: &str = "whole";
/// those with a header,
pub(crate) const RULED: &str = "ruled";
/// those that one rule wants,
pub(crate) const ONE: &str = "one";
/// and those that many rules want.
pub(crate) const MANY: &str = "many";

/// Where the machine's program listens.
const LOCAL: u16 = 17200;
/// How long pods may take to be ready, and a program to listen.
const READY: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(crate) struct Inside<'a> {
    scene: &'a Scene,
    /// The pods that answer.
    pub(crate) backends: Vec<SocketAddr>,
}

/// Where requests go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// By which way.
    pub(crate) contender: Contender,
    /// The address that they are made to.
    pub(crate) address: SocketAddr,
    /// Who has to answer them.
    pub(crate) from: From,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// One of the pods.
    Pod,
    /// The program on the machine.
    Machine,
}

impl From {
    /// As it calls itself.
    fn name(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Machine => "machine",
        }
    }
}

impl<'a> Inside<'a> {
    /// Puts it there.
    ///
    /// # Errors
    ///
    /// When it doesn't become ready.
    pub(crate) fn set(scene: &'a Scene) -> anyhow::Result<Self> {
        scene.cluster.apply(&objects());
        ready(scene, "app in (backend, client)")?;
        let pods = scene
            .cluster
            .get(&["-n", NAMESPACE, "pods", "-l", "app=backend"]);
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let address = |pod: &Value| pod["status"]["podIP"].as_str()?.parse::<IpAddr>().ok();
        let backends = pods.iter().filter_map(address);
        Ok(Self {
            scene,
            backends: backends.map(|address| (address, PORT).into()).collect(),
        })
    }

    /// One of the pods that answer, by its own address.
    pub(crate) fn pod(&self) -> anyhow::Result<Target> {
        Ok(Target {
            contender: Contender::Pod,
            address: *self.backends.first().context("no pod answers")?,
            from: From::Pod,
        })
    }

    /// A Service, which a contender is asked through.
    pub(crate) fn service(
        &self,
        name: &str,
        contender: Contender,
        from: From,
    ) -> anyhow::Result<Target> {
        let service = self.scene.cluster.get(&["-n", NAMESPACE, "service", name]);
        let address = service["spec"]["clusterIP"].as_str();
        let address: IpAddr = address.context("a Service without address")?.parse()?;
        Ok(Target {
            contender,
            address: (address, PORT).into(),
            from,
        })
    }

    /// Runs the load program in a pod.
    pub(crate) fn load<T: DeserializeOwned>(
        &self,
        target: Target,
        what: &str,
        more: &[&str],
    ) -> anyhow::Result<T> {
        let to = target.address.to_string();
        let exec = ["-n", NAMESPACE, "exec", "client", "--"];
        let load = ["/kdev-bench-load", what, "--to", &to];
        let from = ["--from", target.from.name()];
        let words = [&exec[..], &load, &from, more].concat();
        result(self.scene.cluster.kubectl(&words))
    }

    /// Starts the machine's program.
    pub(crate) fn machine(&self) -> anyhow::Result<Background> {
        let at = format!("127.0.0.1:{LOCAL}");
        let name = From::Machine.name();
        let words = ["kdev-bench-load", "serve", "--listen", &at, "--name", name];
        Background::start(self.scene.command("dev", &words), READY)
    }

    /// Lets requests to a Service come to the machine's program.
    pub(crate) fn intercept(&self, service: &str, rule: &[&str]) -> anyhow::Result<()> {
        let port = LOCAL.to_string();
        let words = [&["kdev", "intercept", service, "--port", &port], rule].concat();
        let outcome = self.scene.laptop().run(User::Dev, &words);
        ensure!(outcome.code == 0, "kdev intercept: {}", outcome.stderr);
        Ok(())
    }

    /// The same for so many rules of one header each, one intercept after the other.
    pub(crate) fn intercept_all(
        &self,
        service: &str,
        header: &str,
        count: usize,
        patience: Duration,
    ) -> anyhow::Result<()> {
        let line = format!(
            "set -e
             for value in $(seq {count}); do
                 kdev intercept {service} --port {LOCAL} --header {header}=$value 2>&1
             done"
        );
        let shell = ["bash", "-c", &line];
        let outcome = self.scene.laptop().run_for(User::Dev, &shell, patience);
        let last: Vec<&str> = outcome.stdout.lines().rev().take(3).collect();
        ensure!(outcome.code == 0, "kdev intercept: {last:?}");
        Ok(())
    }
}

/// Waits for pods that are chosen by their labels.
pub(crate) fn ready(scene: &Scene, labels: &str) -> anyhow::Result<()> {
    let wait = ["wait", "--for=condition=Ready", "--timeout=50s"];
    let which = ["pod", "-l", labels];
    let rollout = ["rollout", "status", "--timeout=50s", "deployment/backend"];
    // Before there is a pod, there is none to wait for.
    for words in [&rollout[..], &[&wait[..], &which].concat()] {
        let words = [&["-n", NAMESPACE], words].concat();
        let outcome = scene.cluster.kubectl(&words);
        ensure!(outcome.code == 0, "pods {labels}: {}", outcome.stderr);
    }
    Ok(())
}

/// A container of the load server's.
fn serves() -> Value {
    json!({
        "name": "load",
        "image": "kdev.test/bench-load:1",
        "args": ["serve", "--name", From::Pod.name()],
        "readinessProbe": { "tcpSocket": { "port": PORT }, "periodSeconds": 1 },
    })
}

fn objects() -> Value {
    let spec = json!({
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 1,
        "containers": [serves()],
    });
    let metadata = |name: &str| json!({ "name": name, "namespace": NAMESPACE });
    let labels = |name: &str| json!({ "app": name });
    let mut client = metadata("client");
    client["labels"] = labels("client");
    let mut objects = vec![
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": client, "spec": spec }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("backend"),
            "spec": {
                "replicas": 2,
                "selector": { "matchLabels": labels("backend") },
                "template": { "metadata": { "labels": labels("backend") }, "spec": spec },
            },
        }),
    ];
    objects.extend([WHOLE, RULED, ONE, MANY].map(|name| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata(name),
            "spec": { "selector": labels("backend"), "ports": [{ "port": PORT }] },
        })
    }));
    json!({ "apiVersion": "v1", "kind": "List", "items": objects })
}
