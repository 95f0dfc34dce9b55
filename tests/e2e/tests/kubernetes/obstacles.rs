//! What keeps connections from an intercept's path is found out before it costs anybody a request, and named.

use kdev_e2e::desk::Desk;
use kdev_e2e::firewall::Firewall;
use kdev_e2e::pod::PodPlace;
use kdev_e2e::workload::Workload;
use serde_json::{Value, json};

/// `kdev`'s exit code for an intercept that didn't work.
const PROBE: i32 = 13;

fn policy(desk: &Desk, web: &Workload<'_>, name: &str, spec: &Value) {
    desk.cluster.apply(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": name, "namespace": web.namespace() }, "spec": spec,
    }));
}

#[test]
fn a_rule_isnt_put_where_the_manager_cant_pass_on_what_it_leaves() {
    let (desk, web) = Desk::beside("closed");
    let _program = desk.laptop.serve(9000);
    let only_frontends = json!({
        "podSelector": { "matchLabels": { "app": "web" } },
        "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "frontend" } } }] }],
    });
    policy(&desk, &web, "only-frontends", &only_frontends);
    // This cluster's network doesn't enforce it: so it is done by hand.
    let manager = PodPlace::manager(desk.cluster);
    let pods = PodPlace::all(desk.cluster, web.namespace(), "app=web");
    let lost: Vec<_> = pods.iter().map(|pod| pod.address.to_string()).collect();
    let lost = format!("ip daddr {{ {} }} drop", lost.join(", "));
    let firewall = Firewall::put(&manager.network, "output", &lost);
    let rule = [
        "intercept",
        "web",
        "--port",
        "9000:http",
        "--header",
        "x-user=ann",
    ];
    desk.kdev(&rule)
        .exits(PROBE)
        .says("doesn't get through to the Service's pods")
        .says(&format!("NetworkPolicy {}/only-frontends", web.namespace()));
    web.assert_untouched();
    // Nothing is left to the pods here.
    desk.kdev(&["intercept", "web", "--port", "9000:http"])
        .ok()
        .says("active");
    desk.kdev(&["leave", "web"]).ok();
    drop(firewall);
    // Not enforced, it is a note.
    desk.kdev(&rule)
        .ok()
        .says("note: NetworkPolicy")
        .says("active");
    desk.kdev(&["leave", "web"]).ok();
    web.assert_untouched();
}

#[test]
fn policies_and_meshes_that_may_be_in_the_way_are_noted() {
    let (desk, web) = Desk::beside("noted");
    let _program = desk.laptop.serve(9000);
    let intercept = |rule: &[&str]| {
        let all = ["intercept", "web", "--port", "9000:http"];
        let outcome = desk.kdev(&[&all[..], rule].concat()).ok();
        desk.kdev(&["leave", "web"]).ok();
        outcome
    };
    let nothing_else = json!({
        "podSelector": { "matchLabels": { "app": "cart" } },
        "egress": [{ "to": [{ "podSelector": { "matchLabels": { "app": "web" } } }] }],
        "policyTypes": ["Egress"],
    });
    policy(&desk, &web, "only-web", &nothing_else);
    // It selects no pod.
    assert!(!intercept(&[]).text().contains("note:"));
    desk.cluster.apply(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "cart", "namespace": web.namespace(), "labels": { "app": "cart" } },
        "spec": { "containers": [{ "name": "cart", "image": "kdev.test/workload:1" }] },
    }));
    intercept(&[]).says("only-web keeps 1 pod of this namespace (as cart) from the manager's pod");
    let all = [
        "annotate",
        "pods",
        "-l",
        "app=web",
        "ambient.istio.io/redirection=enabled",
    ];
    web.kubectl(&all).ok();
    intercept(&["--header", "x-user=ann"]).says("in a mesh (Istio)");
    assert!(!intercept(&[]).text().contains("mesh"));
    web.assert_untouched();
}
