//! The steps that lead a Service from what it is to what it is to be.
//!
//! Nothing is remembered between steps: whatever a crash, a controller or a person has left, the
//! plan made from there leads to the same end, and no port that has endpoints is ever without.
//!
//! Clearing: what has to be made is made first, then the mirroring label, then the selector; from then
//! on the cluster's own slices are borrowed: rewritten in place, since kube-proxy applies one change at
//! once, and a second one after a second. A Service whose only port is intercepted takes that one
//! change. The mirroring label may be lost again, as the Endpoints controller rewrites the labels of a
//! Service with a selector; the next plan sees that, and takes what was mirrored away last, as it may be
//! all that leads to a pod.
//!
//! Restoring: slices lead every port to the pods, the borrowed ones as the cluster had them, and the
//! selector comes back. Own slices go once the cluster's lead to every pod that they do. The annotation goes last,
//! as the mark of work left. Whoever writes the selector back without us has the cluster's controller
//! take the borrowed slices back.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kdev_common::fault::Point;

use super::changes::{Changes, TheClusters, changes, given_back};
use super::intercept::{Intercept, Original, intercepts, original, selector};
use super::observed::{
    Desired, EndpointsObject, Goal, Observed, Route, is_router, is_the_clusters,
};
use super::port::{PortRef, api_ports};
use super::slices;
use super::suitable::{NotInterceptable, interceptable};

/// One write to the API server, or a pause until it has done its part.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Creates an own slice.
    CreateSlice(Box<EndpointSlice>),
    /// Replaces a slice, if it is still the one observed.
    UpdateSlice(Box<EndpointSlice>),
    /// Replaces a slice of the cluster's that leads to the pods, without kdev's marks. Its controller may leave
    /// them, and they do no harm.
    UnmarkSlice(Box<EndpointSlice>),
    /// Deletes a slice, if it is still the one observed.
    DeleteSlice {
        /// The slice's name.
        name: String,
        /// The slice's uid.
        uid: Option<String>,
        /// Its resource version that was observed.
        resource_version: Option<String>,
    },
    /// Sets or removes the label that keeps the Endpoints object from being mirrored.
    SkipMirrorLabel {
        /// Whether the label is to be there.
        on: bool,
    },
    /// Clears the selector and saves it, in one patch.
    ClearSelector {
        /// The Service's resource version that was observed.
        resource_version: String,
        /// What to save.
        saved: Original,
    },
    /// Writes the selector back.
    RestoreSelector {
        /// The Service's resource version that was observed.
        resource_version: String,
        /// The selector.
        selector: BTreeMap<String, String>,
    },
    /// Removes annotations that are no longer needed.
    DropAnnotation {
        /// The Service's resource version that was observed.
        resource_version: String,
        /// Whether the saved selector goes, and with it every trace of ours.
        original: bool,
        /// The claims that stay; `None` if the annotation isn't touched.
        intercepts: Option<Vec<Intercept>>,
    },
    /// Waits for the cluster's own slices to lead to a ready pod.
    WaitForControllerSlices,
    /// Nothing is left to do.
    Done,
}

impl Step {
    /// Returns the point that is reached once the step is done; `None` where it changes nothing.
    pub(super) fn point(&self) -> Option<Point> {
        match self {
            Self::CreateSlice(_) => Some(Point::SliceCreated),
            Self::UpdateSlice(_) | Self::UnmarkSlice(_) => Some(Point::SliceUpdated),
            Self::DeleteSlice { .. } => Some(Point::SliceDeleted),
            Self::SkipMirrorLabel { on: true } => Some(Point::MirroringStopped),
            Self::SkipMirrorLabel { on: false } => Some(Point::MirroringAllowed),
            Self::ClearSelector { .. } => Some(Point::SelectorCleared),
            Self::RestoreSelector { .. } => Some(Point::SelectorRestored),
            Self::DropAnnotation { .. } => Some(Point::AnnotationDropped),
            Self::WaitForControllerSlices | Self::Done => None,
        }
    }

    /// Returns whether the step helps a Service that is restored by who may not write its slices: the cluster's
    /// controller puts them right.
    pub(super) fn is_help(&self) -> bool {
        matches!(
            self,
            Self::RestoreSelector { .. } | Self::WaitForControllerSlices
        )
    }

