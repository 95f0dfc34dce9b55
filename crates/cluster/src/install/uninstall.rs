//! Removing the manager and everything that was installed with it.

use std::error::Error as StdError;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolumeClaim, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{DeleteParams, ListParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::apply::managed_by;
use super::error::UninstallError;
use super::gone::until_gone;
use super::names::{FIELD_MANAGER, MANAGER, ObjectRef, own_selector};
use super::options::{Progress, ProgressSink};
use crate::access::{self, Namespaces};
use crate::client::{ApiError, call};

/// How long the pods, and then the namespace, may take to go.
pub const REMOVAL_TIMEOUT: Duration = Duration::from_secs(90);

/// What became of the manager's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceFate {
    /// It wasn't there.
    Absent,
    /// It was removed.
    Removed,
    /// It was kept, since kdev didn't make it.
    NotOurs,
    /// It was kept, since others use it.
    InUse {
        /// Some of what is in it.
        by: Vec<ObjectRef>,
    },
}

/// What a removal removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The objects, in the order of their removal; pods and ReplicaSets go with their Deployment.
    pub objects: Vec<ObjectRef>,
    /// What became of the namespace.
    pub namespace: NamespaceFate,
}

impl Removed {
    /// Returns whether there was nothing to remove.
    pub fn is_nothing(&self) -> bool {
        self.objects.is_empty() && self.namespace != NamespaceFate::Removed
    }
}

/// Removes what kdev installed in `namespace`, as far as it is there, and waits until it is gone.
///
/// `restore` runs first, also when no manager is left: it puts the intercepted Services back, and
/// nothing is removed if it fails. The manager keeps its rights until its pods are gone, so that
/// it can clean up as it ends.
pub async fn uninstall<F, E>(
    client: &Client,
    namespace: &str,
    restore: F,
    progress: ProgressSink<'_>,
) -> Result<Removed, UninstallError>
where
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    let places = Namespaces {
        manager: namespace,
        target: namespace,
    };
    let missing = access::missing(client, access::UNINSTALL, places).await?;
    if !missing.is_empty() {
        return Err(UninstallError::MissingRights(missing));
    }
    refuse_foreign(client, namespace).await?;
    restore
        .await
        .map_err(|error| UninstallError::Restore(error.into()))?;

    let mut removal = Removal {
        client,
        namespace,
        own: ListParams::default().labels(&own_selector(namespace)),
        progress,
        objects: Vec::new(),
    };
    removal.remove::<Deployment>(removal.namespaced()).await?;
    // A ReplicaSet goes with its Deployment, unless somebody removed that with --cascade=orphan.
    removal.remove_orphans().await?;
    removal.until_pods_are_gone().await?;
    removal.remove::<Service>(removal.namespaced()).await?;
    // Sessions that end now remove theirs themselves; those that are gone can't.
    removal.remove::<Lease>(removal.namespaced()).await?;
    removal.remove::<RoleBinding>(removal.namespaced()).await?;
    removal.remove::<Role>(removal.namespaced()).await?;
    removal
        .remove::<ServiceAccount>(removal.namespaced())
        .await?;
    removal.remove::<ConfigMap>(removal.namespaced()).await?;
    removal
        .remove::<ClusterRoleBinding>(Api::all(client.clone()))
        .await?;
    removal
        .remove::<ClusterRole>(Api::all(client.clone()))
        .await?;
    let fate = removal.remove_namespace().await?;
    Ok(Removed {
        objects: removal.objects,
        namespace: fate,
    })
}

/// Fails if the manager in the namespace was installed with another tool.
async fn refuse_foreign(client: &Client, namespace: &str) -> Result<(), UninstallError> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let object = ObjectRef::new("Deployment", Some(namespace), MANAGER);
    let found = call(format!("read {object}"), deployments.get_opt(MANAGER)).await?;
    match found.map(|deployment| managed_by(&deployment.metadata)) {
        Some(managed_by) if managed_by.as_deref() != Some(FIELD_MANAGER) => {
            Err(UninstallError::Foreign { object, managed_by })
        }
        _ => Ok(()),
    }
}

struct Removal<'a> {
    client: &'a Client,
    namespace: &'a str,
    own: ListParams,
    progress: ProgressSink<'a>,
    objects: Vec<ObjectRef>,
}

