//! What `kdev install` says when the manager can't start: the cluster's own reason.

use kdev_e2e::desk::Desk;
use kdev_e2e::laptop::User;
use kdev_e2e::workload::Namespace;
use serde_json::{Value, json};

const MANAGER: i32 = 8;
const RIGHTS: i32 = 7;

/// Objects of a test's that go when this is dropped.
struct Applied<'a>(&'a Desk, Vec<String>);

impl<'a> Applied<'a> {
    fn new(desk: &'a Desk, objects: &[Value]) -> Self {
        let mut names = Vec::new();
        for object in objects {
            desk.cluster.apply(object);
            let text = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
            names.push(format!(
                "{}/{}",
                text(&object["kind"]),
                text(&object["metadata"]["name"])
            ));
        }
        Self(desk, names)
    }
}

impl Drop for Applied<'_> {
    fn drop(&mut self) {
        for name in &self.1 {
            self.0.cluster.kubectl(&["delete", name]);
        }
    }
}

#[test]
fn an_image_that_the_node_lacks_and_may_not_pull_is_named() {
    let desk = Desk::clean();
    let namespace = Namespace::only_named(desk.cluster, "lacking");
    let image = "docker.io/kdev/traffic-manager:no-such-tag";
    let options = ["--image", image, "--image-pull-policy", "Never"];
    let install = desk.kdev(&[&["install", "-n", namespace.name()], &options[..]].concat());
    install
        .exits(MANAGER)
        .says(image)
        .says("may not pull it")
        .says("next: ");
    desk.kdev(&["uninstall", "-n", namespace.name()]).ok();
}

#[test]
fn an_image_that_cant_be_pulled_is_named() {
    let desk = Desk::clean();
    let namespace = Namespace::only_named(desk.cluster, "pulling");
    let image = "registry.nowhere.test/kdev/traffic-manager:1";
    let install = desk.kdev(&["install", "-n", namespace.name(), "--image", image]);
    install.exits(MANAGER).says(image).says("can't be pulled");
    desk.kdev(&["uninstall", "-n", namespace.name()]).ok();
}

#[test]
fn a_quota_that_leaves_no_room_is_named() {
    let desk = Desk::clean();
    let namespace = Namespace::new(desk.cluster, "quota");
    let name = namespace.name();
    let quota = [
        "-n",
        name,
        "create",
        "quota",
        "no-pods-here",
        "--hard=pods=0",
    ];
    desk.cluster.kubectl(&quota).ok();
    let install = desk.kdev(&["install", "-n", name]);
    install
        .exits(MANAGER)
        .says("exceeded quota")
        .says("no-pods-here");
    desk.kdev(&["uninstall", "-n", name]).ok();
}

#[test]
fn a_policy_that_refuses_the_pod_speaks_for_itself() {
    let desk = Desk::clean();
    let namespace = Namespace::new(desk.cluster, "policy");
    let (name, api) = (namespace.name(), "admissionregistration.k8s.io/v1");
    let pods = json!({
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
    });
    let here = json!({ "matchLabels": { "kubernetes.io/metadata.name": name } });
    let policy = json!({
        "apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": { "name": name },
        "spec": {
            "matchConstraints": { "resourceRules": [pods] },
            "validations": [{ "expression": "false", "message": "not on a Friday" }],
        },
    });
    let binding = json!({
        "apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": name },
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": { "namespaceSelector": here },
        },
    });
    let _policy = Applied::new(&desk, &[policy, binding]);
    kdev_e2e::wait::until_true(
        "the policy holds",
        std::time::Duration::from_secs(20),
        || {
            let pod = [
                "-n",
                name,
                "run",
                "try",
                "--image=kdev.test/workload:1",
                "--dry-run=server",
            ];
            desk.cluster.kubectl(&pod).code != 0
        },
    );
    desk.kdev(&["install", "-n", name])
        .exits(MANAGER)
        .says("not on a Friday");
    desk.kdev(&["uninstall", "-n", name]).ok();
}

#[test]
fn a_cluster_where_no_node_takes_the_pod_says_why() {
    struct Uncordon<'a>(&'a Desk, String);
    impl Drop for Uncordon<'_> {
        fn drop(&mut self) {
            self.0.cluster.kubectl(&["uncordon", &self.1]);
        }
    }
    let desk = Desk::clean();
    let namespace = Namespace::only_named(desk.cluster, "nowhere");
    let node = format!("{}-node", desk.cluster.name());
    let _uncordon = Uncordon(&desk, node.clone());
    desk.cluster.kubectl(&["cordon", &node]).ok();
    let install = desk.kdev(&["install", "-n", namespace.name()]);
    install
        .exits(MANAGER)
        .says("no node takes the pod")
        .says("unschedulable");
    desk.kdev(&["uninstall", "-n", namespace.name()]).ok();
}

#[test]
fn a_user_without_rights_learns_which_verb_on_which_resource_is_missing() {
    let desk = Desk::clean();
    let bob = desk.cluster.kubeconfig_of("bob");
    let install = ["install", "--kubeconfig", &bob, "-n", "bobs"];
    // Only root reads this kubeconfig.
    let install = desk.kdev_as(User::Root, &install).exits(RIGHTS);
    let install = install
        .says("create, patch namespaces")
        .says("create, patch deployments.apps");
    install.says("create, patch clusterroles.rbac.authorization.k8s.io");
    let left = desk
        .cluster
        .kubectl(&["get", "namespace", "bobs", "--ignore-not-found"])
        .ok();
    assert_eq!(left.text(), "", "nothing was begun");
}