    /// Names the step, for the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateSlice(_) => "create slice",
            Self::UpdateSlice(_) => "update slice",
            Self::UnmarkSlice(_) => "unmark slice",
            Self::DeleteSlice { .. } => "delete slice",
            Self::SkipMirrorLabel { on: true } => "stop mirroring",
            Self::SkipMirrorLabel { on: false } => "allow mirroring",
            Self::ClearSelector { .. } => "clear selector",
            Self::RestoreSelector { .. } => "restore selector",
            Self::DropAnnotation { .. } => "drop annotation",
            Self::WaitForControllerSlices => "wait for the controller's slices",
            Self::Done => "done",
        }
    }
}

/// Why a Service isn't redirected though that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The Service is of a kind that can't be.
    NotInterceptable(NotInterceptable),
    /// It no longer has any of the ports.
    PortsGone,
}

/// Which way the plan goes, decided by the Service and the goal.
#[derive(Debug)]
pub(super) enum Course {
    Redirect {
        saved: Original,
        routes: BTreeMap<PortRef, Route>,
    },
    Restore(Option<Refusal>),
}

/// Decides which way to go.
pub(super) fn course(observed: &Observed, service: &Service, desired: &Desired) -> Course {
    let saved = observed.selector().map(|selector| Original {
        selector,
        manager: desired.manager.clone(),
    });
    match &desired.goal {
        Goal::Restore => Course::Restore(None),
        Goal::Hold => match saved {
            Some(saved) if selector(service).is_none() => Course::Redirect {
                saved,
                routes: BTreeMap::new(),
            },
            _ => Course::Restore(None),
        },
        Goal::Redirect(routes) => {
            let mut routes = routes.clone();
            let ports = api_ports(service);
            routes.retain(|wanted, _| ports.iter().any(|port| wanted.is(port)));
            let refusal = match (interceptable(service), saved) {
                // The copy on own slices may know the selector that the annotation has lost.
                (Ok(()) | Err(NotInterceptable::NoSelector), Some(saved)) if !routes.is_empty() => {
                    return Course::Redirect { saved, routes };
                }
                (Ok(()), Some(_)) => Refusal::PortsGone,
                (Ok(()), None) => Refusal::NotInterceptable(NotInterceptable::NoSelector),
                (Err(why), _) => Refusal::NotInterceptable(why),
            };
            Course::Restore(Some(refusal))
        }
    }
}

/// Returns the steps that can be taken now, after which to observe again. They end with [`Step::Done`], or with a
/// [`Step::WaitForControllerSlices`].
pub fn plan(observed: &Observed, desired: &Desired) -> Vec<Step> {
    let Some(service) = &observed.service else {
        let ours = observed.own().chain(observed.borrowed());
        let mut steps: Vec<_> = ours.map(delete).collect();
        steps.push(Step::Done);
        return steps;
    };
    match course(observed, service, desired) {
        Course::Redirect { saved, routes } => redirect(observed, service, saved, &routes, desired),
        Course::Restore(_) => restore(observed, service, desired),
    }
}

fn redirect(
    observed: &Observed,
    service: &Service,
    saved: Original,
    routes: &BTreeMap<PortRef, Route>,
    desired: &Desired,
) -> Vec<Step> {
    let routes = observed.lasting(routes);
    let wanted = slices::wanted(service, &observed.pods, &routes, &observed.zones());
    let Changes {
        creates,
        updates,
        deletes,
    } = changes(observed, service, &saved, wanted, TheClusters::Borrowed);
    let mut steps: Vec<_> = creates.into_iter().map(create).collect();
    let is_plain = observed.endpoints == EndpointsObject::Plain;
    let stop_mirroring = is_plain.then_some(Step::SkipMirrorLabel { on: true });
    let updates = updates.into_iter().map(update);
    let is_cleared = selector(service).is_none();
    if !is_cleared {
        steps.extend(stop_mirroring.clone());
    }
    if is_cleared && is_saved(service, &saved) {
        steps.extend(drop_annotation(service, desired, false));
    } else {
        steps.push(Step::ClearSelector {
            resource_version: resource_version(service),
            saved,
        });
    }
    // Not before the selector is cleared, as the controller would undo it; nor before it is saved: an own slice may
    // hold the only copy.
    steps.extend(updates);
    if is_cleared {
        // What has been mirrored meanwhile may be all that leads to a pod until then.
        steps.extend(stop_mirroring);
    }
    steps.extend(deletes.iter().chain(observed.mirrored()).map(delete));
    steps.push(Step::Done);
    steps
}

