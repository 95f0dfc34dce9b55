//! The pods behind a Service's port, whether it is redirected or not.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kube::Client;

use super::api::{ServiceApi, ServiceName};
use super::port::{PortRef, api_ports};
use super::slices;
use crate::client::ApiError;

/// Reads where connections of a Service's port go when nobody intercepts it: the addresses of ready
/// pods, with the port that each of them serves it on. Empty without any, or without the Service.
///
/// # Errors
///
/// When the API server doesn't say.
pub async fn backends(
    client: &Client,
    service: &ServiceName,
    port: &PortRef,
) -> Result<Vec<SocketAddr>, ApiError> {
    let observed = ServiceApi::new(client, service.clone())
        .observe()
        .await?
        .observed;
    let Some(found) = &observed.service else {
        return Ok(Vec::new());
    };
    // Its name may have been changed since.
    let Some(port) = api_ports(found).iter().find(|current| port.is(current)) else {
        return Ok(Vec::new());
    };
    let wanted = slices::wanted(found, &observed.pods, &BTreeMap::new(), &observed.zones());
    Ok(slices::destinations(&wanted, &PortRef::of(port)))
}
