//! Builders of Services, pods and claims, for tests.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Pod, PodCondition, PodIP, PodSpec, PodStatus, Service, ServicePort,
    ServiceSpec,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kdev_rules::Rule;

use super::changes::{TheClusters, changes};
use super::intercept::{Intercept, Mode, Original};
use super::objects::ORIGINAL;
use super::observed::{Observed, Route};
use super::port::{PortRef, Protocol};
use super::slices::Wanted;

pub(crate) fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// A Service that selects `app=<name>`, with ports of (name, number, protocol).
pub(crate) fn service(name: &str, ports: &[(&str, i32, &str)]) -> Service {
    let port = |&(name, port, protocol): &(&str, i32, &str)| ServicePort {
        name: (!name.is_empty()).then(|| name.to_owned()),
        port,
        protocol: Some(protocol.to_owned()),
        target_port: Some(IntOrString::Int(8000 + port)),
        ..ServicePort::default()
    };
    Service {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("shop".to_owned()),
            uid: Some("service-1".to_owned()),
            resource_version: Some("1".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some("10.96.0.7".to_owned()),
            ip_families: Some(vec!["IPv4".to_owned()]),
            ports: Some(ports.iter().map(port).collect()),
            selector: Some(strings(&[("app", name)])),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

pub(crate) fn original(selector: &[(&str, &str)]) -> Original {
    Original {
        selector: strings(selector),
        manager: "kdev".to_owned(),
    }
}

/// Clears a Service's selector as the manager would.
pub(crate) fn clear(service: &mut Service, selector: &[(&str, &str)]) {
    service.spec.as_mut().unwrap().selector = None;
    let text = serde_json::to_string(&original(selector)).unwrap();
    service
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(ORIGINAL.to_owned(), text);
}

pub(crate) fn port(name: &str, number: u16) -> PortRef {
    PortRef {
        name: name.to_owned(),
        number,
        protocol: Protocol::Tcp,
    }
}

pub(crate) fn intercept(id: &str, (name, number): (&str, u16)) -> Intercept {
    Intercept {
        id: id.to_owned(),
        session: "s1".to_owned(),
        owner: "ann@laptop".to_owned(),
        manager: "kdev".to_owned(),
        port: port(name, number),
        since: Timestamp::from_second(1_700_000_000).unwrap(),
        rule: Rule::default(),
        mode: Mode::default(),
        pass_if_down: false,
    }
}

pub(crate) fn route(addresses: &[&str], port: u16) -> Route {
    Route {
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        port,
        nodes: BTreeSet::new(),
    }
}

/// A pod with addresses, ready, without declared ports.
pub(crate) fn pod(name: &str, addresses: &[&str]) -> Pod {
    let ips = addresses
        .iter()
        .map(|&ip| PodIP { ip: ip.to_owned() })
        .collect();
    let mut pod = Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("shop".to_owned()),
            uid: Some(format!("uid-{name}")),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some("node-1".to_owned()),
            containers: vec![Container::default()],
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some("Running".to_owned()),
            pod_ip: addresses.first().map(|&ip| ip.to_owned()),
            pod_ips: Some(ips),
            ..PodStatus::default()
        }),
    };
    set_ready(&mut pod, true);
    pod
}

pub(crate) fn set_ready(pod: &mut Pod, ready: bool) {
    let condition = PodCondition {
        type_: "Ready".to_owned(),
        status: if ready { "True" } else { "False" }.to_owned(),
        ..PodCondition::default()
    };
    pod.status.as_mut().unwrap().conditions = Some(vec![condition]);
}

pub(crate) fn set_terminating(pod: &mut Pod) {
    pod.metadata.deletion_timestamp = Some(Time(Timestamp::from_second(1).unwrap()));
}

/// Declares a container port.
pub(crate) fn declare(pod: &mut Pod, name: &str, number: i32, protocol: &str) {
    let port = ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some(protocol.to_owned()),
        ..ContainerPort::default()
    };
    pod.spec.as_mut().unwrap().containers[0]
        .ports
        .get_or_insert_default()
        .push(port);
}

/// The slices that the manager would create.
pub(super) fn own(service: &Service, wanted: Wanted) -> Vec<EndpointSlice> {
    let observed = Observed {
        service: Some(service.clone()),
        ..Default::default()
    };
    let saved = original(&[("app", "web")]);
    let mut slices = changes(&observed, service, &saved, wanted, TheClusters::Borrowed).creates;
    for (at, slice) in slices.iter_mut().enumerate() {
        slice.metadata.uid = Some(format!("slice-{at}"));
    }
    slices
}

pub(crate) fn many_pods(count: u8) -> Vec<Pod> {
    (0..count)
        .map(|at| pod(&format!("p{at}"), &[&format!("10.1.0.{at}")]))
        .collect()
}
