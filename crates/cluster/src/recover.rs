//! Putting everything back that intercepts have changed, without a traffic manager.

use std::fmt;
use std::time::Duration;

use kube::Client;
use thiserror::Error;

use crate::client::ApiError;
use crate::redirect::{self, RestoreError, ServiceName};
use crate::replace::{self, ReplaceError, Workload};
use crate::scope::{Found, Scope};

/// What there is, or was, to be put back.
#[derive(Debug, Default)]
pub struct Changed {
    /// Services that are redirected or claimed.
    pub services: Vec<ServiceName>,
    /// Workloads that are scaled to zero.
    pub workloads: Vec<Workload>,
}

impl Changed {
    fn of((services, workloads): (Vec<ServiceName>, Vec<Workload>)) -> Self {
        Self {
            services,
            workloads,
        }
    }

    /// Whether there is nothing.
    pub fn is_nothing(&self) -> bool {
        self.services.is_empty() && self.workloads.is_empty()
    }
}

/// `service shop/web, deployment shop/web`.
impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services = self.services.iter().map(|name| format!("service {name}"));
        let workloads = self.workloads.iter().map(ToString::to_string);
        f.write_str(&services.chain(workloads).collect::<Vec<_>>().join(", "))
    }
}

/// Why not everything is put back.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// A Service isn't.
    #[error(transparent)]
    Service(#[from] RestoreError),
    /// A workload isn't.
    #[error(transparent)]
    Workload(#[from] ReplaceError),
}

impl From<ApiError> for RecoverError {
    fn from(error: ApiError) -> Self {
        RestoreError::Api(error).into()
    }
}

/// Finds what sessions have changed in `scope`.
///
/// # Errors
///
/// When the API server doesn't say.
pub async fn changed(client: &Client, scope: Scope<'_>) -> Result<Found<Changed>, RecoverError> {
    let services = redirect::changed(client, scope).await?;
    let workloads = replace::scaled_by(client, scope).await?;
    Ok(services.and(workloads).map(Changed::of))
}

/// Puts all of that back with the rights of `client`; each Service may take as long as `deadline`.
///
/// # Errors
///
/// The first of all that went wrong, after all were tried.
pub async fn recover(
    client: &Client,
    scope: Scope<'_>,
    deadline: Duration,
) -> Result<Found<Changed>, RecoverError> {
    // Their pods are to be there when connections come back.
    let workloads = replace::restore_by(client, scope).await;
    let services = redirect::restore_all(client, scope, deadline).await;
    Ok(services?.and(workloads?).map(Changed::of))
}
