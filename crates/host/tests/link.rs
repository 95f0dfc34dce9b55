//! Real changes of a network, in namespaces.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on has failed"
)]

mod support;

use std::time::Duration;

use kdev_host::device::{Device, DeviceConfig};
use kdev_host::link::{Changes, changes};
use kdev_host::routes::{DesiredRoutes, Routes};
use support::{in_namespace, ip, within};

/// Longer than a change takes to be told.
const LONG: Duration = Duration::from_millis(400);

#[test]
fn links_addresses_and_routes_that_change_are_told() {
    in_namespace(async || {
        let mut changes = changes().unwrap();
        for change in [
            "tuntap add dev other0 mode tun",
            "link set other0 up",
            "addr add 192.168.1.2/24 dev other0",
            "addr add fd00::2/64 dev other0",
            "route add 10.96.0.0/12 dev lo",
            "route del 10.96.0.0/12 dev lo",
            "-6 route add fd00:96::/64 dev lo",
            "link del other0",
        ] {
            ip(change);
            within(changes.changed()).await.unwrap();
        }
        assert!(is_quiet(&mut changes).await, "each is told once");
    });
}

#[test]
fn a_burst_is_told_once() {
    in_namespace(async || {
        let mut changes = changes().unwrap();
        for third in 0..50 {
            ip(&format!("route add 10.96.{third}.0/24 dev lo"));
        }
        within(changes.changed()).await.unwrap();
        assert!(is_quiet(&mut changes).await);
    });
}

#[test]
fn kdev_s_own_routes_are_no_change() {
    in_namespace(async || {
        let addresses = ["10.77.0.1/24", "fd77::1/64"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let config = DeviceConfig {
            addresses,
            ..DeviceConfig::default()
        };
        let device = Device::open(&config).await.unwrap();
        let mut routes = Routes::new(&device).unwrap();
        let mut changes = changes().unwrap();
        // The kernel tells of the device's IPv6 address when it gets round to it.
        while !is_quiet(&mut changes).await {}
        let prefixes = ["10.96.0.0/12", "fd00:96::/108"].map(|text| text.parse().unwrap());
        let desired = DesiredRoutes {
            prefixes: prefixes.to_vec(),
            exempt: Vec::new(),
        };
        routes.apply(&desired).await.unwrap();
        routes.apply(&DesiredRoutes::default()).await.unwrap();
        assert!(is_quiet(&mut changes).await);
    });
}

#[test]
fn a_change_is_told_after_the_wait_was_given_up() {
    in_namespace(async || {
        let mut changes = changes().unwrap();
        ip("route add 10.96.0.0/12 dev lo");
        let given_up = tokio::time::timeout(Duration::from_millis(1), changes.changed()).await;
        assert!(given_up.is_err());
        within(changes.changed()).await.unwrap();
    });
}

async fn is_quiet(changes: &mut Changes) -> bool {
    tokio::time::timeout(LONG, changes.changed()).await.is_err()
}
