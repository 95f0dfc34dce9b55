//! The least change that leads from the slices that there are to those wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::intercept::{Original, selector};
use super::objects::{
    MANAGED_BY, MANAGED_BY_LABEL, MANAGER_LABEL, MAX_ENDPOINTS, ORIGINAL, SERVICE_NAME_LABEL,
};
use super::observed::{Observed, is_borrowed, is_owned_by, is_the_clusters};
use super::slices::{Group, Wanted, has_ready, is_ready};

/// The writes that lead to the slices wanted; applied in their order they never empty a port.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Good to be made whether the selector is cleared or not.
    pub(super) creates: Vec<EndpointSlice>,
    /// For when it is cleared, as are the deletes: the cluster's own slices may be among them.
    pub(super) updates: Vec<EndpointSlice>,
    pub(super) deletes: Vec<EndpointSlice>,
}

/// What becomes of the cluster's own slices.
///
/// They stay the cluster's, whatever is written into them. Its controller remembers every slice that
/// it made, and would follow no selector again that comes back to a Service where one of them
/// belonged to somebody else by then (`StaleSlices` in `k8s.io/endpointslice/util`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TheClusters {
    /// They are rewritten and marked, as long as there is no selector.
    Borrowed,
    /// They lead to the pods, as if they had never been borrowed.
    GivenBack,
}

/// Compares the slices that there are with those wanted.
///
/// Creates and updates that hold a ready endpoint come first, and deletes are for the end: so a
/// port that has an endpoint before and after has one all the time.
///
/// Few changes count, and one counts most, as kube-proxy applies the first one at once and the next
/// ones a second later (`minSyncPeriod`). So a slice becomes another one at a stroke where no port is
/// lost by that: connections leave the pods at once, and a router that is gone.
pub(super) fn changes(
    observed: &Observed,
    service: &Service,
    original: &Original,
    wanted: Wanted,
    the_clusters: TheClusters,
) -> Changes {
    let mut changes = Changes::default();
    let mut existing: BTreeMap<Group, Vec<&EndpointSlice>> = BTreeMap::new();
    let is_cleared = the_clusters == TheClusters::Borrowed || selector(service).is_none();
    // While there is a selector the controller writes its own, but for those that it has to take back.
    let free = observed
        .by_slice_controller()
        .filter(|slice| is_cleared || is_borrowed(slice));
    for slice in observed.own().chain(free) {
        match Group::of(slice) {
            Some(group) if is_owned_by(slice, service) => {
                existing.entry(group).or_default().push(slice);
            }
            _ => changes.deletes.push(slice.clone()),
        }
    }
    let mut names: BTreeSet<String> = observed
        .slices
        .iter()
        .filter_map(|slice| slice.metadata.name.clone())
        .collect();
    // Slices of groups that are no longer wanted are spare.
    let mut spare: Vec<(Group, &EndpointSlice)> = Vec::new();
    existing.retain(|group, slices| {
        let is_wanted = wanted.contains_key(group);
        if !is_wanted {
            spare.extend(slices.iter().map(|slice| (group.clone(), *slice)));
        }
        is_wanted
    });
    let rewrite = |slice: &EndpointSlice, group: &Group, endpoints| {
        update(slice, service, original, group, endpoints, the_clusters)
    };
    let mut new = Vec::new();
    for (group, endpoints) in wanted {
        for (slice, endpoints) in distribute(existing.remove(&group).unwrap_or_default(), endpoints)
        {
            let slice = slice.or_else(|| take_spare(&mut spare, &group, &endpoints));
            match slice {
                Some(slice) if endpoints.is_empty() => changes.deletes.push(slice.clone()),
                Some(slice) => changes.updates.extend(rewrite(slice, &group, endpoints)),
                None => new.push((group.clone(), endpoints)),
            }
        }
    }
    for (slice, group, endpoints) in share_spare(&mut spare, &mut new) {
        changes.updates.extend(rewrite(slice, &group, endpoints));
    }
    for (group, endpoints) in new {
        let name = new_name(service, &group, &names);
        names.insert(name.clone());
        let created = create(service, original, &group, name, endpoints);
        changes.creates.push(created);
    }
    let left = spare.into_iter().map(|(_, slice)| slice.clone());
    changes.deletes.extend(left);
    changes.creates.sort_by_key(|slice| !has_ready(slice));
    changes.updates.sort_by_key(|slice| !has_ready(slice));
    changes
}

