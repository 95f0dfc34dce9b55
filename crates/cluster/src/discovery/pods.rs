//! Where pods' addresses come from.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::prefixes::{around, distinct, merged, without};

/// How much is taken for pods' own around a pod's address: a node's share as a rule.
const SHARE_V4: u8 = 24;
const SHARE_V6: u8 = 120;

/// From how many nodes' prefixes on halves are merged: routes cost something too.
const MANY: usize = 64;

/// What a node says of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeFacts {
    /// The prefixes for its pods; none if something else than the cluster gives pods addresses.
    pub(super) pod_cidrs: Vec<IpNet>,
    /// Its own addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// Those of them that are for the outside.
    pub(super) outside: Vec<IpAddr>,
}

impl NodeFacts {
    pub(super) fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let all = spec
            .and_then(|spec| spec.pod_cidrs.as_deref())
            .unwrap_or_default();
        let first = spec.and_then(|spec| spec.pod_cidr.as_ref());
        let status = node
            .status
            .as_ref()
            .and_then(|status| status.addresses.as_deref());
        let addresses = || status.unwrap_or_default().iter();
        Self {
            pod_cidrs: distinct(all.iter().chain(first).filter_map(|cidr| cidr.parse().ok())),
            addresses: addresses()
                .filter_map(|address| address.address.parse().ok())
                .collect(),
            outside: addresses()
                .filter(|address| address.type_ == "ExternalIP")
                .filter_map(|address| address.address.parse().ok())
                .collect(),
        }
    }
}

/// Returns whether the nodes tell where all pods' addresses come from.
pub(super) fn nodes_tell(nodes: &[&NodeFacts]) -> bool {
    !nodes.is_empty() && nodes.iter().all(|node| !node.pod_cidrs.is_empty())
}

/// Returns whether a pod's address is in one of the nodes' prefixes.
pub(super) fn is_declared(nodes: &[&NodeFacts], address: &IpAddr) -> bool {
    nodes
        .iter()
        .flat_map(|node| &node.pod_cidrs)
        .any(|prefix| prefix.contains(address))
}

/// Returns the nodes' prefixes, and around the pods' addresses that are in none of them, the
/// prefixes that hold a pod's address. Nodes' own addresses are cut out.
pub(super) fn pod_cidrs<'a>(
    nodes: &[&NodeFacts],
    pods: impl IntoIterator<Item = &'a IpAddr>,
) -> Vec<IpNet> {
    let taken: BTreeSet<IpAddr> = nodes
        .iter()
        .flat_map(|node| node.addresses.iter().copied())
        .collect();
    let mut declared = distinct(nodes.iter().flat_map(|node| node.pod_cidrs.iter().copied()));
    if declared.len() > MANY {
        declared = merged(declared);
    }
    let declared = declared
        .into_iter()
        .flat_map(|prefix| without(prefix, None, &taken));

    let others: BTreeSet<IpAddr> = pods
        .into_iter()
        .filter(|address| !is_declared(nodes, address))
        .copied()
        .collect();
    let shares: BTreeSet<IpNet> = others
        .iter()
        .map(|&address| {
            around(
                address,
                if address.is_ipv4() {
                    SHARE_V4
                } else {
                    SHARE_V6
                },
            )
        })
        .collect();
    let guessed = shares
        .into_iter()
        .flat_map(|share| without(share, Some(&others), &taken));
    distinct(declared.chain(merged(guessed)))
}

