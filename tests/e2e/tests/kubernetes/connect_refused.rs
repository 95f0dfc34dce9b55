//! What `kdev connect` says when it can't: what failed, why, and the next step.

use std::time::Duration;

use kdev_e2e::command::Outcome;
use kdev_e2e::desk::Desk;
use kdev_e2e::laptop::User;
use kdev_e2e::snapshot::Machine;
use kdev_e2e::wait;
use kdev_e2e::workload::Namespace;

const KUBECONFIG: i32 = 5;
const API_SERVER: i32 = 6;
const RIGHTS: i32 = 7;
const MANAGER: i32 = 8;
const VERSION: i32 = 9;

/// Expects that a failed attempt has left the machine's network as it was.
fn nothing_changed(desk: &Desk) {
    let now = Machine::of(&desk.laptop);
    assert_eq!(now.devices, desk.before.devices);
    assert_eq!(now.routes, desk.before.routes);
    assert_eq!(now.resolver, desk.before.resolver);
}

/// Connects with a kubeconfig whose API server was replaced.
fn connect_to(desk: &Desk, server: &str) -> Outcome {
    let copy = "sed 's#server: .*#server: '$1'#' ~/.kube/config > /tmp/kdev-e2e-other; \
                kdev connect --kubeconfig /tmp/kdev-e2e-other; \
                code=$?; rm /tmp/kdev-e2e-other; exit $code";
    desk.laptop
        .run(User::Dev, &["sh", "-c", copy, "connect", server])
}

#[test]
fn a_context_that_doesnt_exist_is_answered_with_those_that_do() {
    let desk = Desk::with_manager();
    let connect = desk
        .kdev(&["connect", "--context", "nope"])
        .exits(KUBECONFIG);
    connect
        .says("\"nope\"")
        .says(desk.cluster.name())
        .says("next: ");
    nothing_changed(&desk);
}

#[test]
fn a_kubeconfig_that_doesnt_exist_is_named() {
    let desk = Desk::with_manager();
    let connect = desk.kdev(&["connect", "--kubeconfig", "/nowhere/config"]);
    connect.exits(KUBECONFIG).says("/nowhere/config");
    nothing_changed(&desk);
}

#[test]
fn an_api_server_that_doesnt_answer_is_named_with_the_reason() {
    let desk = Desk::with_manager();
    let refused = connect_to(&desk, "https://10.88.0.10:1").exits(API_SERVER);
    refused
        .says("https://10.88.0.10:1")
        .says("next: ")
        .within(Duration::from_secs(15));
    let nowhere = connect_to(&desk, "https://10.88.0.77:6443").exits(API_SERVER);
    nowhere
        .says("https://10.88.0.77:6443")
        .within(Duration::from_secs(30));
    nothing_changed(&desk);
}

#[test]
fn a_cluster_without_a_manager_leads_to_install() {
    let desk = Desk::with_manager();
    let connect = desk
        .kdev(&["connect", "--manager-namespace", "default"])
        .exits(MANAGER);
    connect.says("\"default\"").says("kdev install");
    nothing_changed(&desk);
}

#[test]
fn a_manager_that_crashes_is_told_with_its_last_words() {
    let desk = Desk::clean();
    let namespace = Namespace::only_named(desk.cluster, "crashes");
    let name = namespace.name();
    desk.kdev(&["install", "-n", name]).ok();
    let deployment = "deploy/kdev-traffic-manager";
    let kubectl = |args: &[&str]| desk.cluster.kubectl(&[&["-n", name], args].concat()).ok();
    // The pod that serves must not stay until another one does.
    kubectl(&["scale", deployment, "--replicas=0"]);
    kubectl(&["set", "env", deployment, "KDEV_ROUTER_HEADERS=none"]);
    kubectl(&["scale", deployment, "--replicas=1"]);
    let connect = || desk.kdev(&["connect", "--manager-namespace", name]);
    let crashed = wait::until("its end is seen", Duration::from_secs(60), || {
        Some(connect()).filter(|run| run.stderr.contains("KDEV_ROUTER_HEADERS"))
    });
    crashed
        .exits(MANAGER)
        .says("exit code")
        .says("its last words")
        .says("logs kdev-traffic-manager-")
        .says("--previous");
    nothing_changed(&desk);
    desk.kdev(&["uninstall", "-n", name]).ok();
}

#[test]
fn a_manager_of_another_version_says_which_side_to_upgrade() {
    let desk = Desk::clean();
    let namespace = Namespace::only_named(desk.cluster, "newer");
    let name = namespace.name();
    let image = "docker.io/kdev/other-version:99.0.0";
    desk.kdev(&["install", "-n", name, "--image", image]).ok();
    let connect = desk
        .kdev(&["connect", "--manager-namespace", name])
        .exits(VERSION);
    connect.says("99.0.0").says("upgrade kdev on this machine");
    nothing_changed(&desk);
    desk.kdev(&["uninstall", "-n", name]).ok();
}

#[test]
fn missing_rights_are_named_by_verb_and_resource() {
    let desk = Desk::with_manager();
    let bob = desk.cluster.kubeconfig_of("bob");
    let connect = ["connect", "--kubeconfig", &bob];
    // Only root reads this kubeconfig.
    desk.kdev_as(User::Root, &connect)
        .exits(RIGHTS)
        .says("list pods")
        .says("\"kdev\"");
    nothing_changed(&desk);
}

#[test]
fn who_may_list_pods_but_not_forward_ports_is_told_that() {
    struct Revoke<'a>(&'a Desk);
    impl Drop for Revoke<'_> {
        fn drop(&mut self) {
            self.0
                .cluster
                .kubectl(&["-n", "kdev", "delete", "role,rolebinding", "e2e-looker"]);
        }
    }
    let desk = Desk::with_manager();
    let carol = desk.cluster.kubeconfig_of("carol");
    let _revoke = Revoke(&desk);
    let role = [
        "-n",
        "kdev",
        "create",
        "role",
        "e2e-looker",
        "--verb=get,list",
        "--resource=pods",
    ];
    desk.cluster.kubectl(&role).ok();
    let bind = ["--role=e2e-looker", "--user=carol"];
    let binding = ["-n", "kdev", "create", "rolebinding", "e2e-looker"];
    desk.cluster.kubectl(&[&binding[..], &bind].concat()).ok();
    let connect = desk
        .kdev_as(User::Root, &["connect", "--kubeconfig", &carol])
        .exits(RIGHTS);
    connect.says("pods/portforward").says("leases");
    nothing_changed(&desk);
}
