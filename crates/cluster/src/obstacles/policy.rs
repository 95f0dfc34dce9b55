//! What NetworkPolicies say of one connection between two pods.
//!
//! Source: the API reference of `networking.k8s.io/v1`. A pod that no policy of a direction selects may speak with
//! everybody; one that some select, only with whom one of them admits.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};

type Labels = BTreeMap<String, String>;

/// A pod, as policies see it.
#[derive(Debug, Clone, Default)]
pub(super) struct Party {
    pub(super) namespace: String,
    /// `None` where they may not be read: whatever is asked of them may be so.
    pub(super) namespace_labels: Option<Labels>,
    pub(super) labels: Labels,
    pub(super) addresses: Vec<IpAddr>,
}

/// Which of a pod's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

/// The ports that Linux chooses of, where nothing else is set (ip(7), `ip_local_port_range`).
const ANY: (i32, i32) = (32_768, 60_999);

/// A port that is connected to; the number may be one that nobody knows beforehand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Port<'a> {
    pub(super) protocol: &'a str,
    pub(super) number: Option<u16>,
}

/// Returns the names of the policies that keep `other` away from `pod`; none where it may speak with it.
pub(super) fn barring(
    policies: &[NetworkPolicy],
    direction: Direction,
    pod: &Party,
    other: &Party,
    port: Port<'_>,
) -> Vec<String> {
    let mut selecting = Vec::new();
    for policy in policies {
        let Some(spec) = policy.spec.as_ref() else {
            continue;
        };
        let is_of_it = policy.namespace().as_deref() == Some(&pod.namespace)
            && concerns(spec, direction)
            && selects(spec.pod_selector.as_ref(), &pod.labels);
        if !is_of_it {
            continue;
        }
        if rules(spec, direction).any(|rule| rule.admits(pod, other, port)) {
            return Vec::new();
        }
        selecting.push(policy.name_any());
    }
    selecting
}

/// Egress counts only where something is said of it, unless the types are listed.
fn concerns(spec: &NetworkPolicySpec, direction: Direction) -> bool {
    let types = spec.policy_types.as_deref().unwrap_or_default();
    match direction {
        Direction::Ingress => types.is_empty() || types.iter().any(|one| one == "Ingress"),
        Direction::Egress if types.is_empty() => spec.egress.is_some(),
        Direction::Egress => types.iter().any(|one| one == "Egress"),
    }
}

struct Rule<'a> {
    peers: &'a [NetworkPolicyPeer],
    ports: &'a [NetworkPolicyPort],
}

fn rules(
    spec: &NetworkPolicySpec,
    direction: Direction,
) -> Box<dyn Iterator<Item = Rule<'_>> + '_> {
    match direction {
        Direction::Ingress => Box::new(spec.ingress.iter().flatten().map(|rule| Rule {
            peers: rule.from.as_deref().unwrap_or_default(),
            ports: rule.ports.as_deref().unwrap_or_default(),
        })),
        Direction::Egress => Box::new(spec.egress.iter().flatten().map(|rule| Rule {
            peers: rule.to.as_deref().unwrap_or_default(),
            ports: rule.ports.as_deref().unwrap_or_default(),
        })),
    }
}

impl Rule<'_> {
    fn admits(&self, pod: &Party, other: &Party, port: Port<'_>) -> bool {
        let peer = self.peers.is_empty() || self.peers.iter().any(|peer| is_peer(peer, pod, other));
        peer && (self.ports.is_empty() || self.ports.iter().any(|one| is_port(one, port)))
    }
}

fn is_peer(peer: &NetworkPolicyPeer, pod: &Party, other: &Party) -> bool {
    if let Some(block) = &peer.ip_block {
        return other.addresses.iter().any(|address| is_in(block, *address));
    }
    let namespace = match &peer.namespace_selector {
        Some(selector) => other
            .namespace_labels
            .as_ref()
            .is_none_or(|labels| selects(Some(selector), labels)),
        None => pod.namespace == other.namespace,
    };
    let pods = peer.pod_selector.as_ref();
    namespace && pods.is_none_or(|selector| selects(Some(selector), &other.labels))
}

fn is_in(block: &IPBlock, address: IpAddr) -> bool {
    let contains = |text: &String| {
        text.parse::<IpNet>()
            .is_ok_and(|net| net.contains(&address))
    };
    contains(&block.cidr) && !block.except.iter().flatten().any(contains)
}

/// A port that has a name is taken for the one that is meant: which number it is, each pod says for itself.
fn is_port(one: &NetworkPolicyPort, port: Port<'_>) -> bool {
    if one.protocol.as_deref().unwrap_or("TCP") != port.protocol {
        return false;
    }
    let first = match &one.port {
        None => return true,
        Some(IntOrString::String(_)) => return port.number.is_some(),
        Some(IntOrString::Int(number)) => *number,
    };
    let last = one.end_port.unwrap_or(first);
    match port.number {
        Some(number) => (first..=last).contains(&i32::from(number)),
        None => first <= ANY.0 && last >= ANY.1,
    }
}

