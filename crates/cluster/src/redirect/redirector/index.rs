//! What the redirector knows: the claims on Services, own slices, and what is wished for.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Annotated, Assignment, LostReason};
use crate::redirect::intercept::{Intercept, intercepts, original};
use crate::redirect::{Desired, Goal, Route, ServiceName, Unreadable};

/// What is to become of one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Route(Route),
    Hold,
    Forget,
}

/// A claim that was to be routed and no longer can be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) service: ServiceName,
    pub(super) id: String,
    pub(super) reason: LostReason,
}

/// What kdev has written on one Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks {
    intercepts: Vec<Intercept>,
    /// The manager that cleared the selector.
    cleared_by: Option<String>,
}

impl Marks {
    /// Reads a Service's metadata. What can't be read counts as not there: the claim's owner is
    /// told that it is lost, and the Service is restored.
    pub(super) fn read(metadata: &ObjectMeta) -> Self {
        let complain = |error: &Unreadable| {
            let name = metadata.name.as_deref().unwrap_or_default();
            let namespace = metadata.namespace.as_deref().unwrap_or_default();
            tracing::warn!(namespace, name, %error, "an annotation on a service can't be read");
        };
        Self {
            intercepts: intercepts(metadata)
                .inspect_err(complain)
                .unwrap_or_default(),
            cleared_by: original(metadata)
                .inspect_err(complain)
                .unwrap_or_default()
                .map(|original| original.manager),
        }
    }

    fn is_empty(&self) -> bool {
        self.intercepts.is_empty() && self.cleared_by.is_none()
    }
}

/// The index of claims, for the manager in one namespace.
#[derive(Debug)]
pub(super) struct Index {
    manager: String,
    services: BTreeMap<ServiceName, Marks>,
    slices: BTreeMap<ServiceName, BTreeSet<String>>,
    wishes: BTreeMap<String, Wish>,
}

