//! An API server in memory with the controllers that meddle with a Service's slices, for tests.
//!
//! Modelled on Kubernetes 1.34: `pkg/controller/endpoint`, `pkg/controller/endpointslice`,
//! `pkg/controller/endpointslicemirroring` and `k8s.io/endpointslice`. Each controller acts on the Service as it last
//! saw it; the one for slices, on its slices as it last saw them.

mod controllers;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(super) use self::controllers::{CONTROLLERS, Controller};
use super::changes::{TheClusters, changes};
use super::intercept::{Original, label_selector};
use super::objects::{INTERCEPTS, MANAGED_BY_LABEL, ORIGINAL, SLICE_CONTROLLER};
use super::observed::{EndpointsObject, Observed, Route};
use super::plan::Step;
use super::port::{PortRef, api_ports};
use super::slices;

/// The step doesn't fit the state any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outdated;

/// A cluster with one Service.
pub(super) struct Cluster {
    pub(super) service: Option<Service>,
    pub(super) slices: Vec<EndpointSlice>,
    pub(super) pods: Vec<Pod>,
    endpoints: Option<EndpointsModel>,
    seen: [Option<Service>; 3],
    /// The versions of its slices that the controller for slices knows, by uid.
    seen_slices: BTreeMap<String, String>,
    /// The uids of those that it wrote. While one of them is missing, and was never seen to be deleted, it takes what
    /// it sees for outdated and does nothing.
    tracked: BTreeSet<String>,
    counter: u64,
}

/// The Endpoints object: its label, and the slices that it would be mirrored to.
#[derive(Debug, Clone, PartialEq)]
struct EndpointsModel {
    skip_mirror: bool,
    content: slices::Wanted,
}

impl Cluster {
    /// A Service as it is before anybody intercepts it.
    pub(super) fn new(service: Service, pods: Vec<Pod>) -> Self {
        let mut cluster = Self {
            service: Some(service),
            slices: Vec::new(),
            pods,
            endpoints: None,
            seen: [None, None, None],
            seen_slices: BTreeMap::new(),
            tracked: BTreeSet::new(),
            counter: 100,
        };
        cluster.settle();
        cluster
    }

    pub(super) fn observe(&self) -> Observed {
        let mut observed = Observed {
            service: self.service.clone(),
            slices: self.slices.clone(),
            endpoints: match &self.endpoints {
                None => EndpointsObject::Absent,
                Some(EndpointsModel {
                    skip_mirror: true, ..
                }) => EndpointsObject::SkipMirror,
                Some(_) => EndpointsObject::Plain,
            },
            pods: Vec::new(),
        };
        if let Some(selector) = observed.selector() {
            observed.pods = self.selected(&selector);
        }
        observed
    }

    pub(super) fn apply(&mut self, step: &Step) -> Result<(), Outdated> {
        match step {
            Step::CreateSlice(slice) => {
                let mut slice = (**slice).clone();
                if self
                    .slices
                    .iter()
                    .any(|other| other.metadata.name == slice.metadata.name)
                {
                    return Err(Outdated);
                }
                self.stamp(&mut slice.metadata, true);
                self.slices.push(slice);
            }
            Step::UpdateSlice(slice) | Step::UnmarkSlice(slice) => {
                let mut slice = (**slice).clone();
                let version = slice.metadata.resource_version.clone();
                self.stamp(&mut slice.metadata, false);
                let old = self
                    .slices
                    .iter_mut()
                    .find(|old| old.metadata.name == slice.metadata.name)
                    .filter(|old| old.metadata.resource_version == version)
                    .ok_or(Outdated)?;
                *old = slice;
            }
            Step::DeleteSlice {
                name,
                uid,
                resource_version,
            } => {
                let is_it = |slice: &EndpointSlice| {
                    let ObjectMeta {
                        name: found,
                        uid: found_uid,
                        resource_version: version,
                        ..
                    } = &slice.metadata;
                    (found.as_ref(), found_uid, version) == (Some(name), uid, resource_version)
                };
                let at = self.slices.iter().position(is_it).ok_or(Outdated)?;
                self.delete_slice(at);
            }
            Step::SkipMirrorLabel { on } => {
                self.endpoints.as_mut().ok_or(Outdated)?.skip_mirror = *on;
            }
            Step::ClearSelector {
                resource_version,
                saved,
            } => {
                self.change_service(resource_version, |service| {
                    service.spec.as_mut().unwrap().selector = None;
                    annotate(
                        service,
                        ORIGINAL,
                        Some(serde_json::to_string(saved).unwrap()),
                    );
                })?;
            }
            Step::RestoreSelector {
                resource_version,
                selector,
            } => {
                self.change_service(resource_version, |service| {
                    service.spec.as_mut().unwrap().selector = Some(selector.clone());
                })?;
            }
            Step::DropAnnotation {
                resource_version,
                original,
                intercepts,
            } => {
                self.change_service(resource_version, |service| {
                    if *original {
                        annotate(service, ORIGINAL, None);
                    }
                    if let Some(claims) = intercepts {
                        let text = serde_json::to_string(claims).unwrap();
                        annotate(service, INTERCEPTS, (!claims.is_empty()).then_some(text));
                    }
                })?;
            }
            Step::WaitForControllerSlices | Step::Done => {}
        }
        Ok(())
    }

