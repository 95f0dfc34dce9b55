//! What `kdev intercept` says when it can't; the Service then is as it was.

use kdev_e2e::command::Outcome;
use kdev_e2e::desk::Desk;
use kdev_e2e::laptop::User;
use kdev_e2e::workload::Workload;
use serde_json::json;

const USAGE: i32 = 2;
const RIGHTS: i32 = 7;
const NOT_FOUND: i32 = 10;
const CONFLICT: i32 = 11;
const LOCAL_PORT: i32 = 12;

fn intercept(desk: &Desk, web: &Workload<'_>, service: &str, port: &str) -> Outcome {
    desk.kdev(&["intercept", service, "-n", web.namespace(), "--port", port])
}

#[test]
fn what_doesnt_exist_is_answered_with_what_does() {
    let desk = Desk::connected();
    let web = Workload::up(desk.cluster, "absent");
    let _program = desk.laptop.serve(9000);
    intercept(&desk, &web, "nobody", "9000")
        .exits(NOT_FOUND)
        .says("nobody")
        .says("kdev list");
    let port = intercept(&desk, &web, "web", "9000:8443").exits(NOT_FOUND);
    port.says("8443").says("http (80/TCP)").says("echo (7/TCP)");
    let which = intercept(&desk, &web, "web", "9000").exits(NOT_FOUND);
    which
        .says("none of them was named: http (80/TCP)")
        .says("echo (7/TCP)")
        .says("--port LOCAL:PORT");
    web.assert_untouched();
}

#[test]
fn a_port_that_is_named_twice_is_refused_before_anything_changes() {
    let desk = Desk::connected();
    let web = Workload::up(desk.cluster, "twice");
    let _program = desk.laptop.serve(9000);
    let version = || web.service()["metadata"]["resourceVersion"].clone();
    let before = version();
    let both = |one: &str, other: &str| {
        let words = ["intercept", "web", "-n", web.namespace(), "--port", one];
        desk.kdev(&[&words[..], &["--port", other]].concat())
    };
    both("9000:80", "9001:80")
        .exits(USAGE)
        .says("port http (80/TCP)")
        .says("as 80 and as 80");
    both("9000:80", "9000:http")
        .exits(USAGE)
        .says("port http (80/TCP)")
        .says("as 80 and as http");
    both("9000:80", "9000:https").exits(NOT_FOUND).says("https");
    assert_eq!(version(), before);
    both("9000:80", "9000:7").ok();
    desk.kdev(&["quit"]).ok();
    web.assert_untouched();
}

#[test]
fn a_local_port_where_nothing_listens_is_refused_before_anything_changes() {
    let desk = Desk::connected();
    let web = Workload::up(desk.cluster, "closed");
    let version = web.service()["metadata"]["resourceVersion"].clone();
    let refused = intercept(&desk, &web, "web", "9999:http").exits(LOCAL_PORT);
    refused.says("9999").says("next: ");
    assert_eq!(web.service()["metadata"]["resourceVersion"], version);
}

#[test]
fn services_that_cant_be_redirected_say_why() {
    let desk = Desk::connected();
    let web = Workload::up(desk.cluster, "unfit");
    let ports = json!([{ "name": "http", "port": 8080 }]);
    let selector = json!({ "app": "web" });
    web.add_service(
        "bare",
        &json!({ "clusterIP": "None", "selector": selector, "ports": ports }),
    );
    web.add_service("manual", &json!({ "ports": ports }));
    web.add_service(
        "alias",
        &json!({ "type": "ExternalName", "externalName": "www.public.test" }),
    );
    let sctp = json!([{ "name": "talk", "port": 5060, "protocol": "SCTP" }]);
    web.add_service("talk", &json!({ "selector": selector, "ports": sctp }));
    let _program = desk.laptop.serve(9000);
    intercept(&desk, &web, "bare", "9000")
        .exits(USAGE)
        .says("headless")
        .says("an agent in the pods");
    intercept(&desk, &web, "manual", "9000")
        .exits(USAGE)
        .says("selector");
    intercept(&desk, &web, "alias", "9000")
        .exits(USAGE)
        .says("another name for www.public.test")
        .says("an agent in the pods");
    intercept(&desk, &web, "talk", "9000")
        .exits(USAGE)
        .says("SCTP");
}

