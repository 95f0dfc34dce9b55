//! Somebody else changes what an intercept stands on: the selector, the slices, the Service itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kdev_e2e::desk::Desk;
use kdev_e2e::http::who_answers;
use kdev_e2e::laptop::User;
use kdev_e2e::wait;
use kdev_e2e::workload::Workload;
use serde_json::{Value, json};

/// Where the laptop reaches the manager, whichever way it takes.
const NODE: &str = "10.88.0.10";
/// How long what is to come back may take.
const BACK: Duration = Duration::from_secs(30);

fn intercept(desk: &Desk, command: &str) {
    desk.kdev(&[command, "web", "--port", "9000:http"])
        .ok()
        .says("active");
}

/// Writes the selector as a tool named `by` would that knows what the Service is to be.
fn write_selector(web: &Workload<'_>, by: &str) {
    let by = format!("--field-manager={by}");
    let patch = json!({ "spec": { "selector": { "app": "web" } } }).to_string();
    let args = ["patch", "service", "web", &by, "-p", &patch];
    web.kubectl(&args).ok();
}

fn has_selector(web: &Workload<'_>) -> bool {
    web.service()["spec"]["selector"].is_object()
}

/// Who answers a new connection from within the cluster.
fn who(desk: &Desk, web: &Workload<'_>) -> Option<String> {
    let address = web.address(80);
    let answer = desk.cluster.node().inside(|| who_answers(address));
    answer.ok()
}

fn shown(desk: &Desk) -> Value {
    desk.status()["intercepts"][0].clone()
}

fn wait_for_state(desk: &Desk, state: &str) -> Value {
    wait::until(&format!("status shows {state}"), BACK, || {
        let shown = shown(desk);
        (shown["state"] == state).then_some(shown)
    })
}

fn wait_for_machine(desk: &Desk, web: &Workload<'_>) {
    wait::until_true("connections come to the machine", BACK, || {
        who(desk, web).as_deref() == Some("the-laptop")
    });
}

#[test]
fn a_selector_that_is_written_back_is_cleared_again_and_its_writer_is_named() {
    let (desk, web) = Desk::beside("contested");
    let line = "POD_NAME=the-laptop kdev intercept web --port 9000:http -- \
                bash -c 'workload serve --http 9000 --echo 0 --udp-echo 0 --sink 0 & \
                         trap \"kill $!; exit 5\" TERM; wait'";
    let command = || {
        let words = ["bash", "-c", line];
        desk.laptop.run_for(User::Dev, &words, 8 * BACK)
    };
    let cleared = || {
        wait::until_true("the selector is cleared again", BACK, || {
            !has_selector(&web)
        });
    };
    thread::scope(|scope| {
        let command = scope.spawn(command);
        wait_for_machine(&desk, &web);
        // At once the first time.
        write_selector(&web, "gitops");
        cleared();
        wait_for_machine(&desk, &web);
        // Who does it again is put up with, and named meanwhile.
        for _ in 0..2 {
            write_selector(&web, "gitops");
            let shown = wait_for_state(&desk, "degraded");
            assert!(shown["detail"].to_string().contains("gitops"), "{shown}");
            cleared();
            wait_for_state(&desk, "ok");
        }
        wait_for_machine(&desk, &web);
        // Who does it all the time has it.
        let stop = AtomicBool::new(false);
        let given_up = thread::scope(|writers| {
            for _ in 0..2 {
                writers.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        write_selector(&web, "gitops");
                    }
                });
            }
            let over = || command.is_finished().then_some(());
            let given_up = wait::within(4 * BACK, over);
            stop.store(true, Ordering::Relaxed);
            given_up
        });
        assert!(
            given_up.is_some(),
            "it is given up, and its program with it"
        );
        let command = command.join().unwrap().exits(5);
        command.says("gitops").says("pause");
    });
    wait::until_true("the pods answer", BACK, || {
        who(&desk, &web).is_some_and(|who| who.starts_with("web-"))
    });
    // Whoever has mended the reason has it again.
    let _program = desk.laptop.serve(9000);
    intercept(&desk, "intercept");
    wait_for_machine(&desk, &web);
    desk.kdev(&["leave", "web"]).ok();
    web.assert_untouched();
}

