//! The one laptop that the tests share, and the cluster beside it.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::command::Outcome;
use crate::laptop::{COMMAND, Laptop, User};
use crate::snapshot::Machine;
use crate::tools;
use crate::workload::{Namespace, Workload};

/// The namespace of the test workload that nobody changes.
pub const DEMO: &str = "demo";
/// The cluster that is used unless `KDEV_CLUSTER` names another.
const CLUSTER: &str = "dev";

/// The right to use laptop and cluster, where nothing of kdev's runs when a test gets it.
#[derive(Debug)]
pub struct Desk {
    /// The cluster.
    pub cluster: &'static Cluster,
    /// The laptop.
    pub laptop: Laptop<'static>,
    /// What the laptop looks like when nobody is connected.
    pub before: Machine,
    _alone: MutexGuard<'static, ()>,
}

impl Desk {
    /// A laptop on which nothing of kdev's runs; the manager may be installed or not.
    pub fn clean() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        static SHARED: OnceLock<(Cluster, String)> = OnceLock::new();
        // A test that failed has left a laptop that is cleaned here like any other.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (cluster, resolver) = SHARED.get_or_init(|| {
            let cluster = shared();
            let laptop = cluster.laptop();
            laptop.end_daemons();
            let resolver = laptop.run(User::Root, &["cat", "/etc/resolv.conf"]).ok();
            assert!(
                !resolver.stdout.contains("kdev"),
                "an earlier run left {}",
                resolver.stdout
            );
            (cluster, resolver.stdout)
        });
        let laptop = cluster.laptop();
        laptop.end_daemons();
        // What a failed test has left must not fail the next one too.
        let reset = r#"rm -rf /run/kdev /var/lib/kdev /run/user/*/kdev; nft delete table inet e2e 2>/dev/null
            [ "$(cat /etc/resolv.conf)" = "$(printf %s "$1")" ] || printf %s "$1" > /etc/resolv.conf"#;
        laptop
            .run(User::Root, &["sh", "-c", reset, "reset", resolver])
            .ok();
        let before = Machine::of(&laptop);
        Self {
            cluster,
            laptop,
            before,
            _alone: alone,
        }
    }

    /// A clean laptop, and a manager in the cluster.
    pub fn with_manager() -> Self {
        let desk = Self::clean();
        let serves = [
            "-n",
            "kdev",
            "rollout",
            "status",
            "--timeout=1s",
            "deploy/kdev-traffic-manager",
        ];
        if desk.cluster.kubectl(&serves).code != 0 {
            desk.kdev(&["install"]).ok();
        }
        desk
    }

    /// Installs a manager of a test's own, which gives up sessions that are gone for so many seconds, and connects the
    /// developer to it; short names mean the workload's namespace.
    pub fn connect_to_own(&self, manager: &Namespace<'_>, grace: &str, web: &Workload<'_>) {
        self.kdev(&["install", "-n", manager.name(), "--session-grace", grace])
            .ok();
        self.connect_to(manager, web);
    }

    /// Connects the developer to a manager of a test's own; short names mean the workload's namespace.
    pub fn connect_to(&self, manager: &Namespace<'_>, web: &Workload<'_>) {
        let to = [
            "connect",
            "-n",
            web.namespace(),
            "--manager-namespace",
            manager.name(),
        ];
        self.kdev(&to).ok();
    }

    /// A laptop that is connected by the developer, short names meaning the namespace `demo`.
    pub fn connected() -> Self {
        let desk = Self::with_manager();
        desk.connect();
        desk
    }

    /// A laptop that is connected, and a workload in the session's own namespace.
    pub fn beside(topic: &str) -> (Self, Workload<'static>) {
        let desk = Self::with_manager();
        let web = Workload::up(desk.cluster, topic);
        desk.kdev(&["connect", "-n", web.namespace()]).ok();
        (desk, web)
    }

    /// The same as [`Desk::connected`] with more arguments for `kdev connect`.
    pub fn connected_by(options: &[&str]) -> Self {
        let desk = Self::with_manager();
        desk.kdev(&[&["connect", "-n", DEMO], options].concat())
            .ok();
        desk
    }

    /// Connects as the developer.
    #[track_caller]
    pub fn connect(&self) -> Outcome {
        self.kdev(&["connect", "-n", DEMO]).ok()
    }

    /// Runs kdev as the developer.
    #[track_caller]
    pub fn kdev(&self, args: &[&str]) -> Outcome {
        self.kdev_as(User::Dev, args)
    }

    /// Runs kdev as somebody.
    #[track_caller]
    pub fn kdev_as(&self, user: User, args: &[&str]) -> Outcome {
        // Installing waits up to two minutes for a pod.
        let deadline = if args.first() == Some(&"install") {
            3 * COMMAND
        } else {
            COMMAND
        };
        self.laptop
            .run_for(user, &[&["kdev"], args].concat(), deadline)
    }

    /// What `kdev status -o json` shows, connected or not.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.kdev(&["status", "-o", "json"]).json()
    }

    /// Runs curl as the developer.
    #[track_caller]
    pub fn curl(&self, url: &str) -> Outcome {
        let limit = Duration::from_secs(20);
        self.laptop
            .run_for(User::Dev, &["curl", "-sS", "--max-time", "10", url], limit)
    }

    /// Which pod answers at a URL.
    #[track_caller]
    pub fn pod_at(&self, url: &str) -> String {
        let page = self.curl(url).ok().json();
        page["pod"]
            .as_str()
            .unwrap_or_else(|| panic!("{url}: {page}"))
            .to_owned()
    }
}

/// Connects to the shared cluster and puts there what all tests need.
fn shared() -> Cluster {
    let name = std::env::var("KDEV_CLUSTER").unwrap_or_else(|_| CLUSTER.to_owned());
    let cluster = Cluster::existing(&name);
    furnish(&cluster);
    cluster.import("other-version");
    cluster
}

/// Puts the manager's image, the test workload and kdev's programs into a cluster and its laptop.
pub fn furnish(cluster: &Cluster) {
    cluster.import("traffic-manager");
    let demo = tools::checkout().join("tests/cluster/manifests/demo.yaml");
    cluster
        .kubectl(&[
            "apply",
            "-f",
            demo.to_str().expect("the checkout's path is text"),
        ])
        .ok();
    for (namespace, deployment) in [(DEMO, "deploy/web"), ("other", "deploy/api")] {
        cluster
            .kubectl(&[
                "-n",
                namespace,
                "rollout",
                "status",
                "--timeout=60s",
                deployment,
            ])
            .ok();
    }
    cluster.laptop().furnish();
}

impl Drop for Desk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            explain(self.cluster, &self.laptop);
        }
    }
}

/// Prints the daemons' words for a failure; without them it would have to be made again to be understood.
pub fn explain(cluster: &Cluster, laptop: &Laptop<'_>) {
    let look = "kdev status; tail -n 25 /home/dev/.local/state/kdev/*.log /var/log/kdev/*.log; \
                ip -brief addr; ip route; ip -6 route; cat /etc/resolv.conf";
    let laptop = laptop.run(User::Dev, &["sh", "-c", look]);
    let log = [
        "-n",
        "kdev",
        "logs",
        "--tail=25",
        "deploy/kdev-traffic-manager",
    ];
    let manager = cluster.kubectl(&log);
    eprintln!("--- the laptop\n{}{}", laptop.stdout, laptop.stderr);
    eprintln!("--- the manager\n{}{}", manager.stdout, manager.stderr);
}