/// Returns a pod's own addresses: none if it lives on its node's network or has ended.
pub(super) fn pod_ips(pod: &Pod) -> BTreeSet<IpAddr> {
    let on_node = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    if on_node || matches!(phase, Some("Succeeded" | "Failed")) {
        return BTreeSet::new();
    }
    let all = status
        .and_then(|status| status.pod_ips.as_deref())
        .unwrap_or_default();
    let first = status.and_then(|status| status.pod_ip.as_ref());
    all.iter()
        .map(|ip| &ip.ip)
        .chain(first)
        .filter_map(|ip| ip.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::prefixes::tests::{ips, nets};
    use super::*;
    use k8s_openapi::api::core::v1::{
        NodeAddress, NodeSpec, NodeStatus, PodIP, PodSpec, PodStatus,
    };

    fn node(cidrs: &str, addresses: &str) -> NodeFacts {
        NodeFacts {
            pod_cidrs: nets(cidrs),
            addresses: ips(addresses).into_iter().collect(),
            outside: Vec::new(),
        }
    }

    fn found(nodes: &[NodeFacts], pods: &str) -> Vec<IpNet> {
        let nodes: Vec<_> = nodes.iter().collect();
        pod_cidrs(&nodes, &ips(pods))
    }

    #[test]
    fn the_nodes_prefixes_count_each_for_itself() {
        let nodes = [
            node("10.244.0.0/24", "10.0.0.1"),
            node("10.244.1.0/24", "10.0.0.2"),
        ];
        assert_eq!(
            found(&nodes, "10.244.0.7"),
            nets("10.244.0.0/24 10.244.1.0/24")
        );
        let overlapping = [node("10.0.0.0/29", "10.0.0.1")];
        assert_eq!(
            found(&overlapping, ""),
            nets("10.0.0.0/32 10.0.0.2/31 10.0.0.4/30")
        );
        let dual = [node("10.244.0.0/24 fd00:1::/64", "10.0.0.1 fd00::1")];
        assert_eq!(found(&dual, ""), nets("10.244.0.0/24 fd00:1::/64"));
    }

    #[test]
    fn without_the_nodes_prefixes_pods_addresses_are_covered_and_nodes_left_out() {
        let table = [
            (
                "10.0.0.1 10.0.0.2",
                "192.168.3.7 192.168.3.200",
                "192.168.3.0/24",
            ),
            ("10.0.0.1", "192.168.2.1 192.168.3.1", "192.168.2.0/23"),
            (
                "10.0.0.1",
                "192.168.1.1 192.168.2.1",
                "192.168.1.0/24 192.168.2.0/24",
            ),
            (
                "10.0.1.5",
                "10.0.1.200 10.0.2.1",
                "10.0.1.128/25 10.0.2.0/24",
            ),
            ("10.0.1.5 10.0.1.130", "10.0.1.6", "10.0.1.6/31"),
            ("fd00::1", "fd00:5::9", "fd00:5::/120"),
            ("10.0.0.1", "", ""),
        ];
        for (nodes, pods, wanted) in table {
            assert_eq!(
                found(&[node("", nodes)], pods),
                nets(wanted),
                "{nodes} / {pods}"
            );
        }
    }

    #[test]
    fn a_node_without_a_prefix_adds_what_its_pods_use() {
        let nodes = [node("10.244.0.0/24", "10.0.0.1"), node("", "10.0.0.2")];
        assert_eq!(
            found(&nodes, "10.244.0.9 172.16.4.4"),
            nets("10.244.0.0/24 172.16.4.0/24")
        );
        let nodes: Vec<_> = nodes.iter().collect();
        assert!(!nodes_tell(&nodes));
        assert!(nodes_tell(&nodes[..1]));
        assert!(!nodes_tell(&[]));
    }

    #[test]
    fn very_many_nodes_prefixes_are_merged_where_that_adds_nothing() {
        let nodes: Vec<_> = (0..128)
            .map(|at| node(&format!("10.244.{at}.0/24"), "10.0.0.1"))
            .collect();
        assert_eq!(found(&nodes, ""), nets("10.244.0.0/17"));
        assert_eq!(found(&nodes[..64], "").len(), 64);
    }

    #[test]
    fn a_node_tells_its_prefixes_and_addresses() {
        let address = |address: &str| NodeAddress {
            address: address.into(),
            type_: "InternalIP".into(),
        };
        let node = Node {
            spec: Some(NodeSpec {
                pod_cidr: Some("10.244.0.0/24".into()),
                pod_cidrs: Some(vec!["10.244.0.0/24".into(), "fd00:1::/64".into()]),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus {
                addresses: Some(vec![address("10.0.0.1"), address("node-1.example")]),
                ..NodeStatus::default()
            }),
            ..Node::default()
        };
        let wanted = NodeFacts {
            pod_cidrs: nets("10.244.0.0/24 fd00:1::/64"),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            outside: Vec::new(),
        };
        assert_eq!(NodeFacts::of(&node), wanted);
    }

    #[test]
    fn a_pod_on_its_nodes_network_has_no_address_of_its_own() {
        let pod = |host_network: bool, phase: &str| Pod {
            spec: Some(PodSpec {
                host_network: Some(host_network),
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                phase: Some(phase.into()),
                pod_ip: Some("10.1.0.1".into()),
                pod_ips: Some(vec![
                    PodIP {
                        ip: "10.1.0.1".into(),
                    },
                    PodIP {
                        ip: "fd00::1".into(),
                    },
                ]),
                ..PodStatus::default()
            }),
            ..Pod::default()
        };
        assert_eq!(pod_ips(&pod(false, "Running")), ips("10.1.0.1 fd00::1"));
        assert_eq!(pod_ips(&pod(true, "Running")), ips(""));
        assert_eq!(pod_ips(&pod(false, "Succeeded")), ips(""));
    }
}
