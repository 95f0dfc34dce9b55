//! `kdev list`.

use kdev_e2e::desk::{DEMO, Desk};
use kdev_e2e::workload::Workload;
use serde_json::{Value, json};

fn find<'a>(services: &'a Value, name: &str) -> &'a Value {
    let mut all = services.as_array().unwrap().iter();
    all.find(|service| service["name"] == name)
        .unwrap_or_else(|| panic!("{name}: {services:#}"))
}

fn port<'a>(service: &'a Value, name: &str) -> &'a Value {
    let mut all = service["ports"].as_array().unwrap().iter();
    all.find(|port| port["name"] == name)
        .unwrap_or_else(|| panic!("{name}: {service:#}"))
}

#[test]
fn services_are_shown_with_their_ports_and_why_not() {
    let desk = Desk::clean();
    let services = desk.kdev(&["list", "-n", DEMO, "-o", "json"]).ok().json();
    let web = find(&services, "web");
    assert_eq!(web["interceptable"], true);
    let http = port(web, "http");
    assert_eq!(
        (&http["port"], &http["protocol"]),
        (&Value::from(80), &Value::from("TCP"))
    );
    assert_eq!(port(web, "echo-udp")["protocol"], "UDP");
    assert_eq!(http.get("held"), None);
    let headless = find(&services, "web-headless");
    assert_eq!(headless["interceptable"], false);
    assert!(
        headless["why_not"].as_str().unwrap().contains("headless"),
        "{headless}"
    );
}

#[test]
fn another_name_for_a_host_is_shown_with_the_host() {
    let desk = Desk::clean();
    let web = Workload::up(desk.cluster, "alias");
    let spec = json!({ "type": "ExternalName", "externalName": "db.example.com" });
    web.add_service("alias", &spec);
    let list = ["list", "-n", web.namespace()];
    desk.kdev(&list)
        .ok()
        .says("leads to db.example.com; it is of type ExternalName");
    let services = desk
        .kdev(&[&list[..], &["-o", "json"]].concat())
        .ok()
        .json();
    assert_eq!(find(&services, "alias")["external_name"], "db.example.com");
    assert_eq!(find(&services, "web").get("external_name"), None);
}

#[test]
fn without_a_namespace_it_is_the_sessions_and_with_all_it_is_every_one() {
    let desk = Desk::connected();
    let own = desk.kdev(&["list", "-o", "json"]).ok().json();
    assert!(
        own.as_array()
            .unwrap()
            .iter()
            .all(|service| service["namespace"] == DEMO)
    );
    let all = desk
        .kdev(&["list", "-A"])
        .ok()
        .says("kube-dns")
        .says("kubernetes");
    assert!(all.text().starts_with("NAMESPACE"));
}

#[test]
fn who_holds_a_port_is_shown() {
    let desk = Desk::with_manager();
    let web = Workload::up(desk.cluster, "held");
    desk.kdev(&["connect", "-n", web.namespace()]).ok();
    let _program = desk.laptop.serve(9000);
    desk.kdev(&["intercept", "web", "--port", "9000:http"]).ok();
    let services = desk.kdev(&["list", "-o", "json"]).ok().json();
    let held = &port(find(&services, "web"), "http")["held"][0];
    assert!(held["by"].as_str().unwrap().starts_with("dev@"), "{held}");
    assert_ne!(held["since"], "");
    assert_eq!(port(find(&services, "web"), "echo").get("held"), None);
    desk.kdev(&["list"]).ok().says("held by dev@");
    desk.kdev(&["quit"]).ok();
}
