//! What keeps connections from an intercept's path, as far as the API server shows it: NetworkPolicies and meshes.
//!
//! The path goes from the clients to the manager's pod, and for what no rule wants from there to the Service's pods.
//! A probe of the manager's proves that it stands; that other pods may use it can only be read. Whether a policy is
//! enforced is the cluster's network's affair, so what is found here is a hint where a probe has passed, and the
//! likely reason where it hasn't.

mod mesh;
mod policy;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service, ServicePort};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt as _};

use crate::install::ManagerPod;
use crate::redirect::pods::target_port;
use crate::redirect::{PortRef, ServiceName, label_selector, original_selector};
use policy::{Direction, Party, Port, barring};

/// How many pods of a namespace are looked at, and how many of a Service: they are much alike.
const CLIENTS: u32 = 100;
const PODS: u32 = 10;
/// Where Istio keeps what holds for all namespaces, unless it was told otherwise.
const ISTIO: &str = "istio-system";

/// Something that may be in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// Policies keep the Service's pods from what the manager passes on to them.
    PodsClosed {
        /// `namespace/name` of the policies.
        policies: Vec<String>,
    },
    /// Policies keep everything from the manager's pod.
    ManagerClosed {
        /// `namespace/name` of the policies.
        policies: Vec<String>,
    },
    /// Policies keep pods in the Service's namespace from reaching the manager.
    ClientsClosed {
        /// `namespace/name` of the policies.
        policies: Vec<String>,
        /// The first of the pods.
        pod: String,
        /// How many there are.
        count: usize,
    },
    /// The Service's pods are in a mesh.
    Mesh {
        /// Which one.
        mesh: &'static str,
        /// What has it take nothing but mTLS.
        strict: Option<String>,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodsClosed { policies } => write!(
                f,
                "NetworkPolicy {} doesn't let the manager's pod reach the Service's pods, which get what no rule wants",
                policies.join(", ")
            ),
            Self::ManagerClosed { policies } => write!(
                f,
                "NetworkPolicy {} doesn't let the Service's clients reach the manager's pod",
                policies.join(", ")
            ),
            Self::ClientsClosed {
                policies,
                pod,
                count,
            } => write!(
                f,
                "NetworkPolicy {} keeps {count} {} of this namespace (as {pod}) from the manager's pod",
                policies.join(", "),
                if *count == 1 { "pod" } else { "pods" }
            ),
            Self::Mesh { mesh, strict: None } => write!(
                f,
                "the Service's pods are in a mesh ({mesh}): where it demands mTLS, it refuses what the manager passes on"
            ),
            Self::Mesh {
                mesh,
                strict: Some(by),
            } => write!(
                f,
                "the Service's pods are in a mesh ({mesh}) that refuses what the manager passes on: {by} demands mTLS"
            ),
        }
    }
}

/// Finds what may be in the way of an intercept of one port; `passes` says whether some of its requests go on to
/// the pods. What may not be read is taken for not there.
pub async fn find(
    client: &Client,
    manager: &ManagerPod,
    service: &ServiceName,
    port: &PortRef,
    passes: bool,
) -> Vec<Obstacle> {
    let namespace = &service.namespace;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let of_manager: Api<Pod> = Api::namespaced(client.clone(), &manager.namespace);
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    let theirs: Api<NetworkPolicy> = Api::namespaced(client.clone(), &manager.namespace);
    let Ok(found) = services.get(&service.name).await else {
        return Vec::new();
    };
    let selector = original_selector(&found).unwrap_or_default();
    let (all, some) = (ListParams::default(), ListParams::default().limit(CLIENTS));
    let behind = ListParams::default()
        .labels(&label_selector(&selector))
        .limit(PODS);
    let (clients, pods, of_manager, policies, theirs, labels, their_labels, strict) = tokio::join!(
        pods.list(&some),
        pods.list(&behind),
        of_manager.get(&manager.name),
        policies.list(&all),
        theirs.list(&all),
        labels_of(client, namespace),
        labels_of(client, &manager.namespace),
        strict(client, namespace, passes),
    );
    let Ok(of_manager) = of_manager else {
        return Vec::new();
    };
    let pods = pods.map(|list| list.items).unwrap_or_default();
    let mut clients = clients.map(|list| list.items).unwrap_or_default();
    clients.retain(is_concerned);
    let mut policies = policies.map(|list| list.items).unwrap_or_default();
    if manager.namespace != *namespace {
        policies.extend(theirs.into_iter().flat_map(|list| list.items));
    }
    let mut ports_of = found
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    let scene = Scene {
        manager: party(&of_manager, their_labels),
        pods: with_party(&pods, &labels),
        clients: with_party(&clients, &labels),
        port: ports_of.find(|one| port.is(one)).cloned(),
        policies,
        strict,
    };
    scene.obstacles(port, passes)
}

async fn labels_of(client: &Client, namespace: &str) -> Option<BTreeMap<String, String>> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = namespaces.get_metadata(namespace).await.ok()?;
    Some(found.metadata.labels.unwrap_or_default())
}

/// What has the mesh take nothing but mTLS; most clusters have no such kind.
async fn strict(client: &Client, namespace: &str, wanted: bool) -> Option<String> {
    if !wanted {
        return None;
    }
    let kind = GroupVersionKind::gvk("security.istio.io", "v1", "PeerAuthentication");
    let resource = ApiResource::from_gvk(&kind);
    let here: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let mesh: Api<DynamicObject> = Api::namespaced_with(client.clone(), ISTIO, &resource);
    let all = ListParams::default();
    // What a namespace says for itself holds there.
    let said = match mesh::said(&here.list(&all).await.ok()?.items) {
        Some(said) => said,
        None => mesh::said(&mesh.list(&all).await.ok()?.items)?,
    };
    said.is_strict.then_some(said.by)
}

fn with_party<'a>(
    pods: &'a [Pod],
    labels: &Option<BTreeMap<String, String>>,
) -> Vec<(&'a Pod, Party)> {
    let all = pods.iter().map(|pod| (pod, party(pod, labels.clone())));
    all.collect()
}

fn party(pod: &Pod, namespace_labels: Option<BTreeMap<String, String>>) -> Party {
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
fn is_concerned(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let of_node = pod.spec.as_ref().and_then(|spec| spec.host_network);
    !matches!(phase, Some("Succeeded" | "Failed")) && of_node != Some(true)
}

/// Everything that was read.
struct Scene<'a> {
    manager: Party,
    /// The Service's.
    pods: Vec<(&'a Pod, Party)>,
    /// Those of its namespace, its own among them.
    clients: Vec<(&'a Pod, Party)>,
    port: Option<ServicePort>,
    policies: Vec<NetworkPolicy>,
    strict: Option<String>,
}

impl Scene<'_> {
    fn obstacles(&self, port: &PortRef, passes: bool) -> Vec<Obstacle> {
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
