//! What the controllers do, each on what it last saw.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{Cluster, EndpointsModel, slices_of, uid, written_by};
use crate::redirect::objects::{
    MANAGED_BY_LABEL, MIRRORING_CONTROLLER, SERVICE_NAME_LABEL, SLICE_CONTROLLER,
};
use crate::redirect::observed::is_owned_by;
use crate::redirect::slices;
use crate::redirect::testing::strings;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::redirect) enum Controller {
    Slices,
    Endpoints,
    Mirroring,
}

pub(in crate::redirect) const CONTROLLERS: [Controller; 3] = [
    Controller::Slices,
    Controller::Endpoints,
    Controller::Mirroring,
];

impl Cluster {
    /// Lets a controller see the Service as it is.
    pub(in crate::redirect) fn catch_up(&mut self, controller: Controller) {
        self.seen[controller as usize] = self.service.clone();
        if controller == Controller::Slices {
            self.see_slices();
        }
    }

    /// Lets the controller for slices see them as they are, though perhaps not the Service: those are two watches.
    pub(in crate::redirect) fn see_slices(&mut self) {
        self.seen_slices = self.versions();
    }

    fn versions(&self) -> BTreeMap<String, String> {
        let its = self.slices.iter();
        let its = its.filter(|slice| written_by(slice, SLICE_CONTROLLER));
        its.map(|slice| {
            let version = slice.metadata.resource_version.clone();
            (uid(slice), version.unwrap_or_default())
        })
        .collect()
    }

    /// Returns whether a controller's view has a selector that isn't the Service's any more; for the one that writes
    /// slices, also one that has been cleared.
    pub(in crate::redirect) fn follows_old_selector(&self, controller: Controller) -> bool {
        let selector_of = |service: Option<&Service>| service?.spec.as_ref()?.selector.clone();
        let seen = selector_of(self.seen[controller as usize].as_ref());
        let now = match controller {
            Controller::Slices => selector_of(self.service.as_ref()),
            Controller::Endpoints | Controller::Mirroring => self.observe().selector(),
        };
        seen.is_some() && seen != now
    }

    /// Lets a controller act on the Service as it last saw it.
    pub(in crate::redirect) fn sync(&mut self, controller: Controller) {
        let Some(service) = self.seen[controller as usize].clone() else {
            return;
        };
        let selector = service.spec.as_ref().unwrap().selector.clone();
        match (controller, selector) {
            (Controller::Slices, Some(selector)) => {
                let now = self.versions();
                let is_stale = self.tracked.iter().any(|uid| !now.contains_key(uid));
                // Its writes to slices that have changed meanwhile meet a conflict.
                if !is_stale && now == self.seen_slices {
                    let content = self.content(&service, &selector);
                    self.write_slices(&service, SLICE_CONTROLLER, content);
                    self.see_slices();
                    self.tracked = self.seen_slices.keys().cloned().collect();
                }
            }
            (Controller::Endpoints, Some(selector)) => {
                let content = self.content(&service, &selector);
                self.endpoints = Some(EndpointsModel {
                    skip_mirror: false,
                    content,
                });
            }
            (Controller::Slices | Controller::Endpoints, None) => {}
            (Controller::Mirroring, selector) => {
                let endpoints = self
                    .endpoints
                    .clone()
                    .filter(|endpoints| !endpoints.skip_mirror);
                let content = match (endpoints, selector) {
                    (Some(endpoints), None) => endpoints.content,
                    _ => slices::Wanted::new(),
                };
                self.write_slices(&service, MIRRORING_CONTROLLER, content);
            }
        }
    }

    /// Lets all controllers do all they have to do.
    pub(in crate::redirect) fn settle(&mut self) {
        for controller in CONTROLLERS {
            self.catch_up(controller);
            self.sync(controller);
        }
    }

    fn content(&self, service: &Service, selector: &BTreeMap<String, String>) -> slices::Wanted {
        let pods = self.selected(selector);
        slices::wanted(service, &pods, &BTreeMap::new(), &BTreeMap::new())
    }

    /// Makes a controller's slices what they are to be. One with the ports of a wanted one keeps its annotations, and
    /// another one becomes what would have to be made.
    fn write_slices(&mut self, service: &Service, controller: &str, content: slices::Wanted) {
        let mut missing = slices_of(service, &content);
        if missing.is_empty() && controller == SLICE_CONTROLLER {
            missing.push(placeholder(service));
        }
        let (mut its, others) = std::mem::take(&mut self.slices)
            .into_iter()
            .partition::<Vec<_>, _>(|slice| written_by(slice, controller));
        self.slices = others;
        // Slices of an earlier Service are left to the garbage collector.
        its.retain(|slice| controller != SLICE_CONTROLLER || is_owned_by(slice, service));
        let kind = |slice: &EndpointSlice| (slice.address_type.clone(), slice.ports.clone());
        let mut kept = Vec::new();
        its.retain(|old| {
            let same = missing.iter().position(|new| kind(new) == kind(old));
            same.map(|at| kept.push((old.clone(), missing.remove(at))))
                .is_none()
        });
        for (old, new) in kept {
            let annotations = old.metadata.annotations.clone();
            self.write(controller, Some(old), annotations, new);
        }
        for new in missing {
            let same = its
                .iter()
                .position(|old| old.address_type == new.address_type);
            let old = same.map(|at| its.remove(at));
            self.write(controller, old, None, new);
        }
    }

    fn write(
        &mut self,
        controller: &str,
        old: Option<EndpointSlice>,
        annotations: Option<BTreeMap<String, String>>,
        mut slice: EndpointSlice,
    ) {
        self.counter += 1;
        slice.metadata = ObjectMeta {
            name: Some(format!("web-{}", self.counter)),
            labels: Some(strings(&[
                (SERVICE_NAME_LABEL, "web"),
                (MANAGED_BY_LABEL, controller),
            ])),
            annotations,
            owner_references: slice.metadata.owner_references,
            ..ObjectMeta::default()
        };
        match old {
            Some(old) => {
                slice.metadata.name.clone_from(&old.metadata.name);
                slice.metadata.uid.clone_from(&old.metadata.uid);
                slice
                    .metadata
                    .resource_version
                    .clone_from(&old.metadata.resource_version);
                if slice != old {
                    self.stamp(&mut slice.metadata, false);
                }
            }
            None => self.stamp(&mut slice.metadata, true),
        }
        self.slices.push(slice);
    }
}

/// What the controller writes where no pod has an endpoint.
fn placeholder(service: &Service) -> EndpointSlice {
    let reference = OwnerReference {
        uid: service.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    EndpointSlice {
        metadata: ObjectMeta {
            owner_references: Some(vec![reference]),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints: Vec::new(),
        ports: Some(Vec::new()),
    }
}
