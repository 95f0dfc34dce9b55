//! What comes with an intercept: a workload that rests meanwhile, a Service made for it, a personal mark; and
//! that all of it is put back, whoever dies.

use std::net::SocketAddr;
use std::time::Duration;

use kdev_e2e::datagrams::{Client, Responder, Who};
use kdev_e2e::desk::Desk;
use kdev_e2e::http::{Requests, who_answers};
use kdev_e2e::kept::Kept;
use kdev_e2e::laptop::{Daemon, User};
use kdev_e2e::pod::PodPlace;
use kdev_e2e::wait;
use kdev_e2e::workload::{Namespace, Workload};
use serde_json::{Value, json};

const USAGE: i32 = 2;
const RIGHTS: i32 = 7;
const NOT_FOUND: i32 = 10;
const CONFLICT: i32 = 11;
const LOCAL_PORT: i32 = 12;

/// A laptop that is connected to a manager of its own, which gives up sessions that are gone for 3 s.
fn impatient(topic: &'static str) -> (Desk, Workload<'static>, Namespace<'static>) {
    with_own_manager(topic, "3")
}

/// With a manager of its own, which puts back after so many seconds what a lost session has left.
fn with_own_manager(
    topic: &'static str,
    grace: &str,
) -> (Desk, Workload<'static>, Namespace<'static>) {
    let desk = Desk::clean();
    let web = Workload::up(desk.cluster, topic);
    let namespace = Namespace::only_named(desk.cluster, topic);
    desk.connect_to_own(&namespace, grace, &web);
    (desk, web, namespace)
}

fn deployment(desk: &Desk, web: &Workload<'_>) -> Value {
    desk.cluster
        .get(&["-n", web.namespace(), "deployment", "web"])
}

fn service_is_gone(desk: &Desk, web: &Workload<'_>, name: &str) -> bool {
    let get = ["-n", web.namespace(), "get", "service", name];
    desk.cluster.kubectl(&get).code != 0
}