/// One that is missing or empty selects everything; one that can't be read selects nothing.
fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    selector.is_none_or(|selector| {
        Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn party(namespace: &str, app: &str, address: &str) -> Party {
        let label = |key: &str, value: &str| Labels::from([(key.to_owned(), value.to_owned())]);
        Party {
            namespace: namespace.to_owned(),
            namespace_labels: Some(label("kubernetes.io/metadata.name", namespace)),
            labels: label("app", app),
            addresses: vec![address.parse().unwrap()],
        }
    }

    fn barred(spec: &Value, direction: Direction, number: Option<u16>) -> bool {
        let policy = json!({ "metadata": { "name": "p", "namespace": "shop" }, "spec": spec });
        let policies = [serde_json::from_value(policy).unwrap()];
        let (web, manager) = (
            party("shop", "web", "10.0.0.1"),
            party("kdev", "manager", "10.0.0.9"),
        );
        let port = Port {
            protocol: "TCP",
            number,
        };
        !barring(&policies, direction, &web, &manager, port).is_empty()
    }

    #[test]
    fn what_lets_the_manager_in_and_what_doesnt() {
        let from = |peer: &Value| json!({ "podSelector": {}, "ingress": [{ "from": [peer] }] });
        let table = [
            ("nothing may come in", json!({ "podSelector": {} }), true),
            (
                "another pod is meant",
                json!({ "podSelector": { "matchLabels": { "app": "db" } } }),
                false,
            ),
            (
                "only egress is meant",
                json!({ "podSelector": {}, "policyTypes": ["Egress"] }),
                false,
            ),
            (
                "everybody may",
                json!({ "podSelector": {}, "ingress": [{}] }),
                false,
            ),
            (
                "pods of the same namespace",
                from(&json!({ "podSelector": {} })),
                true,
            ),
            (
                "pods of all namespaces",
                from(&json!({ "namespaceSelector": {} })),
                false,
            ),
            (
                "pods of the manager's",
                from(
                    &json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "kdev" } } }),
                ),
                false,
            ),
            (
                "other pods of the manager's namespace",
                from(&json!({
                    "namespaceSelector": { "matchExpressions": [{ "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["kdev"] }] },
                    "podSelector": { "matchLabels": { "app": "other" } },
                })),
                true,
            ),
            (
                "its addresses",
                from(&json!({ "ipBlock": { "cidr": "10.0.0.0/24" } })),
                false,
            ),
            (
                "its addresses, without its own",
                from(&json!({ "ipBlock": { "cidr": "10.0.0.0/24", "except": ["10.0.0.8/30"] } })),
                true,
            ),
        ];
        for (what, spec, wanted) in table {
            assert_eq!(
                barred(&spec, Direction::Ingress, Some(8080)),
                wanted,
                "{what}"
            );
        }
    }

    #[test]
    fn a_port_has_to_be_among_those_that_are_listed() {
        let to = |ports: &Value| json!({ "podSelector": {}, "egress": [{ "ports": ports }] });
        let table = [
            (json!([{ "port": 8080 }]), Some(8080), false),
            (json!([{ "port": 8080 }]), Some(8081), true),
            (
                json!([{ "port": 8080, "protocol": "UDP" }]),
                Some(8080),
                true,
            ),
            (json!([{ "port": "http" }]), Some(8080), false),
            (
                json!([{ "port": 8000, "endPort": 9000 }]),
                Some(8080),
                false,
            ),
            (json!([{ "protocol": "TCP" }]), None, false),
            // The router's ports are any.
            (json!([{ "port": 8080 }]), None, true),
            (json!([{ "port": 1, "endPort": 65535 }]), None, false),
            (json!([{ "port": "http" }]), None, true),
        ];
        for (ports, number, wanted) in table {
            assert_eq!(
                barred(&to(&ports), Direction::Egress, number),
                wanted,
                "{ports} {number:?}"
            );
        }
        let nothing_said = json!({ "podSelector": {}, "ingress": [{}] });
        assert!(!barred(&nothing_said, Direction::Egress, None));
    }

    #[test]
    fn one_policy_that_admits_is_enough() {
        let policies = [
            json!({ "podSelector": {} }),
            json!({ "podSelector": {}, "ingress": [{}] }),
        ];
        let policies: Vec<NetworkPolicy> = policies
            .iter()
            .map(|spec| json!({ "metadata": { "name": "p", "namespace": "shop" }, "spec": spec }))
            .map(|policy| serde_json::from_value(policy).unwrap())
            .collect();
        let (web, manager) = (
            party("shop", "web", "10.0.0.1"),
            party("kdev", "manager", "10.0.0.9"),
        );
        let port = Port {
            protocol: "TCP",
            number: Some(80),
        };
        let found = barring(&policies[..1], Direction::Ingress, &web, &manager, port);
        assert_eq!(found, ["p"]);
        assert!(barring(&policies, Direction::Ingress, &web, &manager, port).is_empty());
    }
}
