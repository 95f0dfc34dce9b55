//! What a machine or a cluster looks like, to compare before and after.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::laptop::{Daemon, Laptop, User};
use crate::wait;

/// What kdev may change on a machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Machine {
    /// Network devices.
    pub devices: Vec<String>,
    /// Routes of all tables, and the rules that choose between these.
    pub routes: Vec<String>,
    /// The content of `/etc/resolv.conf`, and whether it is a file, a link or a mount.
    pub resolver: String,
    /// Daemons.
    pub daemons: Vec<Daemon>,
    /// Sockets and journals.
    pub files: Vec<String>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            devices,
            routes,
            resolver,
            daemons,
            files,
        } = self;
        writeln!(
            f,
            "devices {devices:?}\ndaemons {daemons:?}\nfiles {files:?}"
        )?;
        writeln!(f, "resolver\n{resolver}routes\n{}", routes.join("\n"))
    }
}

impl Machine {
    /// Looks at a laptop.
    pub fn of(laptop: &Laptop<'_>) -> Self {
        let look = |line: &str| laptop.shell(User::Root, line).ok();
        let routes = "ip route show table all; ip -6 route show table all; ip rule; ip -6 rule";
        let resolver = "stat -c %F /etc/resolv.conf; grep -c resolv.conf /proc/self/mounts; \
                        cat /etc/resolv.conf";
        // A lock file stays on purpose: removing it would let two daemons hold "the" lock.
        let files = "find /run/kdev /var/lib/kdev /run/user/*/kdev -not -type d -not -name '*.lock' \
                     2>/dev/null || true";
        Self {
            devices: look("ip -brief link | cut -d' ' -f1").lines(),
            routes: look(routes).lines(),
            resolver: look(&format!("{resolver} || true")).stdout,
            daemons: laptop
                .all_daemons()
                .into_iter()
                .map(|(daemon, _)| daemon)
                .collect(),
            files: look(files).lines(),
        }
    }

    /// The devices that aren't in `before`.
    pub fn devices_beside(&self, before: &Self) -> Vec<String> {
        let new = self
            .devices
            .iter()
            .filter(|device| !before.devices.contains(device));
        new.cloned().collect()
    }
}

/// Every object of a cluster, with its version where that changes only when somebody changes it.
pub type Objects = BTreeSet<String>;

/// Kinds that the cluster writes all the time, or that are no objects of anybody's.
const RESTLESS: [&str; 5] = [
    "events",
    "events.events.k8s.io",
    // One per Service, which is listed itself; it goes a moment after its Service.
    "ipaddresses.networking.k8s.io",
    "leases.coordination.k8s.io",
    "componentstatuses",
];

/// Lists every object of a cluster, of every kind that can be listed; without namespaces that are
/// going, as those of earlier tests may be.
pub fn objects(cluster: &Cluster) -> Objects {
    let kinds = cluster
        .kubectl(&["api-resources", "--verbs=list", "-o", "name"])
        .ok();
    let kinds: Vec<&str> = kinds
        .text()
        .lines()
        .filter(|kind| !RESTLESS.contains(kind))
        .collect();
    let list = cluster.get(&["-A", &kinds.join(",")]);
    let items: Vec<&Value> = list["items"].as_array().into_iter().flatten().collect();
    let is_going = |object: &&&Value| {
        object["kind"] == "Namespace" && !object["metadata"]["deletionTimestamp"].is_null()
    };
    let going: Vec<&Value> = items
        .iter()
        .filter(is_going)
        .map(|one| &one["metadata"]["name"])
        .collect();
    let stays = |object: &&Value| {
        let metadata = &object["metadata"];
        !going.contains(&&metadata["namespace"]) && !going.contains(&&metadata["name"])
    };
    items.into_iter().filter(stays).map(describe).collect()
}

/// Expects that a cluster has the same objects as before, as soon as whatever is going is gone.
///
/// # Panics
///
/// Says which are new, or changed, and which are missing.
#[track_caller]
pub fn assert_same_objects(cluster: &Cluster, before: &Objects) {
    let mut now = objects(cluster);
    wait::within(Duration::from_secs(10), || {
        now = objects(cluster);
        (now == *before).then_some(())
    });
    let new: Vec<_> = now.difference(before).collect();
    let missing: Vec<_> = before.difference(&now).collect();
    assert!(
        new.is_empty() && missing.is_empty(),
        "new {new:#?}\nmissing {missing:#?}"
    );
}

fn describe(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    let kind = text(&object["kind"]);
    // Status is reported into these without anybody's doing.
    let version = match kind.as_str() {
        "Node" | "Pod" | "APIService" | "Namespace" => String::new(),
        _ => text(&metadata["resourceVersion"]),
    };
    format!(
        "{kind} {}/{} {version}",
        text(&metadata["namespace"]),
        text(&metadata["name"])
    )
}
