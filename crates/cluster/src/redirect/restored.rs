//! Looking whether a Service is as it was, and making all of them so where no manager does.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use super::api::ServiceName;
use super::intercept::{intercepts, original};
use super::observed::Desired;
use super::reconcile::{Limits, ReconcileError, reconcile};
use crate::client::{ApiError, call};

/// Between two looks. A watch would be quicker, but needs rights that a user may lack.
const LOOK: Duration = Duration::from_millis(50);

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

/// Waits until a claim has left a Service, and its selector is back if no other claim is there.
///
/// A Service that is gone counts as restored.
pub async fn wait_restored(
    client: &Client,
    service: &ServiceName,
    id: &str,
    deadline: Duration,
) -> Result<(), RestoreError> {
    let services: Api<Service> = Api::namespaced(client.clone(), &service.namespace);
    let end = Instant::now() + deadline;
    loop {
        let found = call(
            format!("read service {service}"),
            services.get_opt(&service.name),
        )
        .await?;
        if found.as_ref().is_none_or(|found| is_restored(found, id)) {
            return Ok(());
        }
        if Instant::now() > end {
            let (service, seconds) = (service.clone(), deadline.as_secs());
            return Err(RestoreError::StillRedirected { service, seconds });
        }
        sleep(LOOK).await;
    }
}

fn is_restored(service: &Service, id: &str) -> bool {
    let claims = intercepts(&service.metadata).unwrap_or_default();
    if claims.iter().any(|claim| claim.id == id) {
        return false;
    }
    !claims.is_empty() || original(&service.metadata).is_ok_and(|saved| saved.is_none())
}

/// Restores every Service that the traffic manager in `manager` has redirected or is asked to, with
/// the rights of `client`; returns their names.
pub async fn restore_all(
    client: &Client,
    manager: &str,
    deadline: Duration,
) -> Result<Vec<ServiceName>, RestoreError> {
    let services: Api<Service> = Api::all(client.clone());
    let all = call("list services", services.list(&ListParams::default())).await?;
    let mut restored = Vec::new();
    for service in all {
        let claims = intercepts(&service.metadata).unwrap_or_default();
        let saved = original(&service.metadata).ok().flatten();
        let ours: Vec<String> = claims
            .into_iter()
            .filter(|claim| claim.manager == manager)
            .map(|claim| claim.id)
            .collect();
        if ours.is_empty() && saved.is_none_or(|saved| saved.manager != manager) {
            continue;
        }
        let name = ServiceName::new(service.namespace().unwrap_or_default(), service.name_any());
        let limits = Limits {
            deadline,
            ..Limits::default()
        };
        reconcile(client, &name, &Desired::restored(ours), limits).await?;
        restored.push(name);
    }
    Ok(restored)
}