#[test]
fn what_was_put_back_a_moment_ago_is_nobodys_contest() {
    let (desk, web) = Desk::beside("again");
    let _program = desk.laptop.serve(9000);
    for _ in 0..12 {
        intercept(&desk, "intercept");
        desk.kdev(&["leave", "web"]).ok();
    }
    intercept(&desk, "intercept");
    let log = [
        "-n",
        "kdev",
        "logs",
        "deploy/kdev-traffic-manager",
        "--since=5m",
    ];
    let log = desk.cluster.kubectl(&log).ok();
    let of_it = format!("service={}/web", web.namespace());
    let contests = log.text().lines().filter(|line| line.contains(&of_it));
    let contests: Vec<_> = contests
        .filter(|line| line.contains("written back"))
        .collect();
    assert!(contests.is_empty(), "{contests:?}");
    desk.kdev(&["leave", "web"]).ok();
    web.assert_untouched();
}

#[test]
fn slices_that_somebody_deletes_are_written_again() {
    let (desk, web) = Desk::beside("slices");
    let _program = desk.laptop.serve(9000);
    intercept(&desk, "intercept");
    let own = || web.slices().iter().filter(|by| by.contains("kdev")).count();
    let before = own();
    assert!(before > 0);
    for _ in 0..3 {
        let label = "kubernetes.io/service-name=web";
        let args = ["delete", "endpointslices", "-l", label];
        web.kubectl(&args).ok();
        wait::until_true("the slices are there again", BACK, || own() == before);
    }
    wait_for_machine(&desk, &web);
    wait_for_state(&desk, "ok");
    desk.kdev(&["leave", "web"]).ok();
    web.assert_untouched();
}

/// A Service with one port stands on the cluster's own slice, which is borrowed.
#[test]
fn the_clusters_slice_is_the_controllers_again_whatever_becomes_of_it_meanwhile() {
    let (desk, web) = Desk::beside("borrowed");
    let _program = desk.laptop.serve(9000);
    web.add_single("single");
    let slices = || {
        let label = "kubernetes.io/service-name=single";
        let get = ["get", "endpointslices", "-o", "json", "-l", label];
        let list = web.kubectl(&get).ok().json();
        list["items"].as_array().cloned().unwrap_or_default()
    };
    // How many pods it leads to; none while that isn't the controller's to say.
    let pods = || {
        let slices = slices();
        let [slice] = &slices[..] else { return 0 };
        let endpoints = slice["endpoints"].as_array().cloned().unwrap_or_default();
        let named = endpoints.iter().filter(|one| one["targetRef"].is_object());
        let metadata = slice["metadata"].to_string();
        match metadata.contains(r#""kdev.dev/"#) || !metadata.contains("endpointslice-controller") {
            true => 0,
            false => named.count(),
        }
    };
    let scale = |count: usize| {
        let replicas = format!("--replicas={count}");
        web.kubectl(&["scale", "deploy/web", &replicas]).ok();
        wait::until_true("the controller follows the pods", BACK, || pods() == count);
    };
    wait::until_true("the controller has written it", BACK, || pods() == 2);
    let intercept = || {
        desk.kdev(&["intercept", "single", "--port", "9000:http"])
            .ok()
            .says("active");
    };
    let leave = || {
        desk.kdev(&["leave", "single"]).ok();
        wait::until_true("the slice is the cluster's", BACK, || pods() == 2);
    };
    intercept();
    assert_eq!(slices().len(), 1);
    leave();
    scale(3);
    scale(2);
    // Somebody deletes it.
    intercept();
    let label = "kubernetes.io/service-name=single";
    web.kubectl(&["delete", "endpointslices", "-l", label]).ok();
    wait::until_true("there is one again", BACK, || slices().len() == 1);
    wait_for_state(&desk, "ok");
    leave();
    scale(3);
    scale(2);
    // Somebody changes it.
    intercept();
    let name = slices()[0]["metadata"]["name"].clone();
    let endpoints = json!({ "endpoints": [{ "addresses": ["203.0.113.9"] }] }).to_string();
    let patch = [
        "patch",
        "endpointslice",
        name.as_str().unwrap(),
        "-p",
        &endpoints,
    ];
    web.kubectl(&patch).ok();
    wait::until_true("it is put right", BACK, || {
        !slices()[0].to_string().contains("203.0.113.9")
    });
    wait_for_state(&desk, "ok");
    leave();
    scale(3);
    scale(2);
}

/// Deletes the Service, and returns what makes it again.
fn delete(web: &Workload<'_>) -> Value {
    let service = web.service();
    web.kubectl(&["delete", "service", "web"]).ok();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": web.namespace() },
        "spec": { "selector": { "app": "web" }, "ports": service["spec"]["ports"] },
    })
}

