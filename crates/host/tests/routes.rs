//! Real routes, in namespaces.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on has failed"
)]

mod support;

use std::net::IpAddr;

use ipnet::IpNet;
use kdev_host::device::{Device, DeviceConfig};
use kdev_host::routes::{Answer, DesiredRoutes, Problem, RouteReport, Routes, RoutesError};
use support::{in_namespace, ip};

#[test]
fn only_differences_are_added_and_removed() {
    in_namespace(async || {
        let machine = Machine::new().await;
        let mut routes = Routes::new(&machine.device).unwrap();
        ip("route add 10.50.0.0/16 dev kdev0");

        let first = apply(&mut routes, &["10.96.0.0/12", "fd00:96::/108"]).await;
        assert_eq!(first.added, nets(&["10.96.0.0/12", "fd00:96::/108"]));
        assert_eq!(own_routes(), nets(&["10.96.0.0/12", "fd00:96::/108"]));
        assert!(ip("route get 10.96.0.1").contains("dev kdev0 src 10.77.0.1"));
        assert!(ip("route get fd00:96::1").contains("dev kdev0"));

        let again = apply(&mut routes, &["10.96.0.0/12", "fd00:96::/108"]).await;
        assert_eq!((again.added, again.removed), (vec![], vec![]));

        let other = apply(&mut routes, &["10.96.0.0/12", "10.244.0.0/16"]).await;
        assert_eq!(other.added, nets(&["10.244.0.0/16"]));
        assert_eq!(other.removed, nets(&["fd00:96::/108"]));
        assert_eq!(own_routes(), nets(&["10.96.0.0/12", "10.244.0.0/16"]));

        let none = apply(&mut routes, &[]).await;
        assert_eq!(none.removed, nets(&["10.96.0.0/12", "10.244.0.0/16"]));
        assert_eq!(own_routes(), vec![]);
        let left = ip("route show dev kdev0");
        assert!(
            left.contains("10.50.0.0/16"),
            "somebody else's route stays: {left}"
        );
        assert!(
            left.contains("10.77.0.0/24"),
            "the kernel's own route stays: {left}"
        );
    });
}

#[test]
fn what_a_killed_daemon_s_successor_finds_is_compared_too() {
    in_namespace(async || {
        let machine = Machine::new().await;
        let mut before = Routes::new(&machine.device).unwrap();
        apply(&mut before, &["10.96.0.0/12"]).await;
        drop(before);
        let mut after = Routes::new(&machine.device).unwrap();
        let report = apply(&mut after, &["10.244.0.0/16"]).await;
        assert_eq!(report.added, nets(&["10.244.0.0/16"]));
        assert_eq!(report.removed, nets(&["10.96.0.0/12"]));
    });
}

#[test]
fn exempt_addresses_and_gateways_keep_their_way() {
    in_namespace(async || {
        let machine = Machine::new().await;
        ip("addr add 10.96.7.2/8 dev other0");
        ip("route add default via 10.96.7.1 dev other0");
        let mut routes = Routes::new(&machine.device).unwrap();
        assert_eq!(routes.gateways().await.unwrap(), [address("10.96.7.1")]);
        let desired = DesiredRoutes {
            prefixes: nets(&["10.96.0.0/12"]),
            exempt: nets(&["10.96.0.1/32", "10.100.0.0/16"]),
        };
        let report = routes.apply(&desired).await.unwrap();
        let exempted = nets(&["10.96.0.1/32", "10.96.7.1/32", "10.100.0.0/16"]);
        assert_eq!(report.routes[0].exempted, exempted);
        for exempt in ["10.96.0.1", "10.96.7.1", "10.100.3.4"] {
            assert!(
                ip(&format!("route get {exempt}")).contains("dev other0"),
                "{exempt}"
            );
        }
        for cluster in [
            "10.96.0.0",
            "10.96.0.2",
            "10.96.7.3",
            "10.99.255.255",
            "10.111.0.9",
        ] {
            assert!(
                ip(&format!("route get {cluster}")).contains("dev kdev0"),
                "{cluster}"
            );
        }
    });
}

