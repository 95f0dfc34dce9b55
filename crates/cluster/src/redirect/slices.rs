//! What the slices of a redirected Service are to hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};

use super::observed::{Route, is_router};
use super::pods::{self, Family};
use super::port::{PortRef, Protocol, api_ports};

/// What makes two endpoints fit into one slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Group {
    family: Family,
    ports: Vec<SlicePort>,
}

/// A slice's port: kube-proxy finds the Service's port by the name, and the number is final.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct SlicePort {
    name: String,
    number: u16,
    protocol: Protocol,
    app_protocol: Option<String>,
}

/// What own slices are to hold.
pub(super) type Wanted = BTreeMap<Group, Vec<Endpoint>>;

/// Returns what own slices are to hold: the routes' ports lead to the router, all others to the
/// pods.
pub(super) fn wanted(
    service: &Service,
    pods: &[Pod],
    routes: &BTreeMap<PortRef, Route>,
    zones: &BTreeMap<&str, &str>,
) -> Wanted {
    let mut wanted = Wanted::new();
    for family in Family::of_service(service) {
        let mut routed: BTreeMap<Vec<IpAddr>, Vec<SlicePort>> = BTreeMap::new();
        let mut nodes = BTreeSet::new();
        let mut passed = Vec::new();
        for port in api_ports(service) {
            match route_of(port, routes, family) {
                Some((addresses, route)) => {
                    nodes.extend(&route.nodes);
                    routed
                        .entry(addresses)
                        .or_default()
                        .push(SlicePort::new(port, route.port));
                }
                None => passed.push(port),
            }
        }
        for (addresses, ports) in routed {
            let endpoints = router_endpoints(service, pods, &nodes, &addresses);
            wanted
                .entry(Group::new(family, ports))
                .or_default()
                .extend(endpoints);
        }
        for pod in pods {
            let Some(address) = pods::address(pod, family) else {
                continue;
            };
            let ports: Vec<_> = passed
                .iter()
                .filter_map(|port| Some(SlicePort::new(port, pods::target_port(pod, port)?)))
                .collect();
            if !ports.is_empty() {
                let endpoint = pods::endpoint(pod, service, address, zones);
                wanted
                    .entry(Group::new(family, ports))
                    .or_default()
                    .push(endpoint);
            }
        }
    }
    wanted
}

fn route_of<'a>(
    port: &ServicePort,
    routes: &'a BTreeMap<PortRef, Route>,
    family: Family,
) -> Option<(Vec<IpAddr>, &'a Route)> {
    let (_, route) = routes
        .iter()
        .find(|(intercepted, _)| intercepted.is(port))?;
    let mut addresses = route.addresses.clone();
    addresses.retain(|&address| Family::of(address) == family);
    addresses.sort_unstable();
    addresses.dedup();
    (!addresses.is_empty()).then_some((addresses, route))
}

/// Makes the router's endpoints.
///
/// Under a traffic policy `Local` a node only uses endpoints of its own, so the router is listed
/// once for every node that has a pod, and for `others`: kube-proxy takes an address for local if one of its
/// entries is.
fn router_endpoints(
    service: &Service,
    pods: &[Pod],
    others: &BTreeSet<&String>,
    addresses: &[IpAddr],
) -> Vec<Endpoint> {
    let spec = service.spec.as_ref();
    let is_local = |policy: Option<&String>| policy.is_some_and(|policy| policy == "Local");
    let local = spec.is_some_and(|spec| {
        is_local(spec.internal_traffic_policy.as_ref())
            || is_local(spec.external_traffic_policy.as_ref())
    });
    let mut nodes: BTreeSet<Option<&String>> = BTreeSet::new();
    if local {
        let of_pods = pods
            .iter()
            .filter_map(|pod| pod.spec.as_ref()?.node_name.as_ref());
        nodes.extend(of_pods.chain(others.iter().copied()).map(Some));
    }
    if nodes.is_empty() {
        nodes.insert(None);
    }
    let endpoint = |address: &IpAddr, node: &Option<&String>| Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
        }),
        node_name: node.cloned(),
        ..Endpoint::default()
    };
    addresses
        .iter()
        .flat_map(|address| nodes.iter().map(move |node| endpoint(address, node)))
        .collect()
}

/// Returns whether one of the slice's endpoints takes new connections.
pub(super) fn has_ready(slice: &EndpointSlice) -> bool {
    slice.endpoints.iter().any(is_ready)
}

/// Returns whether an endpoint takes new connections.
pub(super) fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .and_then(|conditions| conditions.ready)
        != Some(false)
}

/// Returns where connections of `port` go: the ready endpoints that serve it, with their ports.
pub(super) fn destinations(wanted: &Wanted, port: &PortRef) -> Vec<SocketAddr> {
    let serves = |slice: &SlicePort| (&slice.name, slice.protocol) == (&port.name, port.protocol);
    let mut found = Vec::new();
    for (group, endpoints) in wanted {
        let Some(SlicePort { number, .. }) = group.ports.iter().find(|port| serves(port)) else {
            continue;
        };
        let ready = endpoints.iter().filter(|endpoint| is_ready(endpoint));
        let addresses = ready.flat_map(|endpoint| &endpoint.addresses);
        let addresses = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
        found.extend(addresses.map(|address| SocketAddr::new(address, *number)));
    }
    found
}

