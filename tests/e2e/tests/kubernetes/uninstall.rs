//! `kdev uninstall`.

use kdev_e2e::desk::Desk;
use kdev_e2e::http::who_answers;
use kdev_e2e::snapshot;
use kdev_e2e::workload::{Namespace, Workload};

#[test]
fn uninstalling_leaves_no_object_in_the_cluster() {
    let desk = Desk::clean();
    let namespace = Namespace::only_named(desk.cluster, "gone");
    let before = snapshot::objects(desk.cluster);
    desk.kdev(&["install", "-n", namespace.name()]).ok();
    desk.kdev(&["uninstall", "-n", namespace.name()])
        .ok()
        .says("removed");
    snapshot::assert_same_objects(desk.cluster, &before);
    desk.kdev(&["uninstall", "-n", namespace.name()])
        .ok()
        .says("there is nothing");
}

#[test]
fn uninstalling_restores_what_is_intercepted() {
    let desk = Desk::clean();
    let namespace = Namespace::only_named(desk.cluster, "while");
    let web = Workload::up(desk.cluster, "kept");
    desk.kdev(&["install", "-n", namespace.name()]).ok();
    let connect = [
        "connect",
        "-n",
        web.namespace(),
        "--manager-namespace",
        namespace.name(),
    ];
    desk.kdev(&connect).ok();
    let _program = desk.laptop.serve(9000);
    desk.kdev(&["intercept", "web", "--port", "9000:http"]).ok();
    desk.kdev(&["uninstall", "-n", namespace.name()]).ok();
    web.assert_untouched();
    let address = web.address(80);
    let answer = desk.cluster.node().inside(|| who_answers(address)).unwrap();
    assert!(answer.starts_with("web-"), "{answer}");
}

#[test]
fn a_namespace_that_somebody_else_made_stays() {
    let desk = Desk::clean();
    let namespace = Namespace::new(desk.cluster, "theirs");
    let name = namespace.name();
    desk.kdev(&["install", "-n", name]).ok();
    desk.kdev(&["uninstall", "-n", name]).ok().says("stays");
    desk.cluster.kubectl(&["get", "namespace", name]).ok();
    let left = desk.cluster.get(&[
        "-n",
        name,
        "deployments,pods,replicasets,roles,rolebindings",
    ]);
    assert_eq!(left["items"].as_array().map(Vec::len), Some(0), "{left:#}");
}