    /// Changes the Service as somebody else would.
    pub(super) fn edit(&mut self, change: impl FnOnce(&mut Service)) {
        if let Some(service) = &self.service {
            let version = service.metadata.resource_version.clone().unwrap();
            self.change_service(&version, change).unwrap();
        }
    }

    /// Deletes a slice, whoever wants that. Its controller hears of it while the slice is its own.
    pub(super) fn delete_slice(&mut self, at: usize) {
        let slice = self.slices.remove(at);
        if written_by(&slice, SLICE_CONTROLLER) {
            self.tracked.remove(&uid(&slice));
        }
    }

    /// Counts, per family and port, the ready endpoints that really serve it: ready pods of the
    /// selector, and the router where one of `goals` leads there.
    pub(super) fn serving<'a>(
        &self,
        goals: impl IntoIterator<Item = &'a BTreeMap<PortRef, Route>>,
    ) -> BTreeMap<(String, String), usize> {
        let observed = self.observe();
        let Some(service) = &observed.service else {
            return BTreeMap::new();
        };
        let mut valid: BTreeSet<_> = BTreeSet::new();
        let mut allow = |routes: &BTreeMap<PortRef, Route>| {
            let wanted = slices::wanted(service, &observed.pods, routes, &BTreeMap::new());
            valid.extend(targets(&slices_of(service, &wanted)));
        };
        allow(&BTreeMap::new());
        goals.into_iter().for_each(allow);
        let mut serving = BTreeMap::new();
        for port in api_ports(service) {
            for family in ["IPv4", "IPv6"] {
                let name = port.name.clone().unwrap_or_default();
                serving.insert((family.to_owned(), name), 0);
            }
        }
        for target in targets(&self.slices).intersection(&valid) {
            *serving
                .entry((target.0.clone(), target.1.clone()))
                .or_default() += 1;
        }
        serving
    }

    fn selected(&self, selector: &BTreeMap<String, String>) -> Vec<Pod> {
        let is_selected = |pod: &&Pod| {
            let labels = pod.metadata.labels.clone().unwrap_or_default();
            selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
        };
        self.pods.iter().filter(is_selected).cloned().collect()
    }

    fn change_service(
        &mut self,
        version: &str,
        change: impl FnOnce(&mut Service),
    ) -> Result<(), Outdated> {
        let mut service = self.service.take().ok_or(Outdated)?;
        let is_current = service.metadata.resource_version.as_deref() == Some(version);
        if is_current {
            change(&mut service);
            self.stamp(&mut service.metadata, false);
        }
        self.service = Some(service);
        is_current.then_some(()).ok_or(Outdated)
    }

    fn stamp(&mut self, metadata: &mut ObjectMeta, is_new: bool) {
        self.counter += 1;
        metadata.resource_version = Some(self.counter.to_string());
        if is_new {
            metadata.uid = Some(format!("uid-{}", self.counter));
        }
    }
}

fn written_by(slice: &EndpointSlice, controller: &str) -> bool {
    slice.metadata.labels.as_ref().unwrap()[MANAGED_BY_LABEL] == controller
}

fn uid(slice: &EndpointSlice) -> String {
    slice.metadata.uid.clone().unwrap()
}

/// Writes groups of endpoints as slices.
fn slices_of(service: &Service, wanted: &slices::Wanted) -> Vec<EndpointSlice> {
    let original = Original {
        selector: BTreeMap::new(),
        manager: String::new(),
    };
    let nothing = Observed {
        service: Some(service.clone()),
        ..Observed::default()
    };
    let none = TheClusters::GivenBack;
    changes(&nothing, service, &original, wanted.clone(), none).creates
}

/// Lists (family, port name, address, number) of every ready endpoint.
fn targets(slices: &[EndpointSlice]) -> BTreeSet<(String, String, String, i32)> {
    let mut targets = BTreeSet::new();
    for slice in slices {
        for port in slice.ports.iter().flatten() {
            for endpoint in &slice.endpoints {
                if endpoint.conditions.as_ref().and_then(|it| it.ready) == Some(true) {
                    targets.insert((
                        slice.address_type.clone(),
                        port.name.clone().unwrap_or_default(),
                        endpoint.addresses[0].clone(),
                        port.port.unwrap(),
                    ));
                }
            }
        }
    }
    targets
}

fn annotate(service: &mut Service, annotation: &str, text: Option<String>) {
    let annotations = service.metadata.annotations.get_or_insert_default();
    match text {
        Some(text) => annotations.insert(annotation.to_owned(), text),
        None => annotations.remove(annotation),
    };
    if annotations.is_empty() {
        service.metadata.annotations = None;
    }
}

impl std::fmt::Display for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(service) = &self.service {
            let selector = service
                .spec
                .as_ref()
                .and_then(|spec| spec.selector.as_ref());
            writeln!(f, "selector: {:?}", selector.map(label_selector))?;
            writeln!(f, "annotations: {:?}", service.metadata.annotations)?;
        }
        let skip = self
            .endpoints
            .as_ref()
            .map(|endpoints| endpoints.skip_mirror);
        writeln!(f, "skip-mirror: {skip:?}")?;
        for slice in &self.slices {
            let by = &slice.metadata.labels.as_ref().unwrap()[MANAGED_BY_LABEL];
            let targets = targets(std::slice::from_ref(slice));
            writeln!(
                f,
                "{} by {by}: {targets:?}",
                slice.metadata.name.as_deref().unwrap()
            )?;
        }
        Ok(())
    }
}
