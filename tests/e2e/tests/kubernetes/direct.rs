//! Carriers that lead to the manager's own port: taken by themselves, and given up for port-forwards
//! when they break.

use std::time::{Duration, Instant};

use kdev_e2e::desk::{DEMO, Desk};
use kdev_e2e::laptop::User;
use kdev_e2e::wait;
use serde_json::Value;

const SECONDS: Duration = Duration::from_secs(20);
/// A way that broke is looked at again after half a minute at the latest.
const BACK: Duration = Duration::from_secs(60);

/// The kinds of all carriers that carry, the control connection's first.
fn kinds(status: &Value) -> Vec<String> {
    let carriers = status["carriers"].as_array().into_iter().flatten();
    carriers
        .filter(|carrier| carrier["state"] == "ok")
        .map(|carrier| carrier["kind"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[track_caller]
fn wait_until_all_are(desk: &Desk, kind: &str, deadline: Duration) {
    wait::until_true(kind, deadline, || {
        let kinds = kinds(&desk.status());
        kinds.len() >= 4 && kinds.iter().all(|one| one == kind)
    });
}

/// The port of the node where the manager is reached.
fn node_port(desk: &Desk) -> u64 {
    let service = ["-n", "kdev", "service", "kdev-traffic-manager"];
    let port = desk.cluster.get(&service)["spec"]["ports"][0]["nodePort"].as_u64();
    port.expect("the Service has a port of the node's")
}

#[test]
fn a_manager_that_can_be_reached_directly_is() {
    let desk = Desk::connected();
    wait_until_all_are(&desk, "direct", SECONDS);
    let status = desk.status();
    assert_eq!(status["direct"]["state"], "ok", "{status:#}");
    assert!(desk.pod_at("http://web.demo/").starts_with("web-"));
}

#[test]
fn who_wants_port_forwards_only_gets_no_other() {
    let desk = Desk::connected_by(&["--direct", "never"]);
    wait_until_all_are(&desk, "port-forward", SECONDS);
    let port = node_port(&desk).to_string();
    let connections = desk
        .laptop
        .run(User::Root, &["ss", "-tn", "dport", "=", &port])
        .ok();
    assert_eq!(
        connections.lines().len(),
        1,
        "the heading alone: {connections:?}"
    );
}

#[test]
fn a_direct_way_that_breaks_is_replaced_by_port_forwards_and_taken_again() {
    let desk = Desk::connected();
    wait_until_all_are(&desk, "direct", SECONDS);
    let port = node_port(&desk);
    let talk = "exec 3<>/dev/tcp/web.demo/7
         echo before >&3; read -t 10 line <&3; echo $line
         touch /tmp/e2e-direct; while [ -e /tmp/e2e-direct ]; do sleep 0.1; done
         echo after >&3; read -t 60 line <&3; echo $line";
    let words = ["timeout", "150", "bash", "-c", talk];
    let said = std::thread::scope(|scope| {
        let talking = scope.spawn(|| desk.laptop.run_for(User::Root, &words, 3 * BACK));
        let there = ["test", "-e", "/tmp/e2e-direct"];
        wait::until_true("they talk", SECONDS, || {
            desk.laptop.run(User::Root, &there).code == 0
        });
        let block = format!(
            "nft -f - <<END\ntable inet e2e {{ chain out {{ type filter hook output priority 0; \
             tcp dport {port} reject with tcp reset; }}; }}\nEND\n\
             ss -K dport = {port}"
        );
        desk.laptop.shell(User::Root, &block).ok();
        wait_until_all_are(&desk, "port-forward", SECONDS);
        assert!(desk.pod_at("http://web.demo/").starts_with("web-"));
        desk.laptop
            .shell(User::Root, "nft delete table inet e2e")
            .ok();
        wait_until_all_are(&desk, "direct", BACK);
        desk.laptop.run(User::Root, &["rm", "/tmp/e2e-direct"]).ok();
        talking.join().unwrap()
    });
    assert_eq!(
        said.ok().lines(),
        ["before", "after"],
        "the same connection"
    );
}

#[test]
fn a_direct_way_that_passes_small_packets_only_is_left_at_once_by_all() {
    /// A carrier is found dead after 8 s, and the others with it: not one after the other.
    const TOGETHER: Duration = Duration::from_secs(16);
    let desk = Desk::connected();
    wait_until_all_are(&desk, "direct", SECONDS);
    // As where a smaller MTU on the way isn't told of (RFC 2923 2.1).
    let port = node_port(&desk);
    let block = format!(
        "nft -f - <<END\ntable inet e2e {{ chain out {{ type filter hook output priority 0; \
         tcp dport {port} meta length > 1400 drop; }}; }}\nEND"
    );
    desk.laptop.shell(User::Root, &block).ok();
    let upload = || {
        let began = Instant::now();
        let echo = "exec 3<>/dev/tcp/web.demo/7; head -c 300000 /dev/zero >&3 & \
                    head -c 300000 <&3 | wc -c";
        let echoed = desk
            .laptop
            .run_for(User::Dev, &["bash", "-c", echo], 3 * SECONDS);
        assert_eq!(echoed.ok().stdout.trim(), "300000");
        began.elapsed()
    };
    let first = upload();
    assert!(first < TOGETHER, "{first:?}");
    wait_until_all_are(&desk, "port-forward", SECONDS);
    let next: Vec<Duration> = (0..10).map(|_| upload()).collect();
    eprintln!("300 kB there and back took {first:?}, then {next:?}");
    assert!(next.iter().all(|took| *took < first), "{next:?}");
    wait::until_true("status says why", BACK, || {
        let why = desk.status()["direct"]["detail"].to_string();
        why.contains("full packets don't pass")
    });
    desk.laptop
        .shell(User::Root, "nft delete table inet e2e")
        .ok();
    wait_until_all_are(&desk, "direct", BACK);
}

#[test]
fn a_named_address_is_used_and_one_that_is_somebody_elses_isnt() {
    let desk = Desk::with_manager();
    let named = format!("10.88.0.10:{}", node_port(&desk));
    desk.kdev(&["connect", "-n", DEMO, "--direct", &named]).ok();
    wait_until_all_are(&desk, "direct", SECONDS);
    desk.kdev(&["quit"]).ok();

    // TLS too, but not the manager's key.
    let wrong = ["connect", "-n", DEMO, "--direct", "10.88.0.10:6443"];
    desk.kdev(&wrong)
        .ok()
        .says("no direct way: not reached at 10.88.0.10:6443")
        .says("isn't the manager")
        .says("port-forwards are used meanwhile");
    wait_until_all_are(&desk, "port-forward", SECONDS);
    wait::until_true("status says why", SECONDS, || {
        let status = desk.status();
        let direct = &status["direct"];
        let detail = direct["detail"].as_str().unwrap_or_default();
        direct["state"] == "down" && detail.contains("isn't the manager")
    });
    assert!(desk.pod_at("http://web.demo/").starts_with("web-"));
}

#[test]
fn flows_on_direct_carriers_outlive_an_api_server_that_is_away_and_status_says_so() {
    let desk = Desk::connected();
    wait_until_all_are(&desk, "direct", SECONDS);
    let away = desk.cluster.without_api_server();
    wait::until_true("status says so", SECONDS, || {
        desk.status()["api_server"]["state"] == "down"
    });
    assert!(desk.pod_at("http://web.demo/").starts_with("web-"));
    let status = desk.status();
    assert_eq!(status["session"]["state"], "ok", "{status:#}");
    drop(away);
    wait::until_true("status says that too", SECONDS, || {
        desk.status()["api_server"]["state"] == "ok"
    });
}

#[test]
fn an_address_that_makes_no_sense_is_refused_before_anything_happens() {
    let desk = Desk::with_manager();
    let connect = ["connect", "--direct", "http://10.88.0.10"];
    desk.kdev(&connect).exits(2).says("HOST:PORT");
}
