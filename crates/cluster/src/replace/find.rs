//! The workloads behind a Service.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::ListParams;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::{Api, Client};

use super::{Kind, ReplaceError, Workload};
use crate::client::{ApiFailure, call};
use crate::redirect::{ServiceName, label_selector, original_selector};

/// Finds the workloads whose pods a Service selects, and makes sure that nothing is in the way of scaling
/// them to zero.
///
/// # Errors
///
/// When there are none, or pods of others, or somebody scales them.
pub async fn find(client: &Client, service: &ServiceName) -> Result<Vec<Workload>, ReplaceError> {
    let namespace = &service.namespace;
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let found = call(
        format!("read service {service}"),
        services.get_opt(&service.name),
    );
    let Some(found) = found.await? else {
        return Err(ReplaceError::ServiceNotFound {
            service: service.clone(),
        });
    };
    let none = || ReplaceError::NoWorkload {
        service: service.clone(),
    };
    let selector = original_selector(&found).ok_or_else(none)?;
    let mut workloads = Vec::new();
    for kind in Kind::ALL {
        let all: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), namespace, &kind.resource());
        let doing = format!("list {kind}s in namespace {namespace:?}");
        let all = call(doing, all.list(&ListParams::default())).await?;
        workloads.extend(
            all.into_iter()
                .filter(|object| {
                    selects(&selector, object) && controller(&object.metadata).is_none()
                })
                .map(|object| Workload { kind, object }),
        );
    }
    let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), namespace);
    let behind = ListParams::default().labels(&label_selector(&selector));
    let doing = format!("list the pods of service {service}");
    for pod in call(doing, pods.list_metadata(&behind)).await? {
        if let Some(owner) = not_scalable(&pod.metadata) {
            return Err(ReplaceError::NotScalable {
                service: service.clone(),
                pod: pod.metadata.name.unwrap_or_default(),
                owner,
            });
        }
    }
    if workloads.is_empty() {
        return Err(none());
    }
    let scalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), namespace);
    let doing = format!("list the autoscalers in namespace {namespace:?}");
    let scalers = match call(doing, scalers.list(&ListParams::default())).await {
        Ok(scalers) => scalers.items,
        // Not everybody may, and most have none.
        Err(error) if matches!(error.failure, ApiFailure::Forbidden(_)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    match workloads
        .iter()
        .find_map(|workload| Some((workload, scaler(&scalers, workload)?)))
    {
        Some((workload, scaler)) => Err(ReplaceError::Autoscaled {
            workload: workload.to_string(),
            namespace: namespace.clone(),
            scaler,
        }),
        None => Ok(workloads),
    }
}

/// Whether a selector selects the pods that a workload makes.
fn selects(selector: &BTreeMap<String, String>, object: &DynamicObject) -> bool {
    let labels = &object.data["spec"]["template"]["metadata"]["labels"];
    selector
        .iter()
        .all(|(name, value)| labels[name.as_str()].as_str() == Some(value))
}

fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    let mut owners = metadata.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true))
}

/// The kind of what owns a pod, where that has no number of replicas.
fn not_scalable(pod: &ObjectMeta) -> Option<String> {
    match controller(pod) {
        None => Some("nobody".to_owned()),
        Some(owner) if matches!(owner.kind.as_str(), "ReplicaSet" | "StatefulSet") => None,
        Some(owner) => Some(format!("{} {}", owner.kind.to_lowercase(), owner.name)),
    }
}

/// What would start a workload again. An autoscaler of Kubernetes' own rests while there are no replicas; one
/// that KEDA drives doesn't, as KEDA scales from zero itself.
fn scaler(scalers: &[HorizontalPodAutoscaler], workload: &Workload) -> Option<String> {
    scalers.iter().find_map(|one| {
        let target = &one.spec.as_ref()?.scale_target_ref;
        let is_it = target.kind.eq_ignore_ascii_case(&workload.kind.to_string())
            && target.name == workload.name();
        let owner = controller(&one.metadata)?;
        (is_it && owner.kind == "ScaledObject").then(|| format!("scaledobject/{}", owner.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_workload_is_behind_a_service_that_selects_its_pods() {
        let deployment = object(json!({
            "metadata": { "name": "web" },
            "spec": { "template": { "metadata": { "labels": { "app": "web", "tier": "front" } } } },
        }));
        let selector = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()));
            pairs.collect::<BTreeMap<String, String>>()
        };
        assert!(selects(&selector(&[("app", "web")]), &deployment));
        assert!(!selects(&selector(&[("app", "api")]), &deployment));
        assert!(!selects(
            &selector(&[("app", "web"), ("x", "y")]),
            &deployment
        ));
    }

    #[test]
    fn pods_without_replicas_are_told_with_their_owner() {
        let pod = |owner: Option<&str>| {
            let owners: Vec<Value> = owner
                .map(|kind| {
                    json!({ "apiVersion": "v1", "kind": kind, "name": "x", "uid": "1", "controller": true })
                })
                .into_iter()
                .collect();
            let metadata = json!({ "name": "p", "ownerReferences": owners });
            not_scalable(&serde_json::from_value(metadata).unwrap())
        };
        assert_eq!(pod(Some("ReplicaSet")), None);
        assert_eq!(pod(Some("StatefulSet")), None);
        assert_eq!(pod(Some("DaemonSet")).unwrap(), "daemonset x");
        assert_eq!(pod(None).unwrap(), "nobody");
    }

    #[test]
    fn only_an_autoscaler_that_starts_from_zero_is_in_the_way() {
        let workload = Workload {
            kind: Kind::Deployment,
            object: object(json!({ "metadata": { "name": "web" } })),
        };
        let scaler_of = |owner: Value| {
            let one: HorizontalPodAutoscaler = serde_json::from_value(json!({
                "metadata": { "name": "web", "ownerReferences": owner },
                "spec": { "maxReplicas": 3, "scaleTargetRef": { "kind": "Deployment", "name": "web" } },
            }))
            .unwrap();
            scaler(&[one], &workload)
        };
        assert_eq!(scaler_of(json!([])), None);
        let keda = json!([{
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "so", "uid": "1",
            "controller": true,
        }]);
        assert_eq!(scaler_of(keda).unwrap(), "scaledobject/so");
    }
}
