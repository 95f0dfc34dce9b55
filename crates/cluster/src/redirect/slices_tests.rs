use k8s_openapi::api::core::v1::Container;
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::*;
use crate::redirect::testing::{
    declare, many_pods, own, pod, port, route, service, set_ready, set_terminating,
};

fn lines(wanted: &Wanted) -> Vec<String> {
    let mut lines = Vec::new();
    for (group, endpoints) in wanted {
        let ports: Vec<_> = group
            .ports
            .iter()
            .map(|port| format!("{}={}/{}", port.name, port.number, port.protocol))
            .collect();
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|endpoint| {
                let node = endpoint.node_name.as_deref().unwrap_or("-");
                format!("{}@{node}", endpoint.addresses[0])
            })
            .collect();
        let family = group.family.as_str();
        lines.push(format!(
            "{family} {} -> {}",
            ports.join(" "),
            endpoints.join(" ")
        ));
    }
    lines
}

fn wanted_lines(service: &Service, pods: &[Pod], routes: &[(PortRef, Route)]) -> Vec<String> {
    lines(&wanted(
        service,
        pods,
        &routes.iter().cloned().collect(),
        &BTreeMap::new(),
    ))
}

fn web() -> Service {
    service("web", &[("http", 80, "TCP"), ("dns", 53, "UDP")])
}

#[test]
fn an_intercepted_port_leads_to_the_router_and_the_others_to_the_pods() {
    let routes = [(port("http", 80), route(&["10.9.0.1", "10.9.0.2"], 30_080))];
    assert_eq!(
        wanted_lines(&web(), &[pod("a", &["10.1.0.1"])], &routes),
        [
            "IPv4 dns=8053/UDP -> 10.1.0.1@node-1",
            "IPv4 http=30080/TCP -> 10.9.0.1@- 10.9.0.2@-",
        ]
    );
}

#[test]
fn udp_ports_are_intercepted_as_tcp_ones_are() {
    let dns = PortRef {
        name: "dns".into(),
        number: 53,
        protocol: Protocol::Udp,
    };
    assert_eq!(
        wanted_lines(&web(), &[], &[(dns, route(&["10.9.0.1"], 30_053))]),
        ["IPv4 dns=30053/UDP -> 10.9.0.1@-"]
    );
}

#[test]
fn several_intercepts_share_the_routers_slice() {
    let mut service = web();
    service.spec.as_mut().unwrap().ports.as_mut().unwrap()[1].protocol = Some("TCP".into());
    let routes = [
        (port("http", 80), route(&["10.9.0.1"], 30_001)),
        (port("dns", 53), route(&["10.9.0.1"], 30_002)),
    ];
    assert_eq!(
        wanted_lines(&service, &[pod("a", &["10.1.0.1"])], &routes),
        ["IPv4 dns=30002/TCP http=30001/TCP -> 10.9.0.1@-"]
    );
}

#[test]
fn a_named_target_port_that_differs_between_pods_takes_several_slices() {
    let mut service = web();
    service.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].target_port =
        Some(IntOrString::String("main".into()));
    let mut old = pod("old", &["10.1.0.1"]);
    declare(&mut old, "main", 8080, "TCP");
    let mut new = pod("new", &["10.1.0.2"]);
    declare(&mut new, "main", 9999, "UDP");
    declare(&mut new, "main", 9090, "TCP");
    let without = pod("without", &["10.1.0.3"]);
    let mut sidecar = pod("sidecar", &["10.1.0.4"]);
    let mut declaring = pod("x", &[]);
    declare(&mut declaring, "main", 9090, "TCP");
    let PodSpec { containers, .. } = declaring.spec.unwrap();
    sidecar.spec.as_mut().unwrap().init_containers = Some(vec![Container {
        restart_policy: Some("Always".into()),
        ..containers[0].clone()
    }]);
    assert_eq!(
        wanted_lines(&service, &[old, new, without, sidecar], &[]),
        [
            "IPv4 dns=8053/UDP -> 10.1.0.3@node-1",
            "IPv4 dns=8053/UDP http=8080/TCP -> 10.1.0.1@node-1",
            "IPv4 dns=8053/UDP http=9090/TCP -> 10.1.0.2@node-1 10.1.0.4@node-1",
        ]
    );
}

#[test]
fn each_family_has_its_slices_and_one_without_a_router_keeps_the_pods() {
    let mut service = service("web", &[("", 80, "TCP")]);
    service.spec.as_mut().unwrap().ip_families = Some(vec!["IPv6".into(), "IPv4".into()]);
    let pods = [pod("a", &["10.1.0.1", "fd00::1"])];
    assert_eq!(
        wanted_lines(
            &service,
            &pods,
            &[(port("", 80), route(&["10.9.0.1"], 30_080))]
        ),
        [
            "IPv4 =30080/TCP -> 10.9.0.1@-",
            "IPv6 =8080/TCP -> fd00::1@node-1"
        ]
    );
    assert_eq!(
        wanted_lines(
            &service,
            &pods,
            &[(port("", 80), route(&["10.9.0.1", "fd00::9"], 30_080))]
        ),
        [
            "IPv4 =30080/TCP -> 10.9.0.1@-",
            "IPv6 =30080/TCP -> fd00::9@-"
        ]
    );
}