impl Removal<'_> {
    fn namespaced<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// Removes the objects of one kind that carry our labels.
    async fn remove<K>(&mut self, api: Api<K>) -> Result<(), ApiError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let kind = K::kind(&());
        let found = call(format!("list {kind} objects"), api.list_metadata(&self.own)).await?;
        for object in found {
            let object = ObjectRef::new(
                kind.clone(),
                object.namespace().as_deref(),
                object.name_any(),
            );
            (self.progress)(Progress::Removing(object.clone()));
            if delete(&api, &object).await? {
                self.objects.push(object);
            }
        }
        Ok(())
    }

    async fn remove_orphans(&mut self) -> Result<(), ApiError> {
        let api: Api<ReplicaSet> = self.namespaced();
        for replica_set in call("list ReplicaSet objects", api.list_metadata(&self.own)).await? {
            let name = replica_set.name_any();
            delete(
                &api,
                &ObjectRef::new("ReplicaSet", Some(self.namespace), name),
            )
            .await?;
        }
        Ok(())
    }

    async fn until_pods_are_gone(&mut self) -> Result<(), UninstallError> {
        let pods: Api<Pod> = self.namespaced();
        let config = watcher::Config::default().labels(&own_selector(self.namespace));
        let progress = &mut *self.progress;
        let left = until_gone(pods, config, REMOVAL_TIMEOUT, |name| {
            progress(Progress::Waiting {
                what: format!("pod {name} to end"),
            });
        });
        match left.await? {
            None => Ok(()),
            Some(name) => Err(not_gone(ObjectRef::new("Pod", Some(self.namespace), name))),
        }
    }

    async fn remove_namespace(&mut self) -> Result<NamespaceFate, UninstallError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let object = ObjectRef::new("Namespace", None, self.namespace);
        let found = call(
            format!("read {object}"),
            namespaces.get_metadata_opt(self.namespace),
        )
        .await?;
        let Some(found) = found else {
            return Ok(NamespaceFate::Absent);
        };
        if managed_by(&found.metadata).as_deref() != Some(FIELD_MANAGER) {
            return Ok(NamespaceFate::NotOurs);
        }
        let by = self.others().await?;
        if !by.is_empty() {
            return Ok(NamespaceFate::InUse { by });
        }
        (self.progress)(Progress::Removing(object.clone()));
        delete(&namespaces, &object).await?;
        let config =
            watcher::Config::default().fields(&format!("metadata.name={}", self.namespace));
        let progress = &mut *self.progress;
        let left = until_gone(namespaces, config, REMOVAL_TIMEOUT, |name| {
            progress(Progress::Waiting {
                what: format!("namespace {name} to end"),
            });
        });
        if left.await?.is_some() {
            return Err(not_gone(object));
        }
        self.objects.push(object);
        Ok(NamespaceFate::Removed)
    }

    /// Returns what others have in the namespace: removing it would remove that too.
    async fn others(&self) -> Result<Vec<ObjectRef>, ApiError> {
        let mut others = Vec::new();
        others.extend(self.others_of::<Pod>().await?);
        others.extend(self.others_of::<Deployment>().await?);
        others.extend(self.others_of::<StatefulSet>().await?);
        others.extend(self.others_of::<Service>().await?);
        others.extend(self.others_of::<PersistentVolumeClaim>().await?);
        others.extend(self.others_of::<ConfigMap>().await?);
        Ok(others)
    }

    async fn others_of<K>(&self) -> Result<Vec<ObjectRef>, ApiError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = self.namespaced();
        let kind = K::kind(&());
        let everything = ListParams::default();
        let all = call(
            format!("list {kind} objects in namespace {}", self.namespace),
            api.list_metadata(&everything),
        );
        let others = all.await?.items.into_iter().filter(|object| {
            // Kubernetes puts that ConfigMap into every namespace.
            managed_by(&object.metadata).as_deref() != Some(FIELD_MANAGER)
                && object.name_any() != "kube-root-ca.crt"
        });
        Ok(others
            .map(|object| ObjectRef::new(kind.clone(), Some(self.namespace), object.name_any()))
            .collect())
    }
}

/// Deletes an object and what depends on it; returns whether it was there.
async fn delete<K>(api: &Api<K>, object: &ObjectRef) -> Result<bool, ApiError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let params = DeleteParams::background();
    match call(
        format!("delete {object}"),
        api.delete(&object.name, &params),
    )
    .await
    {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

fn not_gone(object: ObjectRef) -> UninstallError {
    UninstallError::NotGone {
        object,
        seconds: REMOVAL_TIMEOUT.as_secs(),
    }
}
