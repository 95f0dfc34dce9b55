//! Scaling to zero and back.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::api::{ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Kind, REPLACED, REPLICAS, ReplaceError, Workload};
use crate::client::{ApiFailure, call};
use crate::redirect::objects::{FIELD_MANAGER, MANAGER_LABEL};
use crate::scope::{Found, Scope, seen};

/// How often to try when others change a workload at the same time.
const ATTEMPTS: u32 = 8;
/// Between two looks at a workload.
const LOOK: Duration = Duration::from_millis(250);

/// Scales a workload to zero for the time of an intercept, and marks it.
///
/// # Errors
///
/// When another intercept has, the user may not, or the API server fails.
pub async fn scale_down(
    client: &Client,
    workload: &Workload,
    id: &str,
    manager: &str,
) -> Result<(), ReplaceError> {
    edit(client, workload, "scale to zero", |now| {
        match now.label(REPLACED) {
            Some(other) if other == id => Ok(None),
            Some(_) => Err(ReplaceError::Taken {
                workload: now.to_string(),
            }),
            None => Ok(Some(json!({
                "metadata": {
                    "labels": { REPLACED: id, MANAGER_LABEL: manager },
                    "annotations": { REPLICAS: now.replicas().to_string() },
                },
                "spec": { "replicas": 0 },
            }))),
        }
    })
    .await
}

/// Gives the workloads in a namespace their replicas back that an intercept has scaled to zero; returns them.
///
/// # Errors
///
/// The first of all that went wrong, after all were tried.
pub async fn restore(
    client: &Client,
    namespace: &str,
    id: &str,
) -> Result<Vec<Workload>, ReplaceError> {
    restore_all(client, scaled_for(client, namespace, id).await?).await
}

/// Finds the workloads in a namespace that an intercept has scaled to zero, whatever became of them.
///
/// # Errors
///
/// When the API server doesn't say.
pub async fn scaled_for(
    client: &Client,
    namespace: &str,
    id: &str,
) -> Result<Vec<Workload>, ReplaceError> {
    let scaled = marked(client, Some(namespace), &format!("{REPLACED}={id}")).await?;
    Ok(scaled.all()?)
}

/// The same for all in `scope`.
///
/// # Errors
///
/// See [`restore`].
pub async fn restore_by(
    client: &Client,
    scope: Scope<'_>,
) -> Result<Found<Vec<Workload>>, ReplaceError> {
    let Found { found, unseen } = scaled_by(client, scope).await?;
    let found = restore_all(client, found).await?;
    Ok(Found { found, unseen })
}

/// The same for those of the traffic manager's in a namespace whose intercept isn't among `known`, which is asked for once they are found.
///
/// # Errors
///
/// See [`restore`].
pub async fn restore_orphans(
    client: &Client,
    manager: &str,
    known: impl FnOnce() -> BTreeSet<String>,
) -> Result<Vec<Workload>, ReplaceError> {
    let mut scaled = scaled_by(client, Scope::everywhere(manager)).await?.all()?;
    let known = known();
    scaled.retain(|one| one.label(REPLACED).is_none_or(|id| !known.contains(id)));
    restore_all(client, scaled).await
}

/// Waits until a pod of each is ready, or no pod is wanted; `false` when that takes too long. Needs no right to
/// watch.
pub async fn wait_ready(client: &Client, workloads: &[Workload], deadline: Duration) -> bool {
    let all = workloads.iter().map(async |workload| {
        let api = api(client, workload);
        loop {
            let read = call(format!("read {workload}"), api.get_opt(workload.name()));
            // What can't be read now may be the next time.
            if let Ok(found) = read.await
                && found.as_ref().is_none_or(is_ready)
            {
                return;
            }
            sleep(LOOK).await;
        }
    });
    let all = futures::future::join_all(all);
    tokio::time::timeout(deadline, all).await.is_ok()
}

/// Whether what is wanted was seen by the controller, and a pod is ready if any is.
fn is_ready(object: &DynamicObject) -> bool {
    let (spec, status) = (&object.data["spec"], &object.data["status"]);
    let seen = status["observedGeneration"].as_i64() >= object.metadata.generation;
    let wanted = spec["replicas"].as_u64().unwrap_or(1);
    seen && (wanted == 0 || status["readyReplicas"].as_u64().unwrap_or(0) > 0)
}

/// Finds what is scaled to zero in `scope`.
///
/// # Errors
///
/// When the API server doesn't say.
pub async fn scaled_by(
    client: &Client,
    scope: Scope<'_>,
) -> Result<Found<Vec<Workload>>, ReplaceError> {
    marked(client, scope.namespace, &by(scope.manager)).await
}

fn by(manager: &str) -> String {
    format!("{REPLACED},{MANAGER_LABEL}={manager}")
}

