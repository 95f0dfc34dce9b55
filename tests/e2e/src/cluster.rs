//! A Kubernetes cluster that the driver under `tests/cluster` brought up.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::command::{self, Outcome};
use crate::laptop::Laptop;
use crate::namespace::Network;
use crate::tools;

/// How long a question to the cluster may take.
const QUESTION: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    kubeconfig: PathBuf,
    node: i32,
    laptop: Option<i32>,
    owned: bool,
}

/// See [`Cluster::without_api_server`].
#[derive(Debug)]
pub struct Away<'a>(&'a Cluster);

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.0.driver("start-apiserver", &[]);
    }
}

/// No manager runs until this is dropped.
#[derive(Debug)]
pub struct NoManager<'a>(&'a Cluster);

impl NoManager<'_> {
    fn scale(&self, count: &str) -> Outcome {
        let args = ["-n", "kdev", "scale", "deploy/kdev-traffic-manager", count];
        self.0.kubectl(&args)
    }
}

impl Drop for NoManager<'_> {
    fn drop(&mut self) {
        self.scale("--replicas=1");
    }
}

impl Cluster {
    /// Whether there is a cluster of this name, and it is up.
    pub fn is_up(name: &str) -> bool {
        status(name).code == 0
    }

    /// A cluster that is up.
    ///
    /// # Panics
    ///
    /// When it isn't.
    pub fn existing(name: &str) -> Self {
        let status = status(name);
        assert_eq!(
            status.code, 0,
            "cluster {name} must be up (`make cluster`): {status:#?}"
        );
        let keeper = |role: &str| {
            // "  namespaces  laptop  held by process 123"
            status.stdout.lines().find_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let found = words.first() == Some(&"namespaces") && words.get(1) == Some(&role);
                found.then(|| words.last()?.parse::<i32>().ok()).flatten()
            })
        };
        let node = keeper("node").unwrap_or_else(|| panic!("no node: {status:#?}"));
        let laptop = keeper("laptop");
        let kubeconfig = command::run(&mut driver(name, "kubeconfig", &[]), QUESTION).ok();
        let kubeconfig = PathBuf::from(kubeconfig.text());
        Self {
            name: name.to_owned(),
            kubeconfig,
            node,
            laptop,
            owned: false,
        }
    }

    /// A cluster of the test's own, which goes when this is dropped.
    pub fn up(name: &str, options: &[&str]) -> Self {
        down(name);
        command::run(&mut driver(name, "up", options), Duration::from_secs(150)).ok();
        let mut own = Self::existing(name);
        own.owned = true;
        own
    }

    /// Its name, which is also that of its context.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &str {
        self.kubeconfig
            .to_str()
            .expect("the driver's paths are text")
    }

    /// The kubeconfig of somebody without any right.
    pub fn kubeconfig_of(&self, user: &str) -> String {
        self.driver("kubeconfig", &["--user", user])
            .ok()
            .text()
            .to_owned()
    }

    /// The laptop on the cluster's LAN.
    pub fn laptop(&self) -> Laptop<'_> {
        let keeper = self.laptop.expect("the cluster has a LAN of its own");
        Laptop::new(self, keeper)
    }

    /// The node's network, where the cluster's own programs are.
    pub fn node(&self) -> Network {
        Network::of(self.node).expect("the node is there")
    }

    /// Runs a command of the driver's.
    #[track_caller]
    pub fn driver(&self, command: &str, args: &[&str]) -> Outcome {
        command::run(&mut driver(&self.name, command, args), QUESTION)
    }

    /// Runs a command on the node.
    #[track_caller]
    pub fn on_node(&self, args: &[&str]) -> Outcome {
        self.driver("node", args)
    }

    /// Runs kubectl as the administrator, on the node: whatever is wrong on the laptop, it works.
    #[track_caller]
    pub fn kubectl(&self, args: &[&str]) -> Outcome {
        let kubectl = tools::cluster_program("kubectl");
        let kubectl = kubectl.to_str().expect("the checkout's path is text");
        self.on_node(&[&[kubectl, "--kubeconfig", self.kubeconfig()], args].concat())
    }

    /// What `kubectl get ... -o json` shows.
    #[track_caller]
    pub fn get(&self, args: &[&str]) -> Value {
        self.kubectl(&[&["get", "-o", "json"], args].concat())
            .ok()
            .json()
    }

    /// Applies objects.
    #[track_caller]
    pub fn apply(&self, objects: &Value) {
        // As an argument: the driver's commands get no standard input here.
        let text = objects.to_string();
        let kubectl = tools::cluster_program("kubectl");
        let kubectl = kubectl.to_str().expect("the checkout's path is text");
        let script = r#"printf %s "$1" | "$2" --kubeconfig "$3" apply -f -"#;
        self.on_node(&[
            "sh",
            "-c",
            script,
            "apply",
            &text,
            kubectl,
            self.kubeconfig(),
        ])
        .ok();
    }

    /// Kills the API server; it is started again when the result is dropped.
    #[track_caller]
    pub fn without_api_server(&self) -> Away<'_> {
        let away = Away(self);
        self.driver("stop-apiserver", &["--now"]).ok();
        away
    }

    /// Scales the manager to zero; it is scaled back when the result is dropped.
    #[track_caller]
    pub fn without_manager(&self) -> NoManager<'_> {
        let away = NoManager(self);
        away.scale("--replicas=0").ok();
        away
    }

    /// Lets dave do something in a namespace, by a role of that name.
    #[track_caller]
    pub fn grant_dave(&self, namespace: &str, name: &str, verbs: &str, resources: &str) {
        let (verbs, resources) = (format!("--verb={verbs}"), format!("--resource={resources}"));
        let role = ["create", "role", name, &verbs, &resources, "-n", namespace];
        self.kubectl(&role).ok();
        let role = format!("--role={name}");
        let bind = ["create", "rolebinding", name, &role, "--user=dave"];
        self.kubectl(&[&bind[..], &["-n", namespace]].concat()).ok();
    }

    /// The same in all namespaces, until the answer is dropped.
    #[track_caller]
    pub fn grant_dave_everywhere(&self, name: &str, verbs: &str, resources: &str) -> Granted<'_> {
        let granted = Granted {
            cluster: self,
            name: name.to_owned(),
        };
        granted.take_back();
        let (verbs, resources) = (format!("--verb={verbs}"), format!("--resource={resources}"));
        self.kubectl(&["create", "clusterrole", name, &verbs, &resources])
            .ok();
        let role = format!("--clusterrole={name}");
        self.kubectl(&["create", "clusterrolebinding", name, &role, "--user=dave"])
            .ok();
        granted
    }

    /// Loads an image into the node.
    #[track_caller]
    pub fn import(&self, image: &str) {
        let path = tools::image(image);
        self.driver(
            "import",
            &[path.to_str().expect("the checkout's path is text")],
        )
        .ok();
    }

    /// The names that the outside's resolver was asked for so far.
    pub fn asked_outside(&self) -> Vec<String> {
        let path = self.driver("outside-log", &[]).ok();
        let log = std::fs::read_to_string(path.text()).expect("the outside's resolver has a log");
        // "TIME NAME TYPE"
        log.lines()
            .filter_map(|line| line.split(' ').nth(1))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.owned {
            down(&self.name);
        }
    }
}

fn down(name: &str) {
    command::run(&mut driver(name, "down", &[]), QUESTION);
}

fn status(name: &str) -> Outcome {
    command::run(&mut driver(name, "status", &[]), QUESTION)
}

fn driver(name: &str, command: &str, args: &[&str]) -> Command {
    let mut driver = Command::new(tools::cluster_program("kdev-cluster"));
    driver.arg(command).args(["--name", name]).args(args);
    // The laptop's users take theirs from their homes.
    driver.env_remove("KUBECONFIG").current_dir("/");
    driver
}

/// Rights in all namespaces, which go when this is dropped.
#[derive(Debug)]
pub struct Granted<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl Granted<'_> {
    fn take_back(&self) {
        let kinds = "clusterrole,clusterrolebinding";
        let delete = ["delete", kinds, &self.name, "--ignore-not-found"];
        self.cluster.kubectl(&delete);
    }
}

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        self.take_back();
    }
}
