//! `kdev install`.

use kdev_e2e::desk::Desk;
use kdev_e2e::workload::Namespace;
use serde_json::Value;

/// Everything that belongs to an installation, with its version.
fn installed(desk: &Desk, namespace: &str) -> Vec<String> {
    let label = format!("app.kubernetes.io/instance={namespace}");
    let kinds = "namespaces,serviceaccounts,clusterroles,clusterrolebindings,deployments,\
                 replicasets,pods,services,configmaps,roles,rolebindings";
    let list = desk.cluster.get(&["-A", "-l", &label, kinds]);
    let describe = |object: &Value| {
        let metadata = &object["metadata"];
        format!(
            "{} {} {}",
            object["kind"], metadata["name"], metadata["resourceVersion"]
        )
    };
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(describe)
        .collect()
}

#[test]
fn installing_twice_changes_nothing_the_second_time() {
    let desk = Desk::clean();
    let namespace = Namespace::only_named(desk.cluster, "twice");
    let install = ["install", "-n", namespace.name()];
    let outcome = desk.kdev(&install).ok().says("serves in namespace");
    // Asked the way a session will reach it.
    assert!(!outcome.stderr.contains("doesn't answer"), "{outcome:#?}");
    let first = installed(&desk, namespace.name());
    // Namespace, ServiceAccount, two roles and bindings, Service, Deployment, ReplicaSet, pod.
    assert_eq!(first.len(), 10, "{first:#?}");
    desk.kdev(&install).ok().says("nothing had to change");
    assert_eq!(installed(&desk, namespace.name()), first);
    desk.kdev(&["uninstall", "-n", namespace.name()]).ok();
}

#[test]
fn the_manager_passes_pod_security_restricted_and_may_not_read_secrets() {
    let desk = Desk::clean();
    let namespace = Namespace::new(desk.cluster, "strict");
    let name = namespace.name();
    let label = "pod-security.kubernetes.io/enforce=restricted";
    desk.cluster
        .kubectl(&["label", "namespace", name, label])
        .ok();
    desk.kdev(&["install", "-n", name]).ok();
    let manager = format!("system:serviceaccount:{name}:kdev-traffic-manager");
    let may = |verb: &str, what: &str| {
        let answer = desk
            .cluster
            .kubectl(&["auth", "can-i", verb, what, "-A", "--as", &manager]);
        answer.text() == "yes"
    };
    assert!(may("patch", "services"));
    for (verb, what) in [
        ("get", "secrets"),
        ("create", "pods"),
        ("get", "configmaps"),
    ] {
        assert!(!may(verb, what), "the manager may {verb} {what}");
    }
    desk.kdev(&["uninstall", "-n", name]).ok();
}

#[test]
fn a_manager_that_was_changed_by_hand_is_put_right_again() {
    let desk = Desk::with_manager();
    let role = ["delete", "clusterrolebinding", "kdev-traffic-manager-kdev"];
    desk.cluster.kubectl(&role).ok();
    desk.kdev(&["install"]).ok().says("1 objects changed");
    desk.connect();
}