#[test]
fn a_local_traffic_policy_lists_the_router_on_every_node_with_a_pod() {
    let mut service = service("web", &[("", 80, "TCP")]);
    service.spec.as_mut().unwrap().external_traffic_policy = Some("Local".into());
    let mut pods = many_pods(3);
    pods[2].spec.as_mut().unwrap().node_name = Some("node-2".into());
    assert_eq!(
        wanted_lines(
            &service,
            &pods,
            &[(port("", 80), route(&["10.9.0.1"], 30_080))]
        ),
        ["IPv4 =30080/TCP -> 10.9.0.1@node-1 10.9.0.1@node-2"]
    );
    // And on the manager's.
    let of_manager = Route {
        nodes: ["node-3".to_owned()].into(),
        ..route(&["10.9.0.1"], 30_080)
    };
    assert_eq!(
        wanted_lines(&service, &pods[..1], &[(port("", 80), of_manager)]),
        ["IPv4 =30080/TCP -> 10.9.0.1@node-1 10.9.0.1@node-3"]
    );
}

#[test]
fn an_endpoint_says_of_its_pod_what_the_clusters_own_would() {
    let mut service = service("web", &[("", 80, "TCP")]);
    let conditions = |service: &Service, pod: &Pod| {
        let zones = [("node-1", "zone-a")].into();
        let wanted = wanted(service, std::slice::from_ref(pod), &BTreeMap::new(), &zones);
        let endpoint = wanted.into_values().next().unwrap().remove(0);
        assert_eq!(endpoint.zone.as_deref(), Some("zone-a"));
        assert_eq!(endpoint.node_name.as_deref(), Some("node-1"));
        assert_eq!(endpoint.target_ref.unwrap().uid, pod.metadata.uid);
        let it = endpoint.conditions.unwrap();
        (
            it.ready.unwrap(),
            it.serving.unwrap(),
            it.terminating.unwrap(),
        )
    };
    let ready = pod("a", &["10.1.0.1"]);
    let mut unready = ready.clone();
    set_ready(&mut unready, false);
    let mut ending = ready.clone();
    set_terminating(&mut ending);
    assert_eq!(conditions(&service, &ready), (true, true, false));
    assert_eq!(conditions(&service, &unready), (false, false, false));
    assert_eq!(conditions(&service, &ending), (false, true, true));
    service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
    assert_eq!(conditions(&service, &unready), (true, false, false));
    assert_eq!(conditions(&service, &ending), (true, true, true));
}

#[test]
fn a_pod_that_has_come_to_its_end_is_left_out() {
    let mut done = pod("a", &["10.1.0.1"]);
    done.status.as_mut().unwrap().phase = Some("Succeeded".into());
    let without_address = pod("b", &[]);
    let service = service("web", &[("", 80, "TCP")]);
    assert!(wanted_lines(&service, &[done, without_address], &[]).is_empty());
}

#[test]
fn controllers_slices_cover_when_each_port_leads_to_a_pod_that_is_ready_now() {
    let service = web();
    let pods = many_pods(2);
    let slices = |pods: &[Pod]| {
        own(
            &service,
            wanted(&service, pods, &BTreeMap::new(), &BTreeMap::new()),
        )
    };
    assert!(!cover([].iter(), &service, &pods));
    assert!(cover([].iter(), &service, &[]));
    assert!(cover(slices(&pods).iter(), &service, &pods));
    assert!(cover(slices(&pods[..1]).iter(), &service, &pods));
    let gone = [pod("gone", &["10.1.0.99"])];
    assert!(!cover(slices(&gone).iter(), &service, &pods));
    let mut unready = pods.clone();
    unready.iter_mut().for_each(|pod| set_ready(pod, false));
    assert!(!cover(slices(&unready).iter(), &service, &pods));
    assert!(cover([].iter(), &service, &unready));
}

#[test]
fn a_ports_destinations_are_its_ready_pods_on_their_own_ports() {
    let mut away = pod("away", &["10.1.0.3"]);
    set_ready(&mut away, false);
    let pods = [pod("a", &["10.1.0.1"]), pod("b", &["10.1.0.2"]), away];
    let wanted = wanted(&web(), &pods, &BTreeMap::new(), &BTreeMap::new());
    let expected: Vec<SocketAddr> = ["10.1.0.1:8080", "10.1.0.2:8080"]
        .map(|address| address.parse().unwrap())
        .to_vec();
    assert_eq!(destinations(&wanted, &port("http", 80)), expected);
    assert_eq!(destinations(&wanted, &port("other", 81)), []);
}
