//! Looking whether a Service is as it was, and making all of them so where no manager does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use super::api::ServiceName;
use super::intercept::{intercepts, original};
use super::objects::{MANAGER_LABEL, SERVICE_NAME_LABEL, slices_by};
use super::observed::Desired;
use super::preview::{delete_preview, preview_of};
use super::reconcile::{Limits, ReconcileError, reconcile};
use crate::client::{ApiError, call};
use crate::scope::{Found, Scope, seen};

/// Between two looks, at first. A watch would be quicker, but needs rights that a user may lack.
const LOOK: Duration = Duration::from_millis(50);
/// Between two looks at what takes its time.
const LOOK_SELDOM: Duration = Duration::from_millis(500);

/// Why a Service doesn't count as restored.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// It is still redirected.
    #[error(
        "service {service} is still redirected after {seconds} s. The traffic manager restores it as soon as it can; `kubectl -n {} get service {} -o yaml` shows its state", service.namespace, service.name
    )]
    StillRedirected {
        /// The Service.
        service: ServiceName,
        /// How long was waited, in seconds.
        seconds: u64,
    },
    /// The call to the API server failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Restoring failed.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
}

/// Waits until claims have left a Service, and its selector is back if no other claim is there.
///
/// A Service that is gone counts as restored.
pub async fn wait_restored(
    client: &Client,
    service: &ServiceName,
    ids: &[&str],
    deadline: Duration,
) -> Result<(), RestoreError> {
    let services: Api<Service> = Api::namespaced(client.clone(), &service.namespace);
    let end = Instant::now() + deadline;
    let mut pause = LOOK;
    loop {
        let found = call(
            format!("read service {service}"),
            services.get_opt(&service.name),
        )
        .await?;
        if found.as_ref().is_none_or(|found| is_restored(found, ids)) {
            return Ok(());
        }
        if Instant::now() > end {
            let (service, seconds) = (service.clone(), deadline.as_secs());
            return Err(RestoreError::StillRedirected { service, seconds });
        }
        sleep(pause).await;
        pause = (pause * 5 / 4).min(LOOK_SELDOM);
    }
}

fn is_restored(service: &Service, ids: &[&str]) -> bool {
    let claims = intercepts(&service.metadata).unwrap_or_default();
    if claims.iter().any(|claim| ids.contains(&claim.id.as_str())) {
        return false;
    }
    !claims.is_empty() || original(&service.metadata).is_ok_and(|saved| saved.is_none())
}

/// Restores every Service in `scope` that the traffic manager has redirected or is asked to, with the rights of
/// `client`; returns their names.
///
/// # Errors
///
/// The first of all that went wrong, after all were tried.
pub async fn restore_all(
    client: &Client,
    scope: Scope<'_>,
    deadline: Duration,
) -> Result<Found<Vec<ServiceName>>, RestoreError> {
    let (mut restored, mut first) = (Vec::new(), Ok(()));
    let Found { found, unseen } = ours(client, scope).await?;
    for (name, claims) in found {
        let limits = Limits {
            deadline,
            ..Limits::default()
        };
        match reconcile(client, &name, &Desired::restored(claims.clone()), limits).await {
            Ok(_) => restored.push(name.clone()),
            Err(error) => first = first.and(Err(error.into())),
        }
        for id in claims {
            let deleted = delete_preview(client, &name, &id).await;
            first = first.and(deleted.map_err(RestoreError::from));
        }
    }
    first?;
    Ok(Found {
        found: restored,
        unseen,
    })
}

/// Finds the Services in `scope` that the traffic manager has redirected or is asked to.
///
/// # Errors
///
/// When the API server doesn't say.
pub async fn changed(
    client: &Client,
    scope: Scope<'_>,
) -> Result<Found<Vec<ServiceName>>, RestoreError> {
    let found = ours(client, scope).await?;
    Ok(found.map(|claims| claims.into_keys().collect()))
}

/// Finds the Services in `scope` with a trace of its manager, with the ids of the claims on them:
/// by their annotations, and by its slices where somebody has replaced the annotations.
async fn ours(
    client: &Client,
    scope: Scope<'_>,
) -> Result<Found<BTreeMap<ServiceName, Vec<String>>>, RestoreError> {
    let manager = scope.manager;
    let services: Api<Service> = scope.api(client);
    let listed = call("list services", services.list(&ListParams::default())).await;
    let listed = listed.map(|list| list.items);
    let mut unseen = Vec::new();
    let services = match scope.namespace {
        None => seen(listed, &mut unseen)?,
        // Without them there is nothing left to do in it that was asked for.
        Some(_) => listed?,
    };
    let mut found = BTreeMap::new();
    for service in services {
        let claims = intercepts(&service.metadata).unwrap_or_default();
        let saved = original(&service.metadata).ok().flatten();
        let made_here = service
            .labels()
            .get(MANAGER_LABEL)
            .is_some_and(|by| by == manager);
        let preview = preview_of(&service).filter(|_| made_here);
        let ours: BTreeSet<String> = claims
            .into_iter()
            .filter(|claim| claim.manager == manager)
            .map(|claim| claim.id)
            .chain(preview.map(str::to_owned))
            .collect();
        let ours: Vec<String> = ours.into_iter().collect();
        if !ours.is_empty() || saved.is_some_and(|saved| saved.manager == manager) {
            let namespace = service.namespace().unwrap_or_default();
            found.insert(ServiceName::new(namespace, service.name_any()), ours);
        }
    }
    let slices: Api<EndpointSlice> = scope.api(client);
    let by_manager = ListParams::default().labels(&slices_by(manager));
    let listed = call("list endpoint slices", slices.list_metadata(&by_manager)).await;
    for slice in seen(listed.map(|list| list.items), &mut unseen)? {
        if let Some(service) = slice.labels().get(SERVICE_NAME_LABEL) {
            let namespace = slice.namespace().unwrap_or_default();
            found
                .entry(ServiceName::new(namespace, service))
                .or_default();
        }
    }
    Ok(Found { found, unseen })
}