/// Returns whether `slices` lead, for each port and family with ready pods, to one of them.
///
/// Not all of them: the cluster's controller may know better which pods count, and pods come and
/// go. One that is ready now is enough to lose nothing.
pub(super) fn cover<'a>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    service: &Service,
    pods: &[Pod],
) -> bool {
    let mut missing: BTreeMap<(Family, SlicePort), BTreeSet<String>> = BTreeMap::new();
    for (group, endpoints) in wanted(service, pods, &BTreeMap::new(), &BTreeMap::new()) {
        let ready: BTreeSet<_> = endpoints
            .iter()
            .filter(|endpoint| is_ready(endpoint))
            .flat_map(|endpoint| endpoint.addresses.clone())
            .collect();
        if !ready.is_empty() {
            for port in group.ports {
                missing
                    .entry((group.family, port))
                    .or_default()
                    .extend(ready.clone());
            }
        }
    }
    // Pods may resolve a named port to different numbers; any of them serves the port.
    let mut uncovered: BTreeSet<(Family, String, Protocol)> = missing
        .keys()
        .map(|(family, port)| (*family, port.name.clone(), port.protocol))
        .collect();
    for slice in slices {
        let Some(group) = Group::of(slice) else {
            continue;
        };
        for port in group.ports {
            let name = (group.family, port.name.clone(), port.protocol);
            let Some(ready) = missing.get(&(group.family, port)) else {
                continue;
            };
            let serves = |endpoint: &Endpoint| {
                is_ready(endpoint)
                    && endpoint
                        .addresses
                        .iter()
                        .any(|address| ready.contains(address))
            };
            if slice.endpoints.iter().any(serves) {
                uncovered.remove(&name);
            }
        }
    }
    uncovered.is_empty()
}

/// Returns whether `theirs` lead to every pod, by every port, to which `own` do.
pub(super) fn take_over<'a>(
    theirs: impl Iterator<Item = &'a EndpointSlice>,
    own: impl Iterator<Item = &'a EndpointSlice>,
) -> bool {
    let theirs: BTreeSet<_> = theirs.flat_map(to_pods).collect();
    own.flat_map(to_pods).all(|pod| theirs.contains(&pod))
}

/// Returns the ready pods that a slice leads to, with each of its ports.
fn to_pods(slice: &EndpointSlice) -> Vec<(Family, SlicePort, String)> {
    let Some(group) = Group::of(slice) else {
        return Vec::new();
    };
    let pods = slice.endpoints.iter();
    let pods = pods.filter(|endpoint| is_ready(endpoint) && !is_router(endpoint));
    let addresses: Vec<_> = pods.flat_map(|endpoint| &endpoint.addresses).collect();
    let each = |port: SlicePort| {
        let family = group.family;
        addresses
            .iter()
            .map(move |address| (family, port.clone(), (*address).clone()))
    };
    group.ports.into_iter().flat_map(each).collect()
}

impl Group {
    fn new(family: Family, mut ports: Vec<SlicePort>) -> Self {
        ports.sort_unstable();
        Self { family, ports }
    }

    /// Reads what a slice's endpoints have in common; `None` if it isn't one that kube-proxy takes.
    pub(super) fn of(slice: &EndpointSlice) -> Option<Self> {
        let ports = slice
            .ports
            .iter()
            .flatten()
            .map(SlicePort::of)
            .collect::<Option<_>>()?;
        Some(Self::new(Family::parse(&slice.address_type)?, ports))
    }
}

impl Group {
    /// Returns the slice's `addressType`.
    pub(super) fn address_type(&self) -> &'static str {
        self.family.as_str()
    }

    /// Returns the slice's ports.
    pub(super) fn api_ports(&self) -> Vec<EndpointPort> {
        self.ports.iter().map(SlicePort::to_api).collect()
    }

    /// Returns whether all of the Service's ports that `other` serves are served here too, or by one of
    /// `beside`, in the same family.
    pub(super) fn replaces(&self, other: &Self, beside: &[&Self]) -> bool {
        let serves = |group: &Self, wanted: &SlicePort| {
            let mut ports = group.ports.iter();
            group.family == other.family
                && ports.any(|port| (&port.name, port.protocol) == (&wanted.name, wanted.protocol))
        };
        let is_served = |wanted: &SlicePort| {
            serves(self, wanted) || beside.iter().any(|group| serves(group, wanted))
        };
        self.family == other.family && other.ports.iter().all(is_served)
    }
}

impl SlicePort {
    fn new(port: &ServicePort, number: u16) -> Self {
        Self {
            name: port.name.clone().unwrap_or_default(),
            number,
            protocol: Protocol::from_api(port.protocol.as_deref()),
            app_protocol: port.app_protocol.clone(),
        }
    }

    fn of(port: &EndpointPort) -> Option<Self> {
        Some(Self {
            name: port.name.clone().unwrap_or_default(),
            number: u16::try_from(port.port?).ok()?,
            protocol: Protocol::from_api(port.protocol.as_deref()),
            app_protocol: port.app_protocol.clone(),
        })
    }

    fn to_api(&self) -> EndpointPort {
        EndpointPort {
            name: Some(self.name.clone()),
            port: Some(i32::from(self.number)),
            protocol: Some(self.protocol.as_str().to_owned()),
            app_protocol: self.app_protocol.clone(),
        }
    }
}

#[cfg(test)]
#[path = "slices_tests.rs"]
mod tests;
