//! Reading what there is of a Service, and doing one step.

use std::fmt;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchParams,
};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::time::Duration;

use super::intercept::label_selector;
use super::objects::{FIELD_MANAGER, SKIP_MIRROR_LABEL, slices_of};
use super::observed::{EndpointsObject, Observed};
use super::patch;
use super::plan::Step;
use crate::client::{ApiError, call};

/// How long one watch for the controller's slices lasts at most, in seconds; the state is read
/// again after it, whatever happened.
const WATCH_SECONDS: u32 = 5;

/// How long to pause where a watch isn't allowed.
const PAUSE: Duration = Duration::from_millis(250);

/// A Service by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ServiceName {
    /// Names a Service.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The objects of one Service.
pub(super) struct ServiceApi {
    name: ServiceName,
    services: Api<Service>,
    slices: Api<EndpointSlice>,
    endpoints: Api<Endpoints>,
    pods: Api<Pod>,
}

/// A look at a Service, and the point in time from which to watch its slices.
pub(super) struct Look {
    pub(super) observed: Observed,
    slices_version: String,
}

impl ServiceApi {
    pub(super) fn new(client: &Client, name: ServiceName) -> Self {
        let namespace = &name.namespace;
        Self {
            services: Api::namespaced(client.clone(), namespace),
            slices: Api::namespaced(client.clone(), namespace),
            endpoints: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            name,
        }
    }

    /// Reads everything that the plan is made of.
    ///
    /// The pods come last, as which ones may only be known from the slices.
    pub(super) async fn observe(&self) -> Result<Look, ApiError> {
        let name = &self.name.name;
        let slices_params = ListParams::default().labels(&slices_of(name));
        let (service, slices, endpoints) = futures::try_join!(
            call(
                format!("read service {}", self.name),
                self.services.get_opt(name)
            ),
            call(
                format!("list the endpoint slices of service {}", self.name),
                self.slices.list(&slices_params)
            ),
            call(
                format!("read the endpoints of service {}", self.name),
                self.endpoints.get_metadata_opt(name)
            ),
        )?;
        let mut observed = Observed {
            service,
            slices: slices.items,
            endpoints: match endpoints {
                None => EndpointsObject::Absent,
                Some(object) => {
                    let labels = object.metadata.labels.unwrap_or_default();
                    match labels.get(SKIP_MIRROR_LABEL).map(String::as_str) {
                        Some("true") => EndpointsObject::SkipMirror,
                        _ => EndpointsObject::Plain,
                    }
                }
            },
            pods: Vec::new(),
        };
        if let Some(selector) = observed.selector() {
            let params = ListParams::default().labels(&label_selector(&selector));
            let doing = format!("list the pods of service {}", self.name);
            observed.pods = call(doing, self.pods.list(&params)).await?.items;
        }
        let slices_version = slices.metadata.resource_version.unwrap_or_default();
        Ok(Look {
            observed,
            slices_version,
        })
    }

    /// Does one step. A step that the state no longer allows fails with a conflict of some kind,
    /// see [`is_outdated`].
    pub(super) async fn apply(&self, look: &Look, step: &Step) -> Result<(), ApiError> {
        let post = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..Default::default()
        };
        match step {
            Step::CreateSlice(slice) => {
                let doing = format!("create an endpoint slice for service {}", self.name);
                call(doing, self.slices.create(&post, slice)).await?;
            }
            Step::UpdateSlice(slice) | Step::UnmarkSlice(slice) => {
                let name = slice.metadata.name.as_deref().unwrap_or_default();
                let doing = format!("update endpoint slice {}/{name}", self.name.namespace);
                call(doing, self.slices.replace(name, &post, slice)).await?;
            }
            Step::DeleteSlice {
                name,
                uid,
                resource_version,
            } => {
                let params = DeleteParams::default().preconditions(Preconditions {
                    uid: uid.clone(),
                    resource_version: resource_version.clone(),
                });
                let doing = format!("delete endpoint slice {}/{name}", self.name.namespace);
                call(doing, self.slices.delete(name, &params)).await?;
            }
            Step::SkipMirrorLabel { on } => {
                let value = if *on { json!("true") } else { Value::Null };
                let patch = json!({ "metadata": { "labels": { SKIP_MIRROR_LABEL: value } } });
                let params = patch_params();
                let patch = Patch::Merge(&patch);
                let patched = self
                    .endpoints
                    .patch_metadata(&self.name.name, &params, &patch);
                call(
                    format!("label the endpoints of service {}", self.name),
                    patched,
                )
                .await?;
            }
            Step::ClearSelector { saved, .. } => {
                self.patch_service("clear the selector", look, |service| {
                    patch::clear(service, saved)
                })
                .await?;
            }
            Step::RestoreSelector { selector, .. } => {
                self.patch_service("restore the selector", look, |service| {
                    patch::restore(service, &json!(selector))
                })
                .await?;
            }
            Step::DropAnnotation {
                original,
                intercepts,
                ..
            } => {
                self.patch_service("remove the annotations", look, |service| {
                    patch::drop_annotation(service, *original, intercepts.as_deref())
                })
                .await?;
            }
            Step::WaitForControllerSlices => self.slices_change(&look.slices_version).await,
            Step::Done => {}
        }
        Ok(())
    }

    async fn patch_service(
        &self,
        what: &str,
        look: &Look,
        patch: impl FnOnce(&Service) -> Vec<Value>,
    ) -> Result<(), ApiError> {
        let Some(service) = &look.observed.service else {
            return Ok(());
        };
        let doing = format!("{what} of service {}", self.name);
        patch_service(&self.services, doing, &self.name.name, patch(service)).await
    }

    /// Waits until one of the Service's slices changes.
    async fn slices_change(&self, from: &str) {
        let params = WatchParams::default()
            .labels(&slices_of(&self.name.name))
            .timeout(WATCH_SECONDS);
        match self.slices.watch(&params, from).await {
            Ok(stream) => drop(std::pin::pin!(stream).next().await),
            Err(error) => {
                tracing::debug!(service = %self.name, %error, "can't watch the slices");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Sends a JSON patch for a Service.
pub(super) async fn patch_service(
    services: &Api<Service>,
    doing: String,
    name: &str,
    patch: Vec<Value>,
) -> Result<(), ApiError> {
    let patch = serde_json::from_value(Value::Array(patch))
        .map_err(|source| ApiError::new(&doing, kube::Error::SerdeError(source)))?;
    let patch = Patch::Json::<()>(patch);
    call(
        doing,
        services.patch_metadata(name, &patch_params(), &patch),
    )
    .await?;
    Ok(())
}

fn patch_params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}
