//! Looking once at what the cluster shows of the manager.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, LogParams};
use kube::{Api, Client};

use super::names::{MANAGER, pod_selector};
use super::trouble::{Reason, Trouble};
use super::verdict::{Scene, Verdict, judge, judge_pod};
use crate::client::{ApiError, ApiFailure, call};

/// How many lines of a crashed program's log are shown.
const LOG_LINES: i64 = 10;

/// Lists the manager's pods in a namespace, whoever installed them.
pub(super) async fn pods(client: &Client, namespace: &str) -> Result<Vec<Pod>, ApiError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let own = ListParams::default().labels(&pod_selector());
    Ok(call(doing(namespace), pods.list(&own)).await?.items)
}

/// Judges the manager as it is now; `None` if there is none.
///
/// Who may only list pods learns what they tell.
pub(super) async fn verdict(
    client: &Client,
    namespace: &str,
    pods: &[Pod],
) -> Result<Option<Verdict>, ApiError> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let replica_sets: Api<ReplicaSet> = Api::namespaced(client.clone(), namespace);
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let (own, everything) = (
        ListParams::default().labels(&pod_selector()),
        ListParams::default(),
    );
    let (deployment, replica_sets, events) = tokio::join!(
        call(doing(namespace), deployments.get_opt(MANAGER)),
        call(doing(namespace), replica_sets.list(&own)),
        call(doing(namespace), events.list(&everything)),
    );
    let deployment = match deployment {
        Err(ApiError {
            failure: ApiFailure::Forbidden(_),
            ..
        }) => None,
        deployment => deployment?,
    };
    let events = events.map(|list| list.items).unwrap_or_default();
    Ok(match (&deployment, pods.first()) {
        (Some(deployment), _) => Some(judge(Scene {
            deployment,
            replica_sets: &replica_sets.map(|list| list.items).unwrap_or_default(),
            pods,
            events: &events,
        })),
        (None, Some(pod)) => Some(judge_pod(pod, &events)),
        (None, None) => None,
    })
}

fn doing(namespace: &str) -> String {
    format!("look for the traffic manager in namespace {namespace}")
}

/// Returns the end of a crashed program's log; empty if it can't be read.
pub(super) async fn crash_log(client: &Client, namespace: &str, trouble: &Trouble) -> Vec<String> {
    if trouble.reason != Reason::Crash {
        return Vec::new();
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for previous in [true, false] {
        let params = LogParams {
            previous,
            tail_lines: Some(LOG_LINES),
            ..LogParams::default()
        };
        let log = call("read the log", pods.logs(&trouble.object.name, &params)).await;
        match log {
            Ok(log) if !log.trim().is_empty() => return log.lines().map(str::to_owned).collect(),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, previous, "no log of the crashed program"),
        }
    }
    Vec::new()
}
