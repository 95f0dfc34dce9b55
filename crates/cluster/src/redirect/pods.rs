//! What a pod contributes to a Service's slices.
//!
//! Follows the cluster's own controller (`k8s.io/endpointslice`), so that a port that isn't
//! intercepted behaves as it did before.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::port::Protocol;

/// An address family, as a slice has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    /// The slice's `addressType`, which is also the Service's spelling.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }

    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// Returns the families of a Service, the first one first.
    pub(super) fn of_service(service: &Service) -> Vec<Self> {
        let spec = service.spec.as_ref();
        let named = spec.and_then(|spec| spec.ip_families.as_ref());
        let families: Vec<_> = named
            .into_iter()
            .flatten()
            .filter_map(|name| Self::parse(name))
            .collect();
        if !families.is_empty() {
            return families;
        }
        let address = spec.and_then(|spec| spec.cluster_ip.as_ref()?.parse().ok());
        vec![address.map_or(Self::V4, Self::of)]
    }
}

/// Returns a pod's address in one family; `None` if it has none or has come to its end.
pub(super) fn address(pod: &Pod, family: Family) -> Option<IpAddr> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    all.chain(status.pod_ip.as_deref())
        .filter_map(|ip| ip.parse().ok())
        .find(|&ip| Family::of(ip) == family)
}

/// Returns the number that a Service's port means in this pod; `None` if the pod has no port of
/// the name.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<u16> {
    let name = match &port.target_port {
        None => return u16::try_from(port.port).ok(),
        Some(IntOrString::Int(number)) => return u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => name,
    };
    let protocol = Protocol::from_api(port.protocol.as_deref());
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let find = |container: &Container| {
        let ports = container.ports.as_ref()?;
        let port = ports.iter().find(|port| {
            port.name.as_ref() == Some(name)
                && Protocol::from_api(port.protocol.as_deref()) == protocol
        })?;
        u16::try_from(port.container_port).ok()
    };
    spec.containers.iter().chain(sidecars).find_map(find)
}

/// Returns whether the kubelet counts a pod as ready, readiness gates included.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Makes a pod's endpoint. `zones` says where nodes are.
pub(super) fn endpoint(
    pod: &Pod,
    service: &Service,
    address: IpAddr,
    zones: &BTreeMap<&str, &str>,
) -> Endpoint {
    let service_spec = service.spec.as_ref();
    let publish = service_spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let serving = is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let spec = pod.spec.as_ref();
    let node = spec
        .and_then(|spec| spec.node_name.clone())
        .filter(|node| !node.is_empty());
    let hostname = spec
        .filter(|spec| spec.subdomain.is_some() && spec.subdomain == service.metadata.name)
        .and_then(|spec| spec.hostname.clone());
    Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(publish || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname,
        zone: node
            .as_deref()
            .and_then(|node| zones.get(node))
            .map(|&zone| zone.to_owned()),
        node_name: node,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}