/// Expects two replicas without a mark.
fn assert_scaled_back(desk: &Desk, web: &Workload<'_>) {
    let deployment = deployment(desk, web);
    assert_eq!(deployment["spec"]["replicas"], 2);
    let metadata = deployment["metadata"].to_string();
    assert!(!metadata.contains(r#""kdev.dev/"#), "{metadata}");
}

#[test]
fn a_replaced_workload_rests_until_its_service_is_left() {
    let (desk, web) = Desk::beside("replace");
    let _program = desk.laptop.serve(9000);
    let requests = Requests::start(desk.cluster.node(), web.address(80));
    desk.kdev(&["replace", "web", "--port", "9000:http"])
        .ok()
        .says("from 2 to 0")
        .says("active");
    wait::until_true("its pods are gone", Duration::from_secs(30), || {
        web.pods().is_empty()
    });
    requests.more(30);
    desk.kdev(&["status"]).ok().says("scaled to zero");
    desk.kdev(&["leave", "web"]).ok().says("scaled deployment");
    requests.more(30);
    let tally = requests.stop();
    assert!(tally.failed.is_empty(), "{tally:?}");
    assert!(tally.answered["the-laptop"] >= 30, "{tally:?}");
    assert_scaled_back(&desk, &web);
    web.assert_untouched();
}

#[test]
fn who_scales_a_replaced_workload_up_is_seen_and_left_alone() {
    let (desk, web) = Desk::beside("scaled-up");
    let _program = desk.laptop.serve(9000);
    desk.kdev(&["replace", "web", "--port", "9000:http"])
        .ok()
        .says("from 2 to 0");
    web.kubectl(&["scale", "deploy/web", "--replicas=3"]).ok();
    desk.kdev(&["status"])
        .ok()
        .says("was scaled up by somebody, to 3 replicas");
    assert_eq!(desk.status()["intercepts"][0]["state"], "degraded");
    desk.kdev(&["leave", "web"]).ok();
    assert_eq!(deployment(&desk, &web)["spec"]["replicas"], 3);
    web.kubectl(&["scale", "deploy/web", "--replicas=2"]).ok();
    assert_scaled_back(&desk, &web);
}

#[test]
fn a_workload_isnt_taken_from_somebody_who_needs_it_for_another_port() {
    let (desk, web) = Desk::beside("shared");
    let _program = desk.laptop.serve(9000);
    let rule = json!({ "rule": { "any": [{ "all": [{ "header": "x-user=ann" }] }] } });
    claim_of_anns(&web, &rule);
    let annotate = ["annotate", "--overwrite", "service", "web"];
    let replace = ["replace", "web", "--port", "9000:http"];
    for options in [&[][..], &["--take-over"]] {
        desk.kdev(&[&replace[..], options].concat())
            .exits(CONFLICT)
            .says("port echo (7/TCP) held by ann@another-laptop");
    }
    assert_eq!(deployment(&desk, &web)["spec"]["replicas"], 2);
    web.kubectl(&[&annotate[..], &["kdev.dev/intercepts-"]].concat())
        .ok();
    // One's own conditions are in the way, and are ended where that is wanted.
    let rule = ["--port", "9000:echo", "--header", "x-user=ann"];
    desk.kdev(&[&["intercept", "web"], &rule[..]].concat()).ok();
    desk.kdev(&replace)
        .exits(CONFLICT)
        .says("--header x-user=ann")
        .says("--take-over");
    let several = ["--port", "9000:echo", "--take-over"];
    desk.kdev(&[&replace[..], &several[..]].concat())
        .ok()
        .says("ended your earlier intercept")
        .says("from 2 to 0")
        .says("port 7/TCP comes to");
    desk.kdev(&["leave", "web"]).ok();
    assert_scaled_back(&desk, &web);
    web.assert_untouched();
}

#[test]
fn whole_ports_stand_beside_a_replacement_whichever_came_first() {
    let (desk, web) = Desk::beside("both");
    let _program = desk.laptop.serve(9000);
    let replace = ["replace", "web", "--port", "9000:http"];
    // Hers was there before.
    claim_of_anns(&web, &json!({}));
    desk.kdev(&replace).ok().says("from 2 to 0");
    desk.kdev(&["list"])
        .ok()
        .says("echo:7/TCP held by ann@another-laptop")
        .says("http:80/TCP replaced by dev@");
    desk.kdev(&["leave", "web"]).ok();
    claim_of_anns(&web, &Value::Null);
    assert_scaled_back(&desk, &web);
    wait::until_true("the Service is whole", Duration::from_secs(30), || {
        web.slices() == ["endpointslice-controller.k8s.io"]
    });
    // Hers replaces it, and was there before.
    claim_of_anns(&web, &json!({ "mode": "replace" }));
    let echo = ["web", "--port", "9000:http"];
    desk.kdev(&[&["wiretap"], &echo[..]].concat())
        .exits(CONFLICT)
        .says("port echo (7/TCP) replaced by ann@another-laptop");
    let passing = ["--if-down", "pass"];
    desk.kdev(&[&["intercept"], &echo[..], &passing].concat())
        .exits(CONFLICT)
        .says("scaled to zero");
    desk.kdev(&replace)
        .exits(CONFLICT)
        .says("port echo (7/TCP) replaced by ann@another-laptop");
    desk.kdev(&[&["intercept"], &echo[..]].concat())
        .ok()
        .says("active");
    desk.kdev(&["leave", "web"]).ok();
    claim_of_anns(&web, &Value::Null);
    // A copy that was there before is in the way of a replacement as well.
    desk.kdev(&["wiretap", "web", "--port", "9000:echo"]).ok();
    desk.kdev(&replace).exits(CONFLICT).says("copied to dev@");
    desk.kdev(&["leave", "web"]).ok();
    web.assert_untouched();
}

/// Writes a claim on the echo as another machine's kdev does, with what else is said of it; with `null` takes it away.
fn claim_of_anns(web: &Workload<'_>, more: &Value) {
    let claims = more.as_object().map(|more| {
        let mut claim = json!({
            "id": "f00d", "session": "beef", "owner": "ann@another-laptop", "manager": "kdev",
            "port": { "name": "echo", "number": 7, "protocol": "TCP" },
            "since": "2026-01-02T03:04:05Z",
        });
        for (key, value) in more {
            claim[key] = value.clone();
        }
        format!("kdev.dev/intercepts={}", json!([claim]))
    });
    let claims = claims.unwrap_or_else(|| "kdev.dev/intercepts-".to_owned());
    web.kubectl(&["annotate", "--overwrite", "service", "web", &claims])
        .ok();
}

#[test]
fn what_the_pods_stand_in_for_starts_before_its_program() {
    let (desk, web) = Desk::beside("early");
    let early = ["--port", "9000:http", "--if-down", "pass"];
    // So does one that the command itself starts, and that has something else to do first.
    let script = "until [ -e $HOME/go ]; do sleep 0.1; done; exit 6";
    let program = ["--", "bash", "-c", script];
    let go = "until kdev status | grep -q active; do sleep 0.1; done; touch $HOME/go";
    desk.laptop.shell(User::Dev, "rm -f $HOME/go").ok();
    std::thread::scope(|scope| {
        let going = scope.spawn(|| desk.laptop.shell(User::Dev, go).ok());
        let words = [&["intercept", "web"], &early[..], &program[..]].concat();
        desk.kdev(&words).exits(6).says("active");
        going.join().unwrap();
    });
    web.assert_untouched();
    desk.kdev(&[&["intercept", "web"], &early[..]].concat())
        .ok()
        .says("nothing listens on TCP port 9000")
        .says("active");
    assert!(web.answers_a_pod().starts_with("web-"));
    let _program = desk.laptop.serve(9000);
    assert_eq!(web.answers_a_pod(), "the-laptop");
    desk.kdev(&["leave", "web"]).ok();
    desk.kdev(&[&["replace", "web"], &early[..]].concat())
        .exits(USAGE)
        .says("scales them to zero");
    assert_scaled_back(&desk, &web);
    web.assert_untouched();
}

#[test]
fn a_wiretap_gets_copies_and_nobody_notices() {
    let (desk, web) = Desk::beside("wiretap");
    let address = web.address(80);
    let mut program = desk.laptop.serve(9000);
    let tap = ["wiretap", "web", "--port", "9000:http"];
    desk.kdev(&[&tap[..], &["--header", "x-user=ann"]].concat())
        .ok()
        .says("active");
    desk.kdev(&[&tap[..], &["--path-prefix", "/sum"]].concat())
        .ok();
    desk.kdev(&["list"]).ok().says("copied to dev@");
    let connections = || {
        let all = desk.status()["intercepts"].as_array().unwrap().clone();
        all.iter()
            .map(|one| one["connections"].as_u64().unwrap())
            .sum::<u64>()
    };
    desk.cluster.node().inside(|| {
        let mut kept = Kept::connect(address).unwrap();
        for _ in 0..100 {
            let who = kept.who_answers("x-user: ann\r\n").unwrap();
            assert!(who.starts_with("web-"), "{who}");
        }
        assert!(kept.who_answers("").unwrap().starts_with("web-"));
    });
    wait::until_true("the copies have come", Duration::from_secs(20), || {
        connections() >= 1
    });
    // Somebody else's intercept goes on beside it.
    let _other = desk.laptop.serve_as("bobs-laptop", 9001);
    desk.kdev(&["intercept", "web", "--port", "9001:http"]).ok();
    desk.cluster.node().inside(|| {
        let mut kept = Kept::connect(address).unwrap();
        assert_eq!(kept.who_answers("x-user: ann\r\n").unwrap(), "bobs-laptop");
    });
    // Nothing of the copy's fate is the client's.
    program.end();
    desk.cluster.node().inside(|| {
        let mut kept = Kept::connect(address).unwrap();
        assert_eq!(kept.who_answers("x-user: ann\r\n").unwrap(), "bobs-laptop");
    });
    desk.kdev(&["leave", "web"]).ok();
    web.assert_untouched();
}

#[test]
fn what_can_not_be_replaced_is_refused_with_the_reason() {
    let (desk, web) = Desk::beside("bare");
    let _program = desk.laptop.serve(9000);
    let nothing = json!({ "selector": { "app": "nobody" }, "ports": [{ "port": 80 }] });
    web.add_service("nobody", &nothing);
    desk.kdev(&["replace", "nobody", "--port", "9000"])
        .exits(USAGE)
        .says("no deployment");
    desk.kdev(&["replace", "none", "--port", "9000"])
        .exits(NOT_FOUND);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "alone", "namespace": web.namespace(), "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "alone", "image": "kdev.test/workload:1" }] },
    });
    desk.cluster.apply(&pod);
    desk.kdev(&["replace", "web", "--port", "9000:http"])
        .exits(USAGE)
        .says("pod alone");
    assert_scaled_back(&desk, &web);
    web.assert_untouched();
}

