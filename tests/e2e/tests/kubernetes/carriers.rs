//! The ways to the manager break; kdev says so within seconds, and mends them.

use std::time::Duration;

use kdev_e2e::desk::Desk;
use kdev_e2e::laptop::User;
use kdev_e2e::wait;
use serde_json::Value;

/// "Within seconds": three heartbeats of two seconds, and some for a busy machine.
const SECONDS: Duration = Duration::from_secs(12);
/// An API server takes its time to start.
const BACK: Duration = Duration::from_secs(40);
/// What these tests break.
const FORWARDS: &[&str] = &["--direct", "never"];
const API_SERVER: &str = "10.88.0.10";

fn carriers(status: &Value) -> Vec<&str> {
    let carriers = status["carriers"].as_array().into_iter().flatten();
    carriers
        .map(|carrier| carrier["state"].as_str().unwrap_or_default())
        .collect()
}

/// Waits until `kdev status` shows that no carrier carries.
fn wait_until_told(desk: &Desk) {
    wait::until_true("status tells of it", SECONDS, || {
        let status = desk.status();
        let dead = carriers(&status).iter().all(|state| *state != "ok");
        dead && status["manager"]["state"] != "ok"
    });
}

/// Waits until everything works again.
fn wait_until_mended(desk: &Desk) {
    wait::until_true("status is well again", BACK, || {
        let status = desk.status();
        let carriers = carriers(&status);
        carriers.len() >= 4 && carriers.iter().all(|state| *state == "ok")
    });
    assert!(desk.pod_at("http://web.demo/").starts_with("web-"));
}

#[test]
fn a_connection_that_is_cut_is_made_again() {
    let desk = Desk::connected_by(FORWARDS);
    wait_until_mended(&desk);
    let before = desk.status()["manager"]["since_ms"].as_u64().unwrap();
    let cut = ["ss", "-K", "dst", API_SERVER, "dport", "=", "6443"];
    desk.laptop.run(User::Root, &cut).ok();
    wait::until_true("the break is seen", SECONDS, || {
        desk.status()["manager"]["since_ms"]
            .as_u64()
            .is_some_and(|since| since > before)
    });
    wait_until_mended(&desk);
}

#[test]
fn an_api_server_that_goes_away_is_told_and_comes_back() {
    let desk = Desk::connected_by(FORWARDS);
    wait_until_mended(&desk);
    let away = desk.cluster.without_api_server();
    wait_until_told(&desk);
    let page = desk.curl("http://www.public.test/").ok();
    assert_eq!(
        page.text(),
        "public page",
        "the rest of the world is still there"
    );
    drop(away);
    wait_until_mended(&desk);
}

#[test]
fn a_manager_that_is_replaced_is_found_again() {
    let desk = Desk::connected_by(FORWARDS);
    wait_until_mended(&desk);
    let pods = [
        "-n",
        "kdev",
        "delete",
        "pods",
        "-l",
        "app.kubernetes.io/name=kdev-traffic-manager",
    ];
    desk.cluster.kubectl(&pods).ok();
    wait_until_mended(&desk);
}