#[test]
fn a_service_that_is_deleted_ends_its_intercept_which_is_taken_again_with_the_next_of_its_name() {
    let (desk, web) = Desk::beside("deleted");
    let _program = desk.laptop.serve(9000);
    intercept(&desk, "intercept");
    let service = delete(&web);
    let shown = wait_for_state(&desk, "down");
    assert!(shown["detail"].to_string().contains("deleted"), "{shown}");
    desk.cluster.apply(&service);
    wait_for_state(&desk, "ok");
    wait_for_machine(&desk, &web);
    desk.kdev(&["leave", "web"]).ok();
    web.assert_untouched();
    // The same while no manager sees it.
    intercept(&desk, "intercept");
    let away = desk.cluster.without_manager();
    let service = delete(&web);
    desk.cluster.apply(&service);
    drop(away);
    wait_for_state(&desk, "ok");
    wait_for_machine(&desk, &web);
    desk.kdev(&["leave", "web"]).ok();
    web.assert_untouched();
    // Who has left it doesn't want the next one.
    intercept(&desk, "intercept");
    let service = delete(&web);
    wait_for_state(&desk, "down");
    desk.kdev(&["leave", "web"]).ok();
    desk.cluster.apply(&service);
    wait::until_true("the pods answer", BACK, || {
        who(&desk, &web).is_some_and(|who| who.starts_with("web-"))
    });
    desk.kdev(&["quit"]).ok();
    web.assert_untouched();
}

#[test]
fn a_port_that_its_service_loses_is_intercepted_again_when_it_is_back() {
    let (desk, web) = Desk::beside("port");
    let _program = desk.laptop.serve(9000);
    let all = web.service()["spec"]["ports"].clone();
    let write = |ports: &Value| {
        let patch = json!({ "spec": { "ports": ports } }).to_string();
        let args = ["patch", "service", "web", "--type=merge", "-p", &patch];
        web.kubectl(&args).ok();
    };
    let mut rest = all.clone();
    let rest = rest.as_array_mut().unwrap();
    rest.retain(|port| port["name"] != "http");
    for rule in [&[][..], &["--header", "x-user=ann"]] {
        let intercept = [&["intercept", "web", "--port", "9000:http"], rule].concat();
        desk.kdev(&intercept).ok().says("active");
        write(&json!(rest));
        let shown = wait_for_state(&desk, "down");
        assert!(
            shown["detail"]
                .to_string()
                .contains("no longer has the port"),
            "{shown}"
        );
        wait::until_true("the other ports are the pods'", BACK, || has_selector(&web));
        // Whoever comes back with what he holds doesn't lose it by that.
        let linked = || desk.status()["manager"]["since_ms"].as_u64();
        let before = linked();
        let cut = ["ss", "-K", "state", "established", "dst", NODE];
        desk.laptop.run(User::Root, &cut).ok();
        wait::until_true("the manager is reached again", BACK, || {
            linked() > before && desk.status()["manager"]["state"] == "ok"
        });
        write(&all);
        wait_for_state(&desk, "ok");
        if rule.is_empty() {
            wait_for_machine(&desk, &web);
        }
        desk.kdev(&["leave", "web"]).ok();
        web.assert_untouched();
    }
}

#[test]
fn a_replaced_workload_serves_while_nobody_else_does_and_rests_again_after() {
    let (desk, web) = Desk::beside("rests");
    let _program = desk.laptop.serve(9000);
    let replicas = || {
        let args = ["-n", web.namespace(), "deployment", "web"];
        desk.cluster.get(&args)["spec"]["replicas"].clone()
    };
    let wait_for = |count: u32| {
        wait::until_true(&format!("{count} replicas"), BACK, || replicas() == count);
    };
    intercept(&desk, "replace");
    wait_for(0);
    let away = desk.cluster.without_manager();
    wait_for(2);
    drop(away);
    wait_for(0);
    wait_for_machine(&desk, &web);
    wait_for_state(&desk, "ok");
    // While there is no Service.
    let service = delete(&web);
    wait_for(2);
    desk.cluster.apply(&service);
    wait_for(0);
    wait_for_machine(&desk, &web);
    desk.kdev(&["leave", "web"]).ok();
    assert_eq!(replicas(), 2);
    web.assert_untouched();
}