#[test]
fn a_preview_is_a_service_of_its_own_until_it_is_left() {
    let (desk, web) = Desk::beside("preview");
    let _program = desk.laptop.serve(9000);
    desk.kdev(&["preview", "mine", "--port", "9000:8080"])
        .ok()
        .says("active");
    let page = web.in_pod(&["get", "http://mine:8080/"]).ok().json();
    assert_eq!(page["pod"], "the-laptop");
    assert!(web.answers_a_pod().starts_with("web-"));
    desk.kdev(&["preview", "web", "--port", "9000"])
        .exits(CONFLICT)
        .says("already");
    desk.kdev(&["preview", "Bad_Name", "--port", "9000"])
        .exits(USAGE)
        .says("lower case letters");
    desk.kdev(&["leave", "mine"])
        .ok()
        .says("removed")
        .says("the Service is gone");
    assert!(service_is_gone(&desk, &web, "mine"));
    desk.kdev(&["preview", "mine", "--port", "9000"]).ok();
    desk.kdev(&["quit"]).ok();
    assert!(service_is_gone(&desk, &web, "mine"));
}

#[test]
fn a_preview_of_several_ports_is_one_service_that_is_made_and_left_as_a_whole() {
    let (desk, web) = Desk::beside("ports");
    let _first = desk.laptop.serve_as("first", 9000);
    let _second = desk.laptop.serve_as("second", 9001);
    let _third = Responder::start(desk.laptop.network(), "127.0.0.1:9000");
    let gone = || service_is_gone(&desk, &web, "mine");
    let preview = |ports: &[&str], more: &[&str]| {
        let ports = ports.iter().flat_map(|one| ["--port", *one]);
        let words: Vec<&str> = ["preview", "mine"].into_iter().chain(ports).collect();
        desk.kdev(&[&words[..], more].concat())
    };
    // All of them, or none.
    preview(&["9000:80", "9001:80"], &[])
        .exits(USAGE)
        .says("80/TCP is given twice");
    preview(&["9000:80", "9002:81"], &[])
        .exits(LOCAL_PORT)
        .says("9002");
    assert!(gone());

    let all = ["9000:80", "9001:8080", "9000:80/udp"];
    let mut made = preview(&all, &[]).ok();
    for port in ["80/TCP", "8080/TCP", "80/UDP"] {
        made = made.says(&format!(
            "active: {}/mine port {port} comes",
            web.namespace()
        ));
    }
    let who = |port: u16| {
        let url = format!("http://mine:{port}/");
        web.in_pod(&["get", &url]).ok().json()["pod"].clone()
    };
    assert_eq!((who(80), who(8080)), ("first".into(), "second".into()));
    let service = desk
        .cluster
        .get(&["-n", web.namespace(), "service", "mine"]);
    let address = service["spec"]["clusterIP"].as_str().unwrap().parse();
    let pod = PodPlace::all(desk.cluster, web.namespace(), "app=web").remove(0);
    let client = Client::new(&pod.network, SocketAddr::new(address.unwrap(), 80));
    assert_eq!(client.who_answers(), Some(Who::Laptop));

    let mut listed = desk.kdev(&["list"]).ok();
    for port in ["80-tcp:80/TCP", "8080-tcp:8080/TCP", "80-udp:80/UDP"] {
        listed = listed.says(&format!("{port} held by dev@"));
    }
    let mut status = desk.kdev(&["status"]).ok();
    for (port, local) in [("80/TCP", 9000), ("8080/TCP", 9001), ("80/UDP", 9000)] {
        status = status.says(&format!("port {port}, made for it, to local port {local}"));
    }

    let leave = ["leave", "mine"];
    desk.kdev(&[&leave[..], &["--port", "8080"]].concat())
        .exits(USAGE)
        .says("leave --port out");
    assert_eq!(who(8080), "second");
    desk.kdev(&leave).ok().says("the Service is gone");
    assert!(gone());
    assert_eq!(desk.status()["intercepts"], json!([]));

    // For as long as a program runs, or a session.
    let asks = "until curl -sf http://mine:8080/ | grep -q second; do sleep 0.1; done; exit 3";
    preview(&all, &["--", "sh", "-c", asks]).exits(3);
    assert!(gone());
    assert_eq!(desk.status()["intercepts"], json!([]));
    preview(&all, &[]).ok();
    desk.kdev(&["quit"]).ok();
    assert!(gone());
    web.assert_untouched();
}