impl Index {
    pub(super) fn new(manager: &str) -> Self {
        Self {
            manager: manager.to_owned(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            wishes: BTreeMap::new(),
        }
    }

    /// Notes what is on a Service now; `None` if the Service is gone. Returns the claims that are
    /// lost by that.
    pub(super) fn handle_service(
        &mut self,
        service: &ServiceName,
        marks: Option<Marks>,
    ) -> Vec<Lost> {
        let reason = match marks {
            Some(_) => LostReason::ClaimRemoved,
            None => LostReason::ServiceGone,
        };
        let mut marks = marks.unwrap_or_default();
        // An id is one intercept's: a copy of it on another Service means nothing.
        marks
            .intercepts
            .retain(|claim| !self.is_elsewhere(service, &claim.id));
        let stays = |id: &str| marks.intercepts.iter().any(|claim| claim.id == id);
        let before = self.services.remove(service).unwrap_or_default();
        let mut lost = Vec::new();
        for claim in before.intercepts.iter().filter(|claim| !stays(&claim.id)) {
            if let Some(Wish::Route(_)) = self.wishes.remove(&claim.id) {
                lost.push(Lost {
                    service: service.clone(),
                    id: claim.id.clone(),
                    reason: reason.clone(),
                });
            }
        }
        if !marks.is_empty() {
            self.services.insert(service.clone(), marks);
        }
        lost
    }

    fn is_elsewhere(&self, service: &ServiceName, id: &str) -> bool {
        let mut others = self.services.iter().filter(|(name, _)| *name != service);
        others.any(|(_, marks)| marks.intercepts.iter().any(|claim| claim.id == id))
    }

    /// Notes all Services, after a new list of them.
    pub(super) fn handle_all_services(
        &mut self,
        services: BTreeMap<ServiceName, Marks>,
    ) -> Vec<Lost> {
        let gone: Vec<_> = self
            .services
            .keys()
            .filter(|name| !services.contains_key(name))
            .cloned()
            .collect();
        let mut lost = Vec::new();
        for service in gone {
            lost.extend(self.handle_service(&service, None));
        }
        for (service, marks) in services {
            lost.extend(self.handle_service(&service, Some(marks)));
        }
        lost
    }

    /// Notes that an own slice is there or gone.
    pub(super) fn handle_slice(&mut self, service: &ServiceName, slice: &str, is_there: bool) {
        let slices = self.slices.entry(service.clone()).or_default();
        if is_there {
            slices.insert(slice.to_owned());
        } else {
            slices.remove(slice);
        }
        if slices.is_empty() {
            self.slices.remove(service);
        }
    }

    /// Notes all own slices, after a new list of them.
    pub(super) fn handle_all_slices(&mut self, slices: BTreeMap<ServiceName, BTreeSet<String>>) {
        self.slices = slices;
    }

    /// Notes what is wished for a claim, and returns the Service that it is on.
    pub(super) fn handle_wish(&mut self, id: String, wish: Wish) -> Option<ServiceName> {
        let service = self
            .services
            .iter()
            .find(|(_, marks)| marks.intercepts.iter().any(|claim| claim.id == id))
            .map(|(service, _)| service.clone());
        // What is forgotten before it was seen has nothing to be undone.
        let is_over = self.wishes.get(&id) == Some(&Wish::Forget);
        if service.is_none() && wish == Wish::Forget {
            self.wishes.remove(&id);
        } else if !(is_over && wish == Wish::Hold) {
            self.wishes.insert(id, wish);
        }
        service
    }

    /// Returns every Service with something of ours.
    pub(super) fn services(&self) -> BTreeSet<ServiceName> {
        self.services
            .keys()
            .chain(self.slices.keys())
            .cloned()
            .collect()
    }

    /// Returns whether a Service is another manager's.
    pub(super) fn is_foreign(&self, service: &ServiceName) -> bool {
        let Some(marks) = self.services.get(service) else {
            return false;
        };
        let mut claims = marks.intercepts.iter();
        let has_other_claim = claims.any(|claim| claim.manager != self.manager);
        let cleared_by_other = marks
            .cleared_by
            .as_ref()
            .is_some_and(|by| *by != self.manager);
        has_other_claim || (cleared_by_other && marks.intercepts.is_empty())
    }

    /// Returns whether there is anything to do or to look after on a Service.
    pub(super) fn concerns(&self, service: &ServiceName) -> bool {
        let has_any = self.services.contains_key(service) || self.slices.contains_key(service);
        has_any && !self.is_foreign(service)
    }

    /// Returns what a Service is to be, and the claims that can't be routed because another one
    /// leads the port elsewhere.
    pub(super) fn assignment(&self, service: &ServiceName) -> (Assignment, Vec<Lost>) {
        let claims = self
            .services
            .get(service)
            .map_or(&[][..], |marks| &marks.intercepts);
        let mut routes = BTreeMap::new();
        let mut routed = BTreeMap::new();
        let mut taken: BTreeMap<_, &Route> = BTreeMap::new();
        let mut forget = BTreeSet::new();
        let mut is_held = false;
        let mut lost = Vec::new();
        for claim in claims {
            match self.wishes.get(&claim.id) {
                Some(Wish::Route(route)) => {
                    let port = (claim.port.number, claim.port.protocol);
                    // Several claims may share a port of the router, which tells their requests apart.
                    let first = taken.entry(port).or_insert_with(|| {
                        routes.insert(claim.port.clone(), route.clone());
                        route
                    });
                    if *first == route {
                        routed.insert(claim.id.clone(), claim.port.clone());
                    } else {
                        lost.push(Lost {
                            service: service.clone(),
                            id: claim.id.clone(),
                            reason: LostReason::PortTaken,
                        });
                    }
                }
                Some(Wish::Forget) => drop(forget.insert(claim.id.clone())),
                Some(Wish::Hold) | None => is_held = true,
            }
        }
        let goal = match (routes.is_empty(), is_held) {
            (false, _) => Goal::Redirect(routes),
            (true, true) => Goal::Hold,
            (true, false) => Goal::Restore,
        };
        let desired = Desired {
            manager: self.manager.clone(),
            goal,
            forget,
        };
        (Assignment { desired, routed }, lost)
    }

    /// Lists the claims that are this manager's.
    pub(super) fn annotated(&self) -> Vec<Annotated> {
        let claims = self.services.iter().flat_map(|(service, marks)| {
            marks.intercepts.iter().map(move |intercept| Annotated {
                service: service.clone(),
                intercept: intercept.clone(),
            })
        });
        claims
            .filter(|claim| claim.intercept.manager == self.manager)
            .collect()
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