/// Spreads endpoints over slices: each stays where it is, new ones fill the gaps.
fn distribute(
    existing: Vec<&EndpointSlice>,
    endpoints: Vec<Endpoint>,
) -> Vec<(Option<&EndpointSlice>, Vec<Endpoint>)> {
    let mut left: BTreeMap<_, _> = endpoints
        .into_iter()
        .map(|endpoint| (key(&endpoint), endpoint))
        .collect();
    let mut slices: Vec<(Option<&EndpointSlice>, Vec<Endpoint>)> = existing
        .into_iter()
        .map(|slice| {
            let kept = slice
                .endpoints
                .iter()
                .filter_map(|endpoint| left.remove(&key(endpoint)));
            (Some(slice), kept.collect())
        })
        .collect();
    for (_, kept) in &mut slices {
        while kept.len() < MAX_ENDPOINTS
            && let Some((_, endpoint)) = left.pop_first()
        {
            kept.push(endpoint);
        }
    }
    let left: Vec<_> = left.into_values().collect();
    slices.extend(
        left.chunks(MAX_ENDPOINTS)
            .map(|chunk| (None, chunk.to_vec())),
    );
    slices
}

/// Tells endpoints apart: pods on the node's network share its address, and the router's address is
/// listed once per node.
fn key(endpoint: &Endpoint) -> (Option<String>, Option<String>, Option<String>) {
    let pod = endpoint.target_ref.as_ref().and_then(|pod| pod.uid.clone());
    let address = endpoint.addresses.first().cloned();
    (address, endpoint.node_name.clone(), pod)
}

/// Takes a spare slice that can become one of `group` at a stroke: no port is lost by that.
///
/// Of several, the slice that shares the fewest endpoints is the one that leads elsewhere now.
fn take_spare<'a>(
    spare: &mut Vec<(Group, &'a EndpointSlice)>,
    group: &Group,
    endpoints: &[Endpoint],
) -> Option<&'a EndpointSlice> {
    if !endpoints.iter().any(is_ready) {
        return None;
    }
    let (at, _) = spare
        .iter()
        .enumerate()
        .filter(|(_, (other, _))| group.replaces(other, &[]))
        .min_by_key(|(_, (_, slice))| shared(slice, endpoints))?;
    Some(spare.swap_remove(at).1)
}

/// Takes, of each family, a spare slice whose ports are shared out among several new ones: it becomes one of these
/// once the others are made. That is the one that shares the fewest endpoints with it, so that what changes changes
/// at a stroke.
fn share_spare<'a>(
    spare: &mut Vec<(Group, &'a EndpointSlice)>,
    new: &mut Vec<(Group, Vec<Endpoint>)>,
) -> Vec<(&'a EndpointSlice, Group, Vec<Endpoint>)> {
    let mut taken = Vec::new();
    let mut families = BTreeSet::new();
    spare.retain(|(other, slice)| {
        // Those that one of the family waits for must be made, and not be taken from a slice themselves.
        if families.contains(other.address_type()) {
            return true;
        }
        let serves = |(_, endpoints): &&(Group, Vec<Endpoint>)| endpoints.iter().any(is_ready);
        let beside: Vec<_> = new.iter().filter(serves).map(|(group, _)| group).collect();
        let found = new
            .iter()
            .enumerate()
            .filter(|(_, one)| serves(one) && one.0.replaces(other, &beside))
            .min_by_key(|(_, (_, endpoints))| shared(slice, endpoints))
            .map(|(at, _)| at);
        let Some(at) = found else {
            return true;
        };
        families.insert(other.address_type());
        let (group, endpoints) = new.remove(at);
        taken.push((*slice, group, endpoints));
        false
    });
    taken
}

