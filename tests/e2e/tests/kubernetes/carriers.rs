//! The ways to the manager break; kdev says so within seconds, and mends them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    for options in [FORWARDS, &[]] {
        let desk = Desk::connected_by(options);
        wait_until_mended(&desk);
        // Nothing is under way that could notice.
        let cut_ms = now_ms();
        let cut = ["ss", "-K", "state", "established", "dst", API_SERVER];
        desk.laptop.run(User::Root, &cut).ok();
        let again_ms = wait::until("every carrier is a new one", SECONDS, || {
            let status = desk.status();
            let well = carriers(&status).iter().all(|state| *state == "ok");
            let since = status["carriers"].as_array()?.iter();
            let since: Vec<u64> = since.filter_map(|one| one["since_ms"].as_u64()).collect();
            let all_new = since.len() >= 4 && since.iter().all(|since| *since >= cut_ms);
            (well && all_new).then(|| since.into_iter().max()).flatten()
        });
        println!(
            "{options:?}: the last one was made again {} ms after the cut",
            again_ms - cut_ms
        );
        wait_until_mended(&desk);
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis().try_into().unwrap()
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
