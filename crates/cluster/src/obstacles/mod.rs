//! What keeps connections from an intercept's path, as far as the API server shows it: NetworkPolicies and meshes.
//!
//! The path goes from the clients to the manager's pod, and for what no rule wants from there to the Service's pods.
//! A probe of the manager's proves that it stands; that other pods may use it can only be read. Whether a policy is
//! enforced is the cluster's network's affair, so what is found here is a hint where a probe has passed, and the
//! likely reason where it hasn't.

mod mesh;
mod policy;
mod scene;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};

use crate::install::ManagerPod;
use crate::redirect::{PortRef, ServiceName, label_selector, original_selector};
use scene::{Scene, is_concerned, party, with_party};

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
