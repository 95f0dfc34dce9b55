//! What there is of a Service in the cluster, and what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::PortRef;
use super::intercept::{Original, original, selector};
use super::objects::{
    MANAGED_BY, MANAGED_BY_LABEL, MIRRORING_CONTROLLER, ORIGINAL, SLICE_CONTROLLER,
};

/// Everything that decides about the next step of a Service, as the API server shows it.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The Service; `None` if it is gone.
    pub service: Option<Service>,
    /// All slices with the Service's name, whoever wrote them.
    pub slices: Vec<EndpointSlice>,
    /// The Endpoints object with the Service's name.
    pub endpoints: EndpointsObject,
    /// The pods of [`Observed::selector`].
    pub pods: Vec<Pod>,
}

/// The state of a Service's Endpoints object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EndpointsObject {
    /// There is none.
    #[default]
    Absent,
    /// The mirroring controller may turn it into slices.
    Plain,
    /// The mirroring controller leaves it alone.
    SkipMirror,
}

/// What one Service is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The namespace of the traffic manager, to mark what is written.
    pub manager: String,
    /// Where its connections go.
    pub goal: Goal,
    /// The ids of intercepts that are over: they leave the annotation.
    pub forget: BTreeSet<String>,
}

impl Desired {
    /// Everything as it was before, with the claims of `forget` dropped.
    pub fn restored(forget: impl IntoIterator<Item = String>) -> Self {
        Self {
            manager: String::new(),
            goal: Goal::Restore,
            forget: forget.into_iter().collect(),
        }
    }
}

/// Where a Service's connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// These ports lead to the router, all others to the original pods.
    Redirect(BTreeMap<PortRef, Route>),
    /// All ports lead to the original pods; if the selector is cleared it stays so, ready for a
    /// session that comes back.
    Hold,
    /// The selector is back and nothing of ours is left.
    Restore,
}

/// Where the router listens for one port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The addresses of the manager's pods, of one family or both. A family without one keeps the
    /// original pods.
    pub addresses: Vec<IpAddr>,
    /// The port there.
    pub port: u16,
    /// The nodes that take the router for their own under a traffic policy `Local`, besides those with a pod: the
    /// manager's own, which its probe comes from.
    pub nodes: BTreeSet<String>,
}

impl Observed {
    /// Returns own slices, those of an earlier Service of that name included.
    pub fn own(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.slices
            .iter()
            .filter(|slice| managed_by(slice) == Some(MANAGED_BY))
    }

    /// Returns the slices that the cluster made of the selector's pods, the borrowed ones included.
    pub(super) fn by_slice_controller(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.slices.iter().filter(|slice| is_the_clusters(slice))
    }

    /// Returns the cluster's own slices that kdev has rewritten while the selector is cleared.
    pub fn borrowed(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.by_slice_controller()
            .filter(|slice| is_borrowed(slice))
    }

    /// Returns the slices that the cluster made of the Endpoints object.
    pub(super) fn mirrored(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.slices
            .iter()
            .filter(|slice| managed_by(slice) == Some(MIRRORING_CONTROLLER))
    }

    /// Returns how the Service was before its selector was cleared: from its annotation, else from
    /// the newest copy on own and borrowed slices.
    pub fn original(&self) -> Option<Original> {
        let service = self.service.as_ref()?;
        if let Ok(Some(original)) = original(&service.metadata) {
            return Some(original);
        }
        self.own()
            .chain(self.borrowed())
            .filter(|slice| is_owned_by(slice, service))
            .filter_map(|slice| Some((version(slice), original(&slice.metadata).ok()??)))
            .max_by_key(|(version, _)| *version)
            .map(|(_, original)| original)
    }

    /// Returns the selector of the pods that the Service is for.
    pub fn selector(&self) -> Option<BTreeMap<String, String>> {
        let service = self.service.as_ref()?;
        selector(service)
            .cloned()
            .or_else(|| Some(self.original()?.selector))
    }

    /// Returns routes that keep the nodes which slices list the router for: when a workload is replaced, every
    /// node loses its last pod, and is to have the router still.
    pub(super) fn lasting(&self, routes: &BTreeMap<PortRef, Route>) -> BTreeMap<PortRef, Route> {
        let slices = self.own().chain(self.borrowed());
        let endpoints = slices.flat_map(|slice| &slice.endpoints);
        let routers = endpoints.filter(|endpoint| is_router(endpoint));
        let nodes: BTreeSet<_> = routers
            .filter_map(|endpoint| endpoint.node_name.clone())
            .collect();
        let mut routes = routes.clone();
        for route in routes.values_mut() {
            route.nodes.extend(nodes.iter().cloned());
        }
        routes
    }

    /// Returns the zone of every node that a slice names one for.
    pub(super) fn zones(&self) -> BTreeMap<&str, &str> {
        self.slices
            .iter()
            .flat_map(|slice| &slice.endpoints)
            .filter_map(|endpoint| {
                Some((endpoint.node_name.as_deref()?, endpoint.zone.as_deref()?))
            })
            .collect()
    }
}

/// Returns whether a slice belongs to the cluster's controller, whoever wrote it last.
pub(super) fn is_the_clusters(slice: &EndpointSlice) -> bool {
    managed_by(slice) == Some(SLICE_CONTROLLER)
}

/// Returns whether a slice of the cluster's carries what kdev writes on those that it borrows.
pub(super) fn is_borrowed(slice: &EndpointSlice) -> bool {
    let annotations = slice.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(ORIGINAL))
}

/// Returns whether an endpoint is the router: a pod's says which pod it is.
pub(super) fn is_router(endpoint: &Endpoint) -> bool {
    endpoint.target_ref.is_none()
}

/// Returns whether `slice` was written for this very Service and not an earlier one of its name.
pub(super) fn is_owned_by(slice: &EndpointSlice, service: &Service) -> bool {
    let owners = slice.metadata.owner_references.iter().flatten();
    service
        .metadata
        .uid
        .as_ref()
        .is_some_and(|uid| owners.into_iter().any(|owner| owner.uid == *uid))
}

/// Returns the order in which slices were written (KEP-5504: resource versions can be compared).
fn version(slice: &EndpointSlice) -> u128 {
    let version = slice
        .metadata
        .resource_version
        .as_deref()
        .unwrap_or_default();
    version.parse().unwrap_or_default()
}

fn managed_by(slice: &EndpointSlice) -> Option<&str> {
    slice
        .metadata
        .labels
        .as_ref()?
        .get(MANAGED_BY_LABEL)
        .map(String::as_str)
}
