//! Installing the traffic manager, finding it, and removing it without a trace.

mod answer;
mod apply;
mod error;
mod find;
mod gone;
mod kept;
mod look;
mod manifests;
mod names;
mod options;
mod patience;
mod trouble;
mod uninstall;
mod verdict;
mod wait;

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use self::error::{InstallError, ManagerError, UninstallError};
pub use self::find::{ManagerPod, find_manager, with_last_words};
pub use self::names::{
    DEFAULT_NAMESPACE, DIRECT_PORT, FIELD_MANAGER, GRPC_PORT, HEALTH_PORT, LABEL_INSTANCE,
    LABEL_MANAGED_BY, LABEL_NAME, LABEL_VERSION, MANAGER, ObjectRef, cluster_role_name,
    own_selector, pod_selector, version_label,
};
pub use self::options::{
    Answer, Change, Direct, InstallOptions, ObjectChange, Outcome, Progress, ProgressSink,
    PullPolicy, RouterLimits,
};
pub use self::trouble::{Reason, Trouble};
pub use self::uninstall::{NamespaceFate, REMOVAL_TIMEOUT, Removed, uninstall};
pub use self::verdict::{Scene, Verdict, judge};

use self::apply::{Applied, managed_by};
use crate::access::{self, Namespaces};
use crate::client::call;

/// The annotation of the pod template that starts a stuck manager anew.
const RESTARTED: &str = "kdev.dev/restarted-after";

/// Installs the manager or brings it to the wanted form, and waits until it is available. What the
/// options don't say stays as an earlier installation has it.
///
/// Twice in a row changes nothing, except that a manager that is stuck is started anew: what kept
/// it may be gone, while Kubernetes would try again only minutes later. Nothing is changed if a
/// right is missing or an object belongs to another tool. The objects of the cluster come first:
/// they need the most rights.
pub async fn install(
    client: &Client,
    options: &InstallOptions,
    progress: ProgressSink<'_>,
) -> Result<Outcome, InstallError> {
    let places = Namespaces {
        manager: &options.namespace,
        target: &options.namespace,
    };
    let missing = access::missing(client, access::INSTALL, places).await?;
    if !missing.is_empty() {
        return Err(InstallError::MissingRights(missing));
    }
    let options = &kept::complete(client, options).await?;
    let cluster_roles: Api<ClusterRole> = Api::all(client.clone());
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &options.namespace);
    let roles: Api<Role> = Api::namespaced(client.clone(), &options.namespace);
    let own_bindings: Api<RoleBinding> = Api::namespaced(client.clone(), &options.namespace);
    let services: Api<Service> = Api::namespaced(client.clone(), &options.namespace);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &options.namespace);

    let role = Planned::read(&cluster_roles, manifests::cluster_role(options)).await?;
    let binding = Planned::read(&bindings, manifests::cluster_role_binding(options)).await?;
    let account = Planned::read(&accounts, manifests::service_account(options)).await?;
    let own_role = Planned::read(&roles, manifests::role(options)).await?;
    let own_binding = Planned::read(&own_bindings, manifests::role_binding(options)).await?;
    let service = Planned::read(&services, manifests::service(options)).await?;
    let deployment = Planned::read(&deployments, manifests::deployment(options)).await?;

    let mut installation = Installation {
        client,
        options,
        progress,
        objects: Vec::new(),
    };
    installation.apply(role).await?;
    installation.apply(binding).await?;
    installation.ensure_namespace().await?;
    installation.apply(account).await?;
    installation.apply(own_role).await?;
    installation.apply(own_binding).await?;
    installation.apply(service).await?;
    let applied = installation.apply(deployment).await?;
    let deployment = installation.restart_if_stuck(&deployments, applied).await?;
    let Installation {
        objects, progress, ..
    } = installation;

    wait::until_available(client, &deployment, options.timeout, progress).await?;
    let answer = answer::ask(client, &options.namespace).await;
    let changed = objects
        .iter()
        .any(|object| object.change != Change::Unchanged);
    Ok(Outcome {
        changed,
        objects,
        answer,
    })
}

/// An object as it is and as it shall be.
struct Planned<'a, K> {
    api: &'a Api<K>,
    manifest: Value,
    before: Option<ObjectMeta>,
}

