//! Cluster names: every record type, and an honest answer where there is none.

use std::time::Duration;

use kdev_e2e::desk::{DEMO, Desk};
use kdev_e2e::laptop::User;
use kdev_e2e::wait;
use kdev_e2e::workload::Workload;

/// What the laptop's resolver answers.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: String,
    /// The data of the records of the type that was asked for.
    data: Vec<String>,
}

fn ask(desk: &Desk, name: &str, kind: &str) -> Answer {
    let dig = [
        "dig",
        "+noall",
        "+comments",
        "+answer",
        "+time=5",
        "+tries=1",
        name,
        kind,
    ];
    let said = desk.laptop.run(User::Dev, &dig).ok();
    let status = said
        .stdout
        .split("status: ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    let records = said
        .stdout
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(';'));
    let data = records.filter_map(|record| {
        // NAME TTL CLASS TYPE DATA
        let fields: Vec<&str> = record.split_whitespace().collect();
        (fields.get(3) == Some(&kind)).then(|| fields[4..].join(" "))
    });
    Answer {
        status: status.unwrap_or_default().to_owned(),
        data: data.collect(),
    }
}

#[test]
fn a_service_has_its_cluster_ip() {
    let desk = Desk::connected();
    let service = desk.cluster.get(&["-n", DEMO, "service", "web"]);
    let answer = ask(&desk, "web.demo.svc.cluster.local", "A");
    assert_eq!(answer.status, "NOERROR");
    assert_eq!(
        answer.data,
        [service["spec"]["clusterIP"].as_str().unwrap()]
    );
}

#[test]
fn a_service_without_an_ipv6_address_exists_all_the_same() {
    let desk = Desk::connected();
    for name in ["web.demo.svc.cluster.local", "web.demo.svc", "web.demo"] {
        let answer = ask(&desk, name, "AAAA");
        assert_eq!(
            answer,
            Answer {
                status: "NOERROR".to_owned(),
                data: Vec::new()
            },
            "{name}"
        );
    }
}

#[test]
fn a_service_that_doesnt_exist_doesnt_exist() {
    let desk = Desk::connected();
    for name in [
        "nobody.demo.svc.cluster.local",
        "nobody.demo.svc",
        "nobody.demo",
    ] {
        assert_eq!(ask(&desk, name, "A").status, "NXDOMAIN", "{name}");
    }
}

#[test]
fn a_named_port_has_an_srv_record() {
    let desk = Desk::connected();
    let answer = ask(&desk, "_http._tcp.web.demo.svc.cluster.local", "SRV");
    assert_eq!(answer.data, ["0 100 80 web.demo.svc.cluster.local."]);
}

#[test]
fn an_address_of_the_cluster_has_a_name() {
    let desk = Desk::connected();
    let service = desk.cluster.get(&["-n", DEMO, "service", "web"]);
    let address = service["spec"]["clusterIP"].as_str().unwrap();
    let reversed: Vec<&str> = address.split('.').rev().collect();
    let asked = desk.cluster.asked_outside().len();
    let answer = ask(
        &desk,
        &format!("{}.in-addr.arpa", reversed.join(".")),
        "PTR",
    );
    assert_eq!(answer.data, ["web.demo.svc.cluster.local."]);
    assert_eq!(
        desk.cluster.asked_outside().len(),
        asked,
        "nobody outside was asked"
    );
}

#[test]
fn a_headless_service_has_the_addresses_of_its_pods() {
    let desk = Desk::connected();
    let mut data = ask(&desk, "web-headless.demo.svc.cluster.local", "A").data;
    data.sort();
    let pods = desk.cluster.get(&["-n", DEMO, "pods", "-l", "app=web"]);
    let addresses = pods["items"].as_array().unwrap().iter();
    let mut addresses: Vec<&str> = addresses
        .map(|pod| pod["status"]["podIP"].as_str().unwrap())
        .collect();
    addresses.sort_unstable();
    assert_eq!(data, addresses);
}

#[test]
fn a_namespace_that_is_made_later_is_known_too() {
    let desk = Desk::connected();
    let web = Workload::up(desk.cluster, "later");
    let url = format!("http://web.{}/", web.namespace());
    wait::until_true(
        "the new namespace is known",
        Duration::from_secs(15),
        || desk.curl(&url).code == 0,
    );
}

#[test]
fn large_answers_and_questions_over_tcp_work() {
    let desk = Desk::connected();
    let dig = [
        "dig",
        "+short",
        "+tcp",
        "+time=5",
        "+tries=1",
        "web.demo.svc.cluster.local",
        "A",
    ];
    let answer = desk.laptop.run(User::Dev, &dig).ok();
    assert!(answer.text().starts_with("10.96."), "{answer:#?}");
}