async fn restore_all(
    client: &Client,
    workloads: Vec<Workload>,
) -> Result<Vec<Workload>, ReplaceError> {
    let (mut restored, mut first) = (Vec::new(), Ok(()));
    for workload in workloads {
        let id = workload.label(REPLACED).unwrap_or_default().to_owned();
        match edit(client, &workload, "scale back", |now| Ok(back(now, &id))).await {
            Ok(()) => restored.push(workload),
            Err(error) => first = first.and(Err(error)),
        }
    }
    first.map(|()| restored)
}

async fn marked(
    client: &Client,
    namespace: Option<&str>,
    labels: &str,
) -> Result<Found<Vec<Workload>>, ReplaceError> {
    let (mut workloads, mut unseen) = (Vec::new(), Vec::new());
    for kind in Kind::ALL {
        let resource = kind.resource();
        let all: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let list = ListParams::default().labels(labels);
        let listed = call(format!("list {kind}s"), all.list(&list)).await;
        let found = seen(listed.map(|list| list.items), &mut unseen)?;
        workloads.extend(found.into_iter().map(|object| Workload { kind, object }));
    }
    Ok(Found {
        found: workloads,
        unseen,
    })
}

/// What gives a workload its replicas back; `None` when it isn't marked for this intercept any more.
fn back(now: &Workload, id: &str) -> Option<Value> {
    if now.label(REPLACED) != Some(id) {
        return None;
    }
    let annotations = now.object.metadata.annotations.as_ref();
    let saved = annotations.and_then(|all| all.get(REPLICAS)?.parse::<u32>().ok());
    let mut patch = json!({
        "metadata": {
            "labels": { REPLACED: null, MANAGER_LABEL: null },
            "annotations": { REPLICAS: null },
        },
    });
    // Whoever has scaled it meanwhile has had their reasons.
    if now.replicas() == 0 {
        patch["spec"] = json!({ "replicas": saved.unwrap_or(1) });
    }
    Some(patch)
}

fn api(client: &Client, workload: &Workload) -> Api<DynamicObject> {
    Api::namespaced_with(
        client.clone(),
        workload.namespace(),
        &workload.kind.resource(),
    )
}

/// Writes what `change` makes of a workload, until nobody else was faster. One that is gone needs nothing.
async fn edit(
    client: &Client,
    workload: &Workload,
    what: &str,
    change: impl Fn(&Workload) -> Result<Option<Value>, ReplaceError>,
) -> Result<(), ReplaceError> {
    let api = api(client, workload);
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let mut attempts = 0;
    loop {
        let read = call(format!("read {workload}"), api.get_opt(workload.name()));
        let Some(object) = read.await? else {
            return Ok(());
        };
        let version = object.metadata.resource_version.clone();
        let now = Workload {
            kind: workload.kind,
            object,
        };
        let Some(mut patch) = change(&now)? else {
            return Ok(());
        };
        patch["metadata"]["resourceVersion"] = json!(version);
        let patch = Patch::Merge(&patch);
        let written = call(
            format!("{what} {workload}"),
            api.patch_metadata(workload.name(), &params, &patch),
        );
        attempts += 1;
        match written.await {
            Ok(_) => return Ok(()),
            Err(error)
                if matches!(error.failure, ApiFailure::Conflict { .. }) && attempts < ATTEMPTS => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(value: Value) -> Workload {
        Workload {
            kind: Kind::Deployment,
            object: serde_json::from_value(value).unwrap(),
        }
    }

    #[test]
    fn what_was_scaled_gets_its_replicas_back_and_loses_its_marks() {
        let marked = |replicas: u32| {
            workload(json!({
                "metadata": {
                    "name": "web", "namespace": "shop",
                    "labels": { "app": "web", REPLACED: "i1" }, "annotations": { REPLICAS: "3" },
                },
                "spec": { "replicas": replicas },
            }))
        };
        let patch = back(&marked(0), "i1").unwrap();
        assert_eq!(patch["spec"]["replicas"], 3);
        assert_eq!(patch["metadata"]["labels"][REPLACED], Value::Null);
        assert_eq!(marked(0).to_string(), "deployment shop/web");
        let scaled_by_others = back(&marked(5), "i1").unwrap();
        assert_eq!(scaled_by_others.get("spec"), None);
    }

    #[test]
    fn a_workload_is_ready_when_its_controller_has_seen_what_is_wanted() {
        let object = |generation: i64, observed: i64, wanted: u32, ready: u32| {
            let object = json!({
                "metadata": { "name": "web", "generation": generation },
                "spec": { "replicas": wanted },
                "status": { "observedGeneration": observed, "readyReplicas": ready },
            });
            is_ready(&serde_json::from_value(object).unwrap())
        };
        assert!(object(2, 2, 2, 1));
        assert!(!object(2, 1, 2, 2));
        assert!(!object(2, 2, 2, 0));
        assert!(object(2, 2, 0, 0));
    }

    #[test]
    fn what_isnt_marked_is_left_alone() {
        let plain = workload(json!({ "metadata": { "name": "web" }, "spec": { "replicas": 0 } }));
        assert_eq!(back(&plain, "i1"), None);
    }
}