impl<'a, K> Planned<'a, K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    async fn read(api: &'a Api<K>, manifest: Value) -> Result<Self, InstallError> {
        let before = apply::read(api, &manifest).await?;
        Ok(Self {
            api,
            manifest,
            before,
        })
    }
}

struct Installation<'a> {
    client: &'a Client,
    options: &'a InstallOptions,
    progress: ProgressSink<'a>,
    objects: Vec<ObjectChange>,
}

impl Installation<'_> {
    /// Brings one object to the form of its manifest.
    async fn apply<K>(&mut self, planned: Planned<'_, K>) -> Result<K, InstallError>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let Planned {
            api,
            manifest,
            before,
        } = planned;
        let Applied { object, change } = apply::apply(api, &manifest, before.as_ref()).await?;
        (self.progress)(Progress::Applied(change.clone()));
        self.objects.push(change);
        Ok(object)
    }

    /// Makes the namespace if it isn't there; one that others made stays as it is.
    async fn ensure_namespace(&mut self) -> Result<(), InstallError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let name = self.options.namespace.as_str();
        let found = call(format!("read Namespace {name}"), namespaces.get_opt(name)).await?;
        let before = match found {
            Some(found) if found.metadata.deletion_timestamp.is_some() => {
                self.until_gone(&namespaces, &found).await?;
                None
            }
            Some(found) if managed_by(&found.metadata).as_deref() != Some(FIELD_MANAGER) => {
                return Ok(());
            }
            found => found.map(|found| found.metadata),
        };
        let manifest = manifests::namespace(self.options);
        self.apply(Planned {
            api: &namespaces,
            manifest,
            before,
        })
        .await?;
        Ok(())
    }

    /// Rolls an unchanged Deployment out once more if it can't start as it is.
    async fn restart_if_stuck(
        &mut self,
        deployments: &Api<Deployment>,
        applied: Deployment,
    ) -> Result<Deployment, InstallError> {
        let Some(last) = self.objects.last_mut() else {
            return Ok(applied);
        };
        if last.change != Change::Unchanged {
            return Ok(applied);
        }
        let pods = look::pods(self.client, &self.options.namespace).await?;
        let verdict = look::verdict(self.client, &self.options.namespace, &pods).await?;
        let Some(Verdict::Stuck(trouble)) = verdict else {
            return Ok(applied);
        };
        if trouble.reason.grace().is_none() {
            return Ok(applied);
        }
        let (object, why) = (last.object.clone(), trouble.message);
        (self.progress)(Progress::Restarting { object, why });
        let annotation = json!({ RESTARTED: applied.metadata.resource_version });
        let patch =
            json!({ "spec": { "template": { "metadata": { "annotations": annotation } } } });
        let restarted = call(
            format!("restart {}", last.object),
            deployments.patch(MANAGER, &PatchParams::default(), &Patch::Merge(patch)),
        )
        .await?;
        last.change = Change::Updated;
        Ok(restarted)
    }

    /// Waits until a namespace that is being deleted is gone.
    async fn until_gone(
        &mut self,
        namespaces: &Api<Namespace>,
        old: &Namespace,
    ) -> Result<(), InstallError> {
        let name = old.name_any();
        (self.progress)(Progress::Waiting {
            what: format!("the old namespace {name} to end"),
        });
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let left = gone::until_gone(namespaces.clone(), config, self.options.timeout, |_| {});
        match left.await? {
            None => Ok(()),
            Some(namespace) => Err(InstallError::NamespaceTerminating {
                namespace,
                seconds: self.options.timeout.as_secs(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portforward;

    /// Never called: that it compiles is the test.
    #[expect(dead_code, reason = "only its types matter")]
    fn everything_here_may_run_in_a_task(client: &Client, options: &InstallOptions) {
        fn may_run_in_a_task<T: Send>(_: T) {}
        let mut sink = |_: Progress| {};
        may_run_in_a_task(install(client, options, &mut sink));
        let restored = async { Ok::<(), std::io::Error>(()) };
        may_run_in_a_task(uninstall(client, "kdev", restored, &mut sink));
        may_run_in_a_task(find_manager(client, "kdev"));
        may_run_in_a_task(portforward::open(client, "kdev", "pod", GRPC_PORT));
        may_run_in_a_task(crate::client::connect(&crate::client::KubeTarget::default()));
    }
}
