//! What has to be true of the prefixes, whatever a cluster's objects say: for the fuzzer (`fuzz/`),
//! which has nothing else to hold on to inside this module.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod, Service};

use super::direct::{Ways, addresses};
use super::pods::{NodeFacts, pod_cidrs, pod_ips};
use super::services::{cluster_ips, service_cidrs};

/// Makes Services' prefixes of what is declared and what is used.
pub fn services(declared: &[IpNet], used: &BTreeSet<IpAddr>) {
    let prefixes = service_cidrs(declared.iter().copied(), used.iter().copied());
    distinct(&prefixes);
    if declared.is_empty() {
        for address in used {
            assert!(contains(&prefixes, address), "{address} is used");
        }
        let widest = |prefix: &IpNet| prefix.prefix_len() >= if is_v4(prefix) { 8 } else { 104 };
        assert!(
            prefixes.iter().all(widest),
            "a guess that swallows a network"
        );
    } else {
        for prefix in declared {
            assert!(
                contains(&prefixes, &prefix.network()) && contains(&prefixes, &prefix.broadcast())
            );
        }
        let declared: BTreeSet<IpNet> = declared.iter().map(IpNet::trunc).collect();
        assert!(prefixes.iter().all(|prefix| declared.contains(prefix)));
    }
}

/// Makes pods' prefixes of what each node declares and has, and of pods' addresses.
pub fn pods(nodes: &[(Vec<IpNet>, Vec<IpAddr>)], pods: &BTreeSet<IpAddr>) {
    let facts: Vec<NodeFacts> = nodes
        .iter()
        .map(|(pod_cidrs, addresses)| NodeFacts {
            pod_cidrs: pod_cidrs.clone(),
            addresses: addresses.clone(),
            outside: Vec::new(),
        })
        .collect();
    judged(&facts, pods);
}

fn judged(nodes: &[NodeFacts], pods: &BTreeSet<IpAddr>) {
    let prefixes = pod_cidrs(&nodes.iter().collect::<Vec<_>>(), pods);
    distinct(&prefixes);
    let own: BTreeSet<&IpAddr> = nodes.iter().flat_map(|node| &node.addresses).collect();
    for address in &own {
        assert!(!contains(&prefixes, address), "{address} is a node's");
    }
    for address in pods {
        assert_eq!(
            contains(&prefixes, address),
            !own.contains(address),
            "{address}"
        );
    }
}

fn is_v4(prefix: &IpNet) -> bool {
    matches!(prefix, IpNet::V4(_))
}

fn contains(prefixes: &[IpNet], address: &IpAddr) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(address))
}

/// None is inside another, and they are sorted and without bits behind their length.
fn distinct(prefixes: &[IpNet]) {
    assert!(prefixes.is_sorted());
    for (at, prefix) in prefixes.iter().enumerate() {
        assert_eq!(*prefix, prefix.trunc());
        let inside = |other: &IpNet| prefix.contains(other) || other.contains(prefix);
        assert!(!prefixes[at + 1..].iter().any(inside), "{prefix} twice");
    }
}

/// Reads objects as the API server gives them.
pub fn objects(node: Option<&Node>, pod: Option<&Pod>, service: Option<&Service>) {
    let nodes: Vec<NodeFacts> = node.map(NodeFacts::of).into_iter().collect();
    judged(&nodes, &pod.map(pod_ips).unwrap_or_default());
    let used = service.map(cluster_ips).unwrap_or_default();
    services(&[], &used);
    let ways = service.map(Ways::of).unwrap_or_default();
    let told = addresses(&[&ways], &nodes.iter().collect::<Vec<_>>());
    assert!(told.len() <= 8 && told.iter().all(|address| address.port() != 0));
}