#[test]
fn an_equal_route_is_left_to_its_owner_until_it_goes() {
    in_namespace(async || {
        let machine = Machine::new().await;
        ip("route add 10.96.0.0/12 dev other0 metric 600");
        let mut routes = Routes::new(&machine.device).unwrap();
        let report = apply(&mut routes, &["10.96.0.0/12"]).await;
        assert_eq!(
            conflict(&report),
            ("10.96.0.0/12".to_owned(), "other0", Answer::LeftToOwner)
        );
        assert_eq!(own_routes(), vec![]);

        ip("route del 10.96.0.0/12 dev other0");
        let report = apply(&mut routes, &["10.96.0.0/12"]).await;
        assert_eq!(report.routes[0].conflicts, vec![]);
        assert_eq!(own_routes(), nets(&["10.96.0.0/12"]));

        ip("route add 10.96.0.0/12 dev other0 metric 600");
        let report = apply(&mut routes, &["10.96.0.0/12"]).await;
        assert_eq!(
            report.removed,
            nets(&["10.96.0.0/12"]),
            "who comes later has it as well"
        );
    });
}

#[test]
fn a_more_specific_route_keeps_its_addresses() {
    in_namespace(async || {
        let machine = Machine::new().await;
        ip("route add 10.100.0.0/16 via 192.168.1.9 dev other0");
        let mut routes = Routes::new(&machine.device).unwrap();
        let report = apply(&mut routes, &["10.96.0.0/12"]).await;
        assert_eq!(
            conflict(&report),
            ("10.100.0.0/16".to_owned(), "other0", Answer::PartKept)
        );
        assert_eq!(
            report.routes[0].conflicts[0].via,
            Some(address("192.168.1.9"))
        );
        assert!(ip("route get 10.100.0.1").contains("dev other0"));
        assert!(ip("route get 10.101.0.1").contains("dev kdev0"));
    });
}

#[test]
fn a_less_specific_route_gives_way() {
    in_namespace(async || {
        let machine = Machine::new().await;
        ip("route add 10.0.0.0/8 dev other0");
        let mut routes = Routes::new(&machine.device).unwrap();
        let report = apply(&mut routes, &["10.96.0.0/12"]).await;
        assert_eq!(
            conflict(&report),
            ("10.0.0.0/8".to_owned(), "other0", Answer::Installed)
        );
        assert!(ip("route get 10.96.0.1").contains("dev kdev0"));
        assert!(ip("route get 10.1.0.1").contains("dev other0"));
    });
}

#[test]
fn the_machine_s_own_address_stays_local() {
    in_namespace(async || {
        let machine = Machine::new().await;
        ip("addr add 10.96.3.4/32 dev other0");
        let mut routes = Routes::new(&machine.device).unwrap();
        let report = apply(&mut routes, &["10.96.0.0/12"]).await;
        assert_eq!(
            conflict(&report),
            ("10.96.3.4/32".to_owned(), "other0", Answer::OwnAddress)
        );
        assert!(ip("route get 10.96.3.4").contains("dev lo"));
    });
}

#[test]
fn a_rule_that_comes_before_the_routes_is_reported() {
    in_namespace(async || {
        let machine = Machine::new().await;
        ip("rule add pref 5270 lookup 52");
        ip("route add 10.64.0.0/10 dev other0 table 52");
        let mut routes = Routes::new(&machine.device).unwrap();
        let report = apply(&mut routes, &["10.96.0.0/12"]).await;
        assert_eq!(
            conflict(&report),
            ("10.64.0.0/10".to_owned(), "other0", Answer::Shadowed)
        );
        assert_eq!(own_routes(), nets(&["10.96.0.0/12"]));
    });
}

#[test]
fn a_route_that_the_kernel_refuses_is_its_prefix_s_problem() {
    in_namespace(async || {
        let machine = Machine::new().await;
        ip("link set kdev0 down");
        let mut routes = Routes::new(&machine.device).unwrap();
        let report = apply(&mut routes, &["10.96.0.0/12"]).await;
        let state = &report.routes[0];
        assert!(
            matches!(state.problem, Some(Problem::Refused { .. })),
            "{state:?}"
        );
        assert_eq!((&state.installed, &report.added), (&vec![], &vec![]));

        ip("link set kdev0 up");
        let report = apply(&mut routes, &["10.96.0.0/12"]).await;
        assert_eq!(report.routes[0].problem, None);
        assert_eq!(own_routes(), nets(&["10.96.0.0/12"]));
    });
}