#[test]
fn what_a_killed_daemon_leaves_the_manager_puts_back() {
    let (desk, web, manager) = impatient("orphans");
    let (_first, _second) = (desk.laptop.serve(9000), desk.laptop.serve(9001));
    desk.kdev(&["replace", "web", "--port", "9000:http"]).ok();
    let two = ["--port", "9001", "--port", "9000:80"];
    desk.kdev(&[&["preview", "mine"], &two[..]].concat()).ok();
    desk.laptop.kill(Daemon::User);
    wait::until_true("the preview is gone", Duration::from_secs(30), || {
        service_is_gone(&desk, &web, "mine")
    });
    let address = web.address(80);
    wait::until_true("the pods answer again", Duration::from_secs(60), || {
        let answer = desk.cluster.node().inside(|| who_answers(address));
        answer.is_ok_and(|pod| pod.starts_with("web-"))
    });
    assert_scaled_back(&desk, &web);
    wait::until_true("the Service is whole", Duration::from_secs(10), || {
        web.slices() == ["endpointslice-controller.k8s.io"]
    });
    web.assert_untouched();
    desk.kdev(&["uninstall", "-n", manager.name()]).ok();
}

/// Takes the manager away, and then the daemon that would put back what it holds. The manager may take some seconds to
/// end, in which it mustn't put anything back either.
fn abandon(desk: &Desk, manager: &str) {
    let in_it = ["-n", manager];
    let scale = ["scale", "deploy/kdev-traffic-manager", "--replicas=0"];
    desk.cluster.kubectl(&[&in_it[..], &scale].concat()).ok();
    desk.laptop.kill(Daemon::User);
    wait::until_true("the manager is gone", Duration::from_secs(30), || {
        let pods = desk.cluster.get(&["-n", manager, "pods"]);
        pods["items"].as_array().is_some_and(Vec::is_empty)
    });
}

