//! The workload of a Service that is replaced rests while its intercept works, and only then.
//!
//! Whoever scales it holds the session's turn (see [`Intercepts::turn`]): so nobody gives it its replicas back
//! between the look and the deed.

use kdev_cluster::redirect::{Intercept, ServiceName};
use kdev_cluster::replace::{self, ReplaceError, Workload};
use kube::Client;

use super::intercepts::{Held, Intercepts};

/// Scales what is behind the Service to zero; returns what was scaled. Where the intercept doesn't work now, nothing
/// is: that follows once it does.
///
/// # Errors
///
/// What can't be scaled.
pub async fn scale_down(
    client: &Client,
    intercepts: &Intercepts,
    name: &ServiceName,
    intercept: &Intercept,
) -> Result<Vec<Workload>, ReplaceError> {
    let id = &intercept.id;
    let _turn = intercepts.turn().await;
    intercepts.handle_scaled_back(id);
    if !intercepts.is(id, Held::works) {
        return Ok(Vec::new());
    }
    let found = replace::find(client, name).await?;
    for workload in &found {
        replace::scale_down(client, workload, id, &intercept.manager).await?;
    }
    if !intercepts.is(id, Held::works) {
        // Lost meanwhile: the pods are to answer.
        replace::restore(client, &name.namespace, id).await?;
        return Ok(Vec::new());
    }
    intercepts.handle_scaled_down(id);
    Ok(found)
}

/// Gives it its replicas back while nobody looks after the Service.
///
/// # Errors
///
/// What can't be scaled.
pub async fn scale_back(
    client: &Client,
    intercepts: &Intercepts,
    name: &ServiceName,
    id: &str,
) -> Result<(), ReplaceError> {
    let _turn = intercepts.turn().await;
    intercepts.handle_unattended_workload(id);
    replace::restore(client, &name.namespace, id).await?;
    Ok(())
}