#[test]
fn a_port_that_somebody_has_is_refused_with_their_name() {
    let desk = Desk::connected();
    let web = Workload::up(desk.cluster, "taken");
    // As another machine's kdev writes it.
    let claim = json!([{
        "id": "f00d", "session": "beef", "owner": "ann@another-laptop", "manager": "kdev",
        "port": { "name": "http", "number": 80, "protocol": "TCP" },
        "since": "2026-01-02T03:04:05Z",
    }]);
    let annotation = format!("kdev.dev/intercepts={claim}");
    desk.cluster
        .kubectl(&[
            "-n",
            web.namespace(),
            "annotate",
            "service",
            "web",
            &annotation,
        ])
        .ok();
    let _program = desk.laptop.serve(9000);
    let taken = intercept(&desk, &web, "web", "9000:http").exits(CONFLICT);
    taken.says("ann@another-laptop").says("2026-01-02");
    let list = desk.kdev(&["list", "-n", web.namespace()]).ok();
    list.says("held by ann@another-laptop");
}

#[test]
fn a_port_that_this_session_has_already_is_refused_too() {
    let desk = Desk::connected();
    let web = Workload::up(desk.cluster, "again");
    let _program = desk.laptop.serve(9000);
    intercept(&desk, &web, "web", "9000:http").ok();
    intercept(&desk, &web, "web", "9000:http")
        .exits(CONFLICT)
        .says("dev@");
    assert_eq!(web.answers_a_pod(), "the-laptop", "the first one lives on");
    desk.kdev(&["quit"]).ok();
    web.assert_untouched();
}

#[test]
fn leaving_what_isnt_intercepted_is_said() {
    let desk = Desk::connected();
    desk.kdev(&["leave", "web"])
        .exits(NOT_FOUND)
        .says("doesn't intercept");
}

#[test]
fn who_may_connect_but_not_patch_the_service_is_told_which_right_is_missing() {
    let desk = Desk::with_manager();
    let web = Workload::up(desk.cluster, "rights");
    let dave = desk.cluster.kubeconfig_of("dave");
    let grant = |namespace: &str, name: &str, verbs: &str, resources: &str| {
        desk.cluster.grant_dave(namespace, name, verbs, resources);
    };
    struct Revoke<'a>(&'a Desk);
    impl Drop for Revoke<'_> {
        fn drop(&mut self) {
            for name in ["e2e-find", "e2e-forward", "e2e-vouch"] {
                self.0
                    .cluster
                    .kubectl(&["-n", "kdev", "delete", "role,rolebinding", name]);
            }
        }
    }
    let _revoke = Revoke(&desk);
    // What the README says that a developer needs, but for the right in question.
    grant("kdev", "e2e-find", "get,list", "pods");
    grant("kdev", "e2e-forward", "get,create", "pods/portforward");
    grant(
        "kdev",
        "e2e-vouch",
        "get,create,patch,delete",
        "leases.coordination.k8s.io",
    );
    grant(
        web.namespace(),
        "e2e-look",
        "get,list",
        "services,endpointslices.discovery.k8s.io",
    );
    // Only root reads this kubeconfig.
    let connect = ["connect", "--kubeconfig", &dave, "-n", web.namespace()];
    desk.kdev_as(User::Root, &connect).ok();
    let _program = desk.laptop.serve(9000);
    let intercept = ["intercept", "web", "--port", "9000:http"];
    let refused = desk.kdev_as(User::Root, &intercept).exits(RIGHTS);
    refused.says("patch").says("services").says("dave");
    web.assert_untouched();
    desk.kdev_as(User::Root, &["quit"]).ok();
}