#[test]
fn who_may_look_into_one_namespace_only_recovers_that() {
    let (desk, web, namespace) = with_own_manager("narrow", "60");
    let manager = namespace.name();
    let _program = desk.laptop.serve(9000);
    desk.kdev(&["replace", "web", "--port", "9000:http"]).ok();
    abandon(&desk, manager);
    let dave = desk.cluster.kubeconfig_of("dave");
    let grant = |namespace: &str, name: &str, verbs: &str, resources: &str| {
        desk.cluster.grant_dave(namespace, name, verbs, resources);
    };
    grant(manager, "e2e-find", "get,list", "pods");
    let there = web.namespace();
    grant(there, "e2e-pods", "list", "pods");
    grant(there, "e2e-services", "get,list,patch,delete", "services");
    let slices = "endpointslices.discovery.k8s.io";
    let all = "get,list,create,update,patch,delete";
    grant(there, "e2e-slices", all, slices);
    grant(there, "e2e-endpoints", "get,patch", "endpoints");
    grant(there, "e2e-scale", "get,list,patch", "deployments.apps");
    // Only root reads this kubeconfig.
    let recover = |more: &[&str]| {
        let recover = [
            "recover",
            "--kubeconfig",
            &dave,
            "--manager-namespace",
            manager,
        ];
        desk.kdev_as(User::Root, &[&recover[..], more].concat())
    };
    recover(&[]).exits(RIGHTS).says("-n NAMESPACE");
    recover(&["-n", there, "--dry-run"])
        .ok()
        .says("would put back: ")
        .says("/web")
        .says("you may not list statefulsets");
    assert_eq!(deployment(&desk, &web)["spec"]["replicas"], 0);
    recover(&["-n", there]).ok().says("put back: ");
    assert_scaled_back(&desk, &web);
    wait::until_true("the Service is whole", Duration::from_secs(30), || {
        web.slices() == ["endpointslice-controller.k8s.io"]
    });
    web.assert_untouched();
    desk.kdev(&["uninstall", "-n", manager]).ok();
}