fn restore(observed: &Observed, service: &Service, desired: &Desired) -> Vec<Step> {
    let saved = observed.original();
    if selector(service).is_none()
        && let Some(saved) = &saved
    {
        // The only copy of the selector stays until that is back.
        let the_clusters = match is_saved(service, saved) {
            true => TheClusters::GivenBack,
            false => TheClusters::Borrowed,
        };
        let (mut steps, deletes) = all_to_pods(observed, service, saved, the_clusters);
        steps.push(Step::RestoreSelector {
            resource_version: resource_version(service),
            selector: saved.selector.clone(),
        });
        steps.extend(deletes);
        steps.push(Step::Done);
        return steps;
    }

    let mut steps = Vec::new();
    let has_slices = observed.own().chain(observed.borrowed()).next().is_some();
    // Without a trace of ours the label is somebody else's.
    if observed.endpoints == EndpointsObject::SkipMirror && (saved.is_some() || has_slices) {
        steps.push(Step::SkipMirrorLabel { on: false });
    }
    if has_slices && interceptable(service).is_err() {
        // The cluster writes slices for a Service with a selector only, and for no ExternalName.
        steps.extend(observed.own().chain(observed.borrowed()).map(delete));
    } else if has_slices {
        let leads_astray = |slice: &EndpointSlice| slice.endpoints.iter().any(is_router);
        let covered = slices::cover(observed.by_slice_controller(), service, &observed.pods)
            && slices::take_over(observed.by_slice_controller(), observed.own())
            && !observed.borrowed().any(leads_astray);
        if !covered {
            if let Some(saved) = &saved {
                let (writes, deletes) =
                    all_to_pods(observed, service, saved, TheClusters::GivenBack);
                steps.extend(writes.into_iter().chain(deletes));
            }
            steps.push(Step::WaitForControllerSlices);
            return steps;
        }
        let borrowed = observed.borrowed();
        steps.extend(borrowed.map(|slice| Step::UnmarkSlice(Box::new(given_back(slice, service)))));
        steps.extend(observed.own().map(delete));
    }
    steps.extend(drop_annotation(service, desired, true));
    steps.push(Step::Done);
    steps
}

/// Returns the writes that lead all ports to the pods, and the deletes for when the selector is there: of own slices,
/// as the cluster's are its controller's again by then.
fn all_to_pods(
    observed: &Observed,
    service: &Service,
    saved: &Original,
    the_clusters: TheClusters,
) -> (Vec<Step>, Vec<Step>) {
    let wanted = slices::wanted(service, &observed.pods, &BTreeMap::new(), &observed.zones());
    let Changes {
        creates,
        updates,
        deletes,
    } = changes(observed, service, saved, wanted, the_clusters);
    let writes = creates.into_iter().map(create);
    let own = deletes.iter().filter(|slice| !is_the_clusters(slice));
    (
        writes.chain(updates.into_iter().map(update)).collect(),
        own.map(delete).collect(),
    )
}

/// Returns whether the Service's own annotation has it.
fn is_saved(service: &Service, saved: &Original) -> bool {
    original(&service.metadata).ok().flatten().as_ref() == Some(saved)
}

fn create(slice: EndpointSlice) -> Step {
    Step::CreateSlice(Box::new(slice))
}

fn update(slice: EndpointSlice) -> Step {
    Step::UpdateSlice(Box::new(slice))
}

fn delete(slice: &EndpointSlice) -> Step {
    Step::DeleteSlice {
        name: slice.metadata.name.clone().unwrap_or_default(),
        uid: slice.metadata.uid.clone(),
        resource_version: slice.metadata.resource_version.clone(),
    }
}

fn drop_annotation(service: &Service, desired: &Desired, restored: bool) -> Option<Step> {
    let has = |annotation: &str| {
        service
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|annotations| annotations.contains_key(annotation))
    };
    let original = restored && has(super::objects::ORIGINAL);
    // A list that can't be read is a person's to correct.
    let claims = intercepts(&service.metadata).unwrap_or_default();
    let stay: Vec<_> = claims
        .iter()
        .filter(|claim| !desired.forget.contains(&claim.id))
        .cloned()
        .collect();
    let intercepts = (stay.len() != claims.len()).then_some(stay);
    (original || intercepts.is_some()).then(|| Step::DropAnnotation {
        resource_version: resource_version(service),
        original,
        intercepts,
    })
}

fn resource_version(service: &Service) -> String {
    service
        .metadata
        .resource_version
        .clone()
        .unwrap_or_default()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