fn shared(slice: &EndpointSlice, endpoints: &[Endpoint]) -> usize {
    let here: BTreeSet<_> = slice.endpoints.iter().map(key).collect();
    let is_here = |endpoint: &&Endpoint| here.contains(&key(endpoint));
    endpoints.iter().filter(is_here).count()
}

fn update(
    slice: &EndpointSlice,
    service: &Service,
    original: &Original,
    group: &Group,
    endpoints: Vec<Endpoint>,
    the_clusters: TheClusters,
) -> Option<EndpointSlice> {
    let mut updated = if is_the_clusters(slice) && the_clusters == TheClusters::GivenBack {
        given_back(slice, service)
    } else {
        let mut marked = slice.clone();
        mark(&mut marked.metadata, original);
        marked
    };
    let by_key = |endpoints: &[Endpoint]| -> BTreeMap<_, _> {
        endpoints
            .iter()
            .map(|endpoint| (key(endpoint), endpoint.clone()))
            .collect()
    };
    if by_key(&slice.endpoints) != by_key(&endpoints) {
        updated.endpoints = endpoints;
    }
    if Group::of(slice).as_ref() != Some(group) {
        updated.ports = Some(group.api_ports());
    }
    (updated != *slice).then_some(updated)
}

/// Returns a borrowed slice without the marks of that, as the controller would have it.
pub(super) fn given_back(slice: &EndpointSlice, service: &Service) -> EndpointSlice {
    let mut slice = slice.clone();
    if let Some(annotations) = &mut slice.metadata.annotations
        && annotations.remove(ORIGINAL).is_some()
        && annotations.is_empty()
    {
        slice.metadata.annotations = None;
    }
    // The controller copies the Service's labels.
    let copied = service.metadata.labels.as_ref();
    let copied = copied.and_then(|labels| labels.get(MANAGER_LABEL));
    let labels = slice.metadata.labels.get_or_insert_default();
    match copied {
        Some(value) => labels.insert(MANAGER_LABEL.to_owned(), value.clone()),
        None => labels.remove(MANAGER_LABEL),
    };
    slice
}

fn create(
    service: &Service,
    original: &Original,
    group: &Group,
    name: String,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let service_name = service.metadata.name.clone().unwrap_or_default();
    let mut metadata = ObjectMeta {
        name: Some(name),
        namespace: service.metadata.namespace.clone(),
        // Not blocking the owner's deletion: that would take one more right.
        owner_references: Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Service".to_owned(),
            name: service_name.clone(),
            uid: service.metadata.uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        }]),
        ..ObjectMeta::default()
    };
    metadata.labels = Some(BTreeMap::from([
        (SERVICE_NAME_LABEL.to_owned(), service_name),
        (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
    ]));
    mark(&mut metadata, original);
    EndpointSlice {
        metadata,
        address_type: group.address_type().to_owned(),
        endpoints,
        ports: Some(group.api_ports()),
    }
}

/// Marks a slice as one that a manager wrote, with the copy of the selector.
fn mark(metadata: &mut ObjectMeta, original: &Original) {
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(MANAGER_LABEL.to_owned(), original.manager.clone());
    // Strings in a map: this can't fail, and a slice without the copy is as good while the
    // Service has its annotation.
    if let Ok(text) = serde_json::to_string(original) {
        metadata
            .annotations
            .get_or_insert_default()
            .insert(ORIGINAL.to_owned(), text);
    }
}

/// Finds a name that no slice of the Service has. Slices of other Services differ by the hash,
/// which knows the Service's uid.
fn new_name(service: &Service, group: &Group, taken: &BTreeSet<String>) -> String {
    let ObjectMeta { name, uid, .. } = &service.metadata;
    let name = name.as_deref().unwrap_or_default();
    let mut attempt = 0_u32;
    loop {
        let mut hasher = DefaultHasher::new();
        (name, uid, group, attempt).hash(&mut hasher);
        let candidate = format!("{name}-kdev-{:08x}", hasher.finish() & 0xffff_ffff);
        if !taken.contains(&candidate) {
            return candidate;
        }
        attempt += 1;
    }
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
