//! Where the manager's own port may be reached from outside of the cluster.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Service;

use super::pods::NodeFacts;

/// Most addresses that are told: each is tried by every machine.
const MOST: usize = 8;

/// What the manager's Service says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// Of its load balancer.
    balancers: Vec<SocketAddr>,
    /// The port of every node.
    node_port: Option<u16>,
}

impl Ways {
    pub(super) fn of(service: &Service) -> Self {
        let spec = service.spec.as_ref();
        let ports = spec.and_then(|spec| spec.ports.as_deref());
        let Some(port) = ports.and_then(<[_]>::first) else {
            return Self::default();
        };
        let number = |port: i32| u16::try_from(port).ok().filter(|port| *port != 0);
        let status = service.status.as_ref();
        let ingress = status
            .and_then(|status| status.load_balancer.as_ref())
            .and_then(|balancer| balancer.ingress.as_deref());
        let balancers = number(port.port).map(|port| {
            let addresses = ingress.unwrap_or_default().iter();
            let addresses = addresses.filter_map(|one| one.ip.as_ref()?.parse::<IpAddr>().ok());
            addresses.map(|address| (address, port).into()).collect()
        });
        Self {
            balancers: balancers.unwrap_or_default(),
            node_port: port.node_port.and_then(number),
        }
    }
}

/// Returns the addresses to try, the likeliest first.
pub(super) fn addresses(ways: &[&Ways], nodes: &[&NodeFacts]) -> Vec<SocketAddr> {
    let balancers = ways.iter().flat_map(|ways| ways.balancers.iter().copied());
    let ports = ways.iter().filter_map(|ways| ways.node_port);
    let at_nodes = ports.flat_map(|port| {
        let outside = nodes.iter().flat_map(|node| &node.outside);
        let inside = nodes.iter().flat_map(|node| &node.addresses);
        outside
            .chain(inside)
            .map(move |ip| SocketAddr::new(*ip, port))
    });
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in balancers.chain(at_nodes) {
        if all.len() < MOST && !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(outside: &[&str], all: &[&str]) -> NodeFacts {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        NodeFacts {
            pod_cidrs: Vec::new(),
            addresses: parse(all),
            outside: parse(outside),
        }
    }

    fn service(spec: serde_json::Value, ingress: serde_json::Value) -> Ways {
        let service = json!({ "spec": spec, "status": { "loadBalancer": { "ingress": ingress } } });
        Ways::of(&serde_json::from_value(service).unwrap())
    }

    fn told(ways: &Ways, nodes: &[&NodeFacts]) -> Vec<String> {
        addresses(&[ways], nodes)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_load_balancer_comes_before_nodes_and_what_is_outside_before_what_is_inside() {
        let node = node(&["203.0.113.5"], &["10.0.0.5", "203.0.113.5", "fd00::5"]);
        let ways = service(
            json!({ "ports": [{ "port": 7443, "nodePort": 31000 }] }),
            json!([{ "ip": "198.51.100.9" }, { "hostname": "lb.example" }]),
        );
        let expected = [
            "198.51.100.9:7443",
            "203.0.113.5:31000",
            "10.0.0.5:31000",
            "[fd00::5]:31000",
        ];
        assert_eq!(told(&ways, &[&node]), expected);
    }

    #[test]
    fn without_a_port_of_the_nodes_there_is_nothing_to_try() {
        let ways = service(json!({ "ports": [{ "port": 7443 }] }), json!([]));
        assert_eq!(told(&ways, &[&node(&[], &["10.0.0.5"])]), [""; 0]);
        assert_eq!(service(json!({}), json!([])), Ways::default());
    }

    #[test]
    fn of_many_nodes_a_few_are_told() {
        let nodes: Vec<NodeFacts> = (0..100)
            .map(|at| node(&[], &[&format!("10.0.0.{at}")]))
            .collect();
        let ways = service(
            json!({ "ports": [{ "port": 1, "nodePort": 2 }] }),
            json!([]),
        );
        assert_eq!(told(&ways, &nodes.iter().collect::<Vec<_>>()).len(), MOST);
    }
}
