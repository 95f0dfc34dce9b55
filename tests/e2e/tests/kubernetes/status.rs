//! `kdev status`: every part, its state, and since when.

use std::time::{SystemTime, UNIX_EPOCH};

use kdev_e2e::desk::Desk;
use kdev_e2e::wait;
use serde_json::Value;

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

#[test]
fn every_part_of_a_session_has_a_state_and_since_when() {
    let began = now_ms();
    let desk = Desk::connected();
    let all_up = || {
        let status = desk.status();
        let carriers = status["carriers"].as_array().map_or(0, Vec::len);
        (carriers >= 2).then_some(status)
    };
    let status = wait::until(
        "all carriers are up",
        std::time::Duration::from_secs(10),
        all_up,
    );
    assert_eq!(status["connected"], true);
    let mut parts = vec![
        &status["userd"],
        &status["rootd"],
        &status["manager"],
        &status["dns"],
        &status["routing"],
    ];
    parts.extend(status["carriers"].as_array().unwrap());
    for part in parts {
        assert_eq!(part["state"], "ok", "{part} in {status:#}");
        let since = part["since_ms"].as_u64().unwrap_or_default();
        assert!((began..=now_ms()).contains(&since), "{part} in {status:#}");
    }
    let session = &status["session"];
    assert_eq!(session["context"], desk.cluster.name());
    assert_eq!(session["namespace"], "demo");
    assert_eq!(session["manager_namespace"], "kdev");
    assert!(session["since_ms"].as_u64().unwrap() >= began);
    let prefixes = status["routes"].as_array().unwrap().iter();
    let prefixes: Vec<&str> = prefixes
        .map(|route| route["prefix"].as_str().unwrap())
        .collect();
    assert!(prefixes.contains(&"10.96.0.0/16"), "{prefixes:?}");
    assert_eq!(status["intercepts"], Value::Array(Vec::new()));
}

#[test]
fn for_people_it_is_a_table() {
    let desk = Desk::connected();
    let status = desk.kdev(&["status"]).ok();
    let first: Vec<String> = status
        .lines()
        .iter()
        .map(|line| line.split("  ").next().unwrap().to_owned())
        .collect();
    for part in [
        "PART",
        "userd",
        "rootd",
        "session",
        "manager",
        "dns",
        "routing",
        "control",
        "carrier 1",
        "route",
    ] {
        assert!(
            first.iter().any(|name| name == part),
            "no {part}: {status:#?}"
        );
    }
}

#[test]
fn without_anything_running_it_says_that() {
    let desk = Desk::clean();
    let status = desk
        .kdev(&["status", "-o", "json"])
        .exits(14)
        .says("isn't connected");
    let status = status.json();
    assert_eq!(status["connected"], false);
    assert_eq!(status["userd"]["state"], "down");
    assert_eq!(status["rootd"]["state"], "down");
}