#[test]
fn who_may_not_look_everywhere_is_told_so_after_what_can_be_seen_is_put_back() {
    let (desk, web, namespace) = with_own_manager("partly", "60");
    let (manager, there) = (namespace.name(), web.namespace());
    let _program = desk.laptop.serve(9000);
    desk.kdev(&["replace", "web", "--port", "9000:http"]).ok();
    abandon(&desk, manager);
    let dave = desk.cluster.kubeconfig_of("dave");
    let slices = "endpointslices.discovery.k8s.io";
    let grant = |namespace: &str, name: &str, verbs: &str, resources: &str| {
        desk.cluster.grant_dave(namespace, name, verbs, resources);
    };
    let some = format!("services,deployments.apps,{slices}");
    let _everywhere = desk
        .cluster
        .grant_dave_everywhere("e2e-partly", "list", &some);
    grant(manager, "e2e-find", "get,list", "pods");
    grant(there, "e2e-pods", "list", "pods");
    grant(there, "e2e-services", "get,patch", "services");
    let all = "get,list,create,update,patch,delete";
    grant(there, "e2e-slices", all, slices);
    grant(there, "e2e-endpoints", "get,patch", "endpoints");
    grant(there, "e2e-look", "get", "deployments.apps");
    let recover = |more: &[&str]| {
        let to = ["--kubeconfig", &dave, "--manager-namespace", manager];
        desk.kdev_as(User::Root, &[&["recover"], &to[..], more].concat())
    };
    recover(&["--dry-run"])
        .exits(RIGHTS)
        .says("would put back: ")
        .says("you may not list statefulsets, list replicasets in all namespaces")
        .says("-n NAMESPACE");
    // What is seen and can't be changed is another matter, which no other namespace helps with.
    let refused = recover(&[])
        .exits(RIGHTS)
        .says(&format!("can't scale back deployment {there}/web"))
        .says("may not patch deployments.apps in namespace")
        .says("next: Ask the cluster's administrator");
    assert!(!refused.stderr.contains("-n NAMESPACE"), "{refused:#?}");
    assert_eq!(deployment(&desk, &web)["spec"]["replicas"], 0);
    grant(there, "e2e-scale", "patch", "deployments.apps");
    recover(&[])
        .exits(RIGHTS)
        .says(&format!("put back: deployment {there}/web"))
        .says("you may not list statefulsets, list replicasets in all namespaces")
        .says("-n NAMESPACE");
    assert_scaled_back(&desk, &web);
    wait::until_true("the Service is whole", Duration::from_secs(30), || {
        web.slices() == ["endpointslice-controller.k8s.io"]
    });
    web.assert_untouched();
    desk.kdev(&["uninstall", "-n", manager]).ok();
}