#[test]
fn routes_of_a_device_without_ipv6_have_none() {
    in_namespace(async || {
        let addresses = vec!["10.77.0.1/24".parse().unwrap()];
        let config = DeviceConfig {
            addresses,
            ..DeviceConfig::default()
        };
        let device = Device::open(&config).await.unwrap();
        let mut routes = Routes::new(&device).unwrap();
        let report = apply(&mut routes, &["10.96.0.0/12", "fd00:96::/108"]).await;
        assert_eq!(report.added, nets(&["10.96.0.0/12"]));
        assert_eq!(report.routes[1].problem, Some(Problem::NoIpv6));
    });
}

#[test]
fn routes_of_a_device_that_was_removed_say_so() {
    in_namespace(async || {
        let machine = Machine::new().await;
        let mut routes = Routes::new(&machine.device).unwrap();
        ip("link del kdev0");
        let gone = routes.apply(&DesiredRoutes::default()).await;
        assert!(
            matches!(gone, Err(RoutesError::DeviceGone { .. })),
            "{gone:?}"
        );
    });
}

#[test]
fn the_machine_s_routes_are_listed_with_their_owners() {
    in_namespace(async || {
        let machine = Machine::new().await;
        ip("route add blackhole 10.1.0.0/16");
        ip("route add 10.2.0.0/16 nexthop via 192.168.1.8 nexthop via 192.168.1.9");
        ip("route add 10.3.0.0/16 dev other0 table 1000");
        let routes = Routes::new(&machine.device).unwrap();
        let listed = routes.local_routes().await.unwrap();
        let of = |prefix: &str| -> Vec<(String, Option<IpAddr>, u32)> {
            let prefix: IpNet = prefix.parse().unwrap();
            let found = listed.iter().filter(|route| route.prefix == prefix);
            found
                .map(|route| (route.owner.clone(), route.via, route.table))
                .collect()
        };
        assert_eq!(of("10.1.0.0/16"), [("blackhole".to_owned(), None, 254)]);
        assert_eq!(
            of("10.2.0.0/16"),
            ["192.168.1.8", "192.168.1.9"].map(|via| (
                "other0".to_owned(),
                Some(address(via)),
                254
            ))
        );
        assert_eq!(of("10.3.0.0/16"), [("other0".to_owned(), None, 1000)]);
        assert_eq!(of("10.77.0.0/24"), [("kdev0".to_owned(), None, 254)]);
        assert_eq!(of("192.168.1.2/32"), [("other0".to_owned(), None, 255)]);
        assert_eq!(of("fd77::/64"), [("kdev0".to_owned(), None, 254)]);
    });
}

/// kdev's device, and one of somebody else's.
struct Machine {
    device: Device,
    _other: Device,
}

impl Machine {
    async fn new() -> Self {
        let config = |name: &str, addresses: &[&str]| DeviceConfig {
            name: Some(name.to_owned()),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ..DeviceConfig::default()
        };
        let other = Device::open(&config("other0", &["192.168.1.2/24"]))
            .await
            .unwrap();
        let device = Device::open(&config("kdev0", &["10.77.0.1/24", "fd77::1/64"]))
            .await
            .unwrap();
        Self {
            device,
            _other: other,
        }
    }
}

async fn apply(routes: &mut Routes, prefixes: &[&str]) -> RouteReport {
    let desired = DesiredRoutes {
        prefixes: nets(prefixes),
        exempt: Vec::new(),
    };
    routes.apply(&desired).await.unwrap()
}

/// The only conflict of the only prefix.
fn conflict(report: &RouteReport) -> (String, &str, Answer) {
    assert_eq!(report.routes.len(), 1, "{report:?}");
    let conflicts = &report.routes[0].conflicts;
    assert_eq!(conflicts.len(), 1, "{report:?}");
    let conflict = &conflicts[0];
    (conflict.with.to_string(), &conflict.owner, conflict.answer)
}

/// What the kernel has of kdev's, as `ip` sees it.
fn own_routes() -> Vec<IpNet> {
    let listed = ip("route show proto 107") + &ip("-6 route show proto 107");
    let mut nets: Vec<IpNet> = listed
        .lines()
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect();
    nets.sort();
    nets
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = texts.iter().map(|text| text.parse().unwrap()).collect();
    nets.sort();
    nets
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
