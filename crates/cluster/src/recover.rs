//! Putting everything back that intercepts have changed, without a traffic manager.

use std::fmt;
use std::time::Duration;

use kube::Client;
use thiserror::Error;

use crate::redirect::{self, RestoreError, ServiceName};
use crate::replace::{self, ReplaceError, Workload};

/// What there is, or was, to be put back.
#[derive(Debug, Default)]
pub struct Changed {
    /// Services that are redirected or claimed.
    pub services: Vec<ServiceName>,
    /// Workloads that are scaled to zero.
    pub workloads: Vec<Workload>,
}

impl Changed {
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

/// Finds what the sessions of the traffic manager in `manager` have changed.
///
/// # Errors
///
/// When the API server doesn't say.
pub async fn changed(client: &Client, manager: &str) -> Result<Changed, RecoverError> {
    Ok(Changed {
        services: redirect::changed(client, manager).await?,
        workloads: replace::scaled_by(client, manager).await?,
    })
}

/// Puts all of that back with the rights of `client`; each Service may take as long as `deadline`.
///
/// # Errors
///
/// The first of all that went wrong, after all were tried.
pub async fn recover(
    client: &Client,
    manager: &str,
    deadline: Duration,
) -> Result<Changed, RecoverError> {
    // Their pods are to be there when connections come back.
    let workloads = replace::restore_by(client, manager).await;
    let services = redirect::restore_all(client, manager, deadline).await;
    Ok(Changed {
        services: services?,
        workloads: workloads?,
    })
}
