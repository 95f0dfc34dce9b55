//! The least change that leads from own slices to those wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::intercept::Original;
use super::objects::{
    MANAGED_BY, MANAGED_BY_LABEL, MANAGER_LABEL, MAX_ENDPOINTS, ORIGINAL, SERVICE_NAME_LABEL,
};
use super::observed::{Observed, is_owned_by};
use super::slices::{Group, Wanted, has_ready, is_ready};

/// The writes that lead to the slices wanted; applied in their order they never empty a port.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) creates: Vec<EndpointSlice>,
    pub(super) updates: Vec<EndpointSlice>,
    pub(super) deletes: Vec<EndpointSlice>,
}

/// Compares own slices with those wanted.
///
/// Creates and updates that hold a ready endpoint come first, and deletes are for the end: so a
/// port that has an endpoint before and after has one all the time.
pub(super) fn changes(
    observed: &Observed,
    service: &Service,
    original: &Original,
    wanted: Wanted,
) -> Changes {
    let mut changes = Changes::default();
    let mut existing: BTreeMap<Group, Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in observed.own() {
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
    for (group, endpoints) in wanted {
        for (slice, endpoints) in distribute(existing.remove(&group).unwrap_or_default(), endpoints)
        {
            let slice = slice.or_else(|| take_spare(&mut spare, &group, &endpoints));
            match slice {
                Some(slice) if endpoints.is_empty() => changes.deletes.push(slice.clone()),
                Some(slice) => {
                    let updated = update(slice, original, &group, endpoints);
                    changes.updates.extend(updated);
                }
                None => {
                    let name = new_name(service, &group, &names);
                    names.insert(name.clone());
                    let created = create(service, original, &group, name, endpoints);
                    changes.creates.push(created);
                }
            }
        }
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
/// One update instead of a create and a delete counts, as kube-proxy applies the first change at
/// once and the next ones a second later (`minSyncPeriod`): so connections leave a router that is
/// gone at once. Of several, the slice that shares the fewest endpoints is the one that leads
/// elsewhere now.
fn take_spare<'a>(
    spare: &mut Vec<(Group, &'a EndpointSlice)>,
    group: &Group,
    endpoints: &[Endpoint],
) -> Option<&'a EndpointSlice> {
    let shared = |slice: &EndpointSlice| {
        let here: BTreeSet<_> = slice.endpoints.iter().map(key).collect();
        endpoints
            .iter()
            .filter(|endpoint| here.contains(&key(endpoint)))
            .count()
    };
    if !endpoints.iter().any(is_ready) {
        return None;
    }
    let (at, _) = spare
        .iter()
        .enumerate()
        .filter(|(_, (other, _))| group.replaces(other))
        .min_by_key(|(_, (_, slice))| shared(slice))?;
    Some(spare.swap_remove(at).1)
}

fn update(
    slice: &EndpointSlice,
    original: &Original,
    group: &Group,
    endpoints: Vec<Endpoint>,
) -> Option<EndpointSlice> {
    let mut updated = slice.clone();
    let name = slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SERVICE_NAME_LABEL));
    mark(
        &mut updated.metadata,
        name.map_or("", String::as_str),
        original,
    );
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
    mark(&mut metadata, &service_name, original);
    EndpointSlice {
        metadata,
        address_type: group.address_type().to_owned(),
        endpoints,
        ports: Some(group.api_ports()),
    }
}

fn mark(metadata: &mut ObjectMeta, service: &str, original: &Original) {
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(SERVICE_NAME_LABEL.to_owned(), service.to_owned());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
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
