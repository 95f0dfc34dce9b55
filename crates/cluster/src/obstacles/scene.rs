//! What is in the way, of what was read. No IO.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, ServicePort};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt as _;

use super::policy::{Direction, Party, Port, barring};
use super::{Obstacle, mesh};
use crate::redirect::PortRef;
use crate::redirect::pods::target_port;

/// Everything that was read.
pub(super) struct Scene<'a> {
    pub(super) manager: Party,
    /// The Service's.
    pub(super) pods: Vec<(&'a Pod, Party)>,
    /// Those of its namespace, its own among them.
    pub(super) clients: Vec<(&'a Pod, Party)>,
    pub(super) port: Option<ServicePort>,
    pub(super) policies: Vec<NetworkPolicy>,
    pub(super) strict: Option<String>,
}

impl Scene<'_> {
    /// Finds what is in the way of one port; `passes` says whether some of its requests go on to the pods.
    pub(super) fn obstacles(&self, port: &PortRef, passes: bool) -> Vec<Obstacle> {
        let protocol = port.protocol.as_str();
        // Which port of a pod's it is, or of the manager's, isn't known here.
        let any = Port {
            protocol,
            number: None,
        };
        let mut found = Vec::new();
        if passes {
            let closed = self.pods.iter().find_map(|(pod, party)| {
                let number = Port {
                    protocol,
                    number: self.port.as_ref().and_then(|port| target_port(pod, port)),
                };
                let mut barring = self.barring(Direction::Ingress, party, &self.manager, number);
                barring.extend(self.barring(Direction::Egress, &self.manager, party, number));
                (!barring.is_empty()).then_some(barring)
            });
            found.extend(closed.map(|policies| Obstacle::PodsClosed { policies }));
            let mesh = self.pods.iter().find_map(|(pod, _)| mesh::of(pod));
            found.extend(mesh.map(|mesh| Obstacle::Mesh {
                mesh,
                strict: self.strict.clone(),
            }));
        }
        let into_manager = |(_, client): &(&Pod, Party)| {
            self.barring(Direction::Ingress, &self.manager, client, any)
        };
        let closed: Vec<_> = self.clients.iter().map(into_manager).collect();
        if let Some(policies) = closed.first()
            && !closed.iter().any(Vec::is_empty)
        {
            let policies = policies.clone();
            found.push(Obstacle::ManagerClosed { policies });
        }
        let of_service = |pod: &Pod| {
            self.pods
                .iter()
                .any(|(own, _)| own.name_any() == pod.name_any())
        };
        let clients = self.clients.iter().filter(|(pod, _)| !of_service(pod));
        let kept: Vec<_> = clients
            .filter_map(|(pod, party)| {
                let barring = self.barring(Direction::Egress, party, &self.manager, any);
                (!barring.is_empty()).then(|| (pod.name_any(), barring))
            })
            .collect();
        if let Some((pod, policies)) = kept.first() {
            found.push(Obstacle::ClientsClosed {
                policies: policies.clone(),
                pod: pod.clone(),
                count: kept.len(),
            });
        }
        found
    }

    fn barring(
        &self,
        direction: Direction,
        pod: &Party,
        other: &Party,
        port: Port<'_>,
    ) -> Vec<String> {
        let names = barring(&self.policies, direction, pod, other, port);
        let named = names.iter().map(|name| format!("{}/{name}", pod.namespace));
        named.collect()
    }
}

/// Pods, and each as policies see it.
pub(super) fn with_party<'a>(
    pods: &'a [Pod],
    labels: &Option<BTreeMap<String, String>>,
) -> Vec<(&'a Pod, Party)> {
    let all = pods.iter().map(|pod| (pod, party(pod, labels.clone())));
    all.collect()
}

/// A pod as policies see it.
pub(super) fn party(pod: &Pod, namespace_labels: Option<BTreeMap<String, String>>) -> Party {
    let ips = pod
        .status
        .iter()
        .flat_map(|status| status.pod_ips.iter().flatten());
    Party {
        namespace: pod.namespace().unwrap_or_default(),
        namespace_labels,
        labels: pod.labels().clone(),
        addresses: ips.filter_map(|ip| ip.ip.parse().ok()).collect(),
    }
}

/// Whether policies are about a pod: one that has ended speaks with nobody, one with its node's network isn't meant.
pub(super) fn is_concerned(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let of_node = pod.spec.as_ref().and_then(|spec| spec.host_network);
    !matches!(phase, Some("Succeeded" | "Failed")) && of_node != Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(namespace: &str, name: &str, app: &str) -> Pod {
        let metadata = json!({ "name": name, "namespace": namespace, "labels": { "app": app } });
        serde_json::from_value(json!({ "metadata": metadata, "spec": { "containers": [] } }))
            .unwrap()
    }

    fn policy(namespace: &str, name: &str, spec: &Value) -> NetworkPolicy {
        let metadata = json!({ "name": name, "namespace": namespace });
        serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
    }

    fn found(policies: Vec<NetworkPolicy>, passes: bool) -> Vec<Obstacle> {
        let (web, cart) = (pod("shop", "web-1", "web"), pod("shop", "cart-1", "cart"));
        let all = [web.clone(), cart];
        let scene = Scene {
            manager: party(&pod("kdev", "manager-1", "manager"), None),
            pods: with_party(std::slice::from_ref(&web), &None),
            clients: with_party(&all, &None),
            port: None,
            policies,
            strict: None,
        };
        let port = PortRef {
            name: String::new(),
            number: 80,
            protocol: crate::redirect::Protocol::Tcp,
        };
        scene.obstacles(&port, passes)
    }

    #[test]
    fn a_manager_that_nothing_may_reach_is_named_and_one_that_somebody_may_isnt() {
        let nothing = policy("kdev", "deny", &json!({ "podSelector": {} }));
        let policies = vec!["kdev/deny".to_owned()];
        let closed = [Obstacle::ManagerClosed { policies }];
        assert_eq!(found(vec![nothing], false), closed);
        let carts = json!({
            "podSelector": {},
            "ingress": [{ "from": [{ "namespaceSelector": {}, "podSelector": { "matchLabels": { "app": "cart" } } }] }],
        });
        assert_eq!(found(vec![policy("kdev", "carts", &carts)], false), []);
    }

    #[test]
    fn what_keeps_the_pods_closed_counts_where_something_goes_on_to_them() {
        let web = json!({ "podSelector": { "matchLabels": { "app": "web" } } });
        let policies = vec!["shop/web".to_owned()];
        let closed = [Obstacle::PodsClosed { policies }];
        assert_eq!(found(vec![policy("shop", "web", &web)], true), closed);
        assert_eq!(found(vec![policy("shop", "web", &web)], false), []);
        let nothing_out = json!({ "podSelector": {}, "policyTypes": ["Egress"] });
        let policies = vec!["kdev/out".to_owned()];
        let closed = [Obstacle::PodsClosed { policies }];
        assert_eq!(
            found(vec![policy("kdev", "out", &nothing_out)], true),
            closed
        );
    }

    #[test]
    fn clients_that_may_not_reach_the_manager_are_counted_without_the_services_own_pods() {
        let nothing_out = json!({ "podSelector": {}, "policyTypes": ["Egress"] });
        let clients = Obstacle::ClientsClosed {
            policies: vec!["shop/out".to_owned()],
            pod: "cart-1".to_owned(),
            count: 1,
        };
        assert_eq!(
            found(vec![policy("shop", "out", &nothing_out)], false),
            [clients]
        );
    }
}