#[test]
fn what_nobody_puts_back_is_recovered_with_ones_own_rights() {
    let (desk, web, namespace) = with_own_manager("recover", "60");
    let manager = namespace.name();
    let (_first, _second) = (desk.laptop.serve(9000), desk.laptop.serve(9001));
    desk.kdev(&["replace", "web", "--port", "9000:http"]).ok();
    let two = ["--port", "9001", "--port", "9000:80"];
    desk.kdev(&[&["preview", "mine"], &two[..]].concat()).ok();
    desk.kdev(&["recover", "--manager-namespace", manager])
        .exits(CONFLICT)
        .says("puts back by itself");
    abandon(&desk, manager);
    desk.kdev(&["recover", "--manager-namespace", manager, "--dry-run"])
        .ok()
        .says("would put back: ")
        .says("/web")
        .says("/mine")
        .says("deployment");
    assert_eq!(deployment(&desk, &web)["spec"]["replicas"], 0);
    desk.kdev(&["recover", "--manager-namespace", manager])
        .ok()
        .says("put back");
    assert_scaled_back(&desk, &web);
    assert!(service_is_gone(&desk, &web, "mine"));
    wait::until_true("the Service is whole", Duration::from_secs(30), || {
        web.slices() == ["endpointslice-controller.k8s.io"]
    });
    web.assert_untouched();
    desk.kdev(&["recover", "--manager-namespace", manager])
        .ok()
        .says("nothing to put back");
    desk.kdev(&["uninstall", "-n", manager]).ok();
}

#[test]
fn ones_own_mark_is_printed_as_one_sends_it() {
    let (desk, web) = Desk::beside("mark");
    let _program = desk.laptop.serve(9000);
    let run = desk
        .kdev(&["intercept", "web", "--port", "9000:http", "--mine"])
        .ok();
    let (_, header) = run.stderr.split_once("-H '").expect("a header for curl");
    let (header, _) = header.split_once('\'').expect("its end");
    assert!(header.starts_with("baggage: kdev=dev-"), "{header}");
    desk.cluster.node().inside(|| {
        let mut kept = Kept::connect(web.address(80)).unwrap();
        let marked = kept.who_answers(&format!("{header}\r\n")).unwrap();
        assert_eq!(marked, "the-laptop");
        assert!(kept.who_answers("").unwrap().starts_with("web-"));
    });
    desk.kdev(&["quit"]).ok();
}

#[test]
fn ones_own_intercept_of_an_earlier_session_is_taken_over_when_that_is_wanted() {
    let (desk, web) = Desk::beside("over");
    let _program = desk.laptop.serve(9000);
    let intercept = ["intercept", "web", "--port", "9000:http"];
    desk.kdev(&intercept).ok();
    desk.laptop.kill(Daemon::User);
    desk.kdev(&["connect", "-n", web.namespace()]).ok();
    desk.kdev(&intercept).exits(CONFLICT).says("--take-over");
    desk.kdev(&[&intercept[..], &["--take-over"]].concat())
        .ok()
        .says("ended your earlier intercept");
    assert_eq!(web.answers_a_pod(), "the-laptop");
    desk.kdev(&["quit"]).ok();
    web.assert_untouched();
}
