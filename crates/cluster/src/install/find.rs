//! Finding the manager's pod to connect to, or the reason why there is none.

use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};

use super::error::ManagerError;
use super::look;
use super::names::LABEL_VERSION;
use super::verdict::Verdict;

/// A manager's pod that is ready to be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerPod {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's uid: another pod of the same name is another manager.
    pub uid: String,
    /// The manager's version as its label has it; empty if it has none.
    pub version: String,
}

/// Finds the newest ready pod of the manager in a namespace.
///
/// # Errors
/// Says whether no manager is installed there, or why it isn't ready.
pub async fn find_manager(client: &Client, namespace: &str) -> Result<ManagerPod, ManagerError> {
    let pods = look::pods(client, namespace).await?;
    if let Some(pod) = choose(&pods) {
        return Ok(pod);
    }
    Err(match look::verdict(client, namespace, &pods).await? {
        None => ManagerError::NotInstalled {
            namespace: namespace.to_owned(),
        },
        Some(Verdict::Stuck(trouble)) => ManagerError::NotReady(trouble),
        Some(Verdict::Progressing { what }) => ManagerError::Starting { what },
        // It became available between the two questions.
        Some(Verdict::Available) => ManagerError::Starting {
            what: "its pod to be seen".to_owned(),
        },
    })
}

/// Adds the last words of a manager that ends soon after it starts to the reason why there is none to connect to, as far
/// as its log may be read.
pub async fn with_last_words(client: &Client, error: ManagerError) -> ManagerError {
    let ManagerError::NotReady(trouble) = error else {
        return error;
    };
    let namespace = trouble.object.namespace.clone().unwrap_or_default();
    let log = look::crash_log(client, &namespace, &trouble).await;
    ManagerError::NotReady(trouble.with_log(&log))
}

/// Chooses the newest pod that is ready and stays.
fn choose(pods: &[Pod]) -> Option<ManagerPod> {
    let newest = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod))
        .max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))?;
    Some(ManagerPod {
        name: newest.name_any(),
        namespace: newest.namespace().unwrap_or_default(),
        uid: newest.uid().unwrap_or_default(),
        version: newest
            .labels()
            .get(LABEL_VERSION)
            .cloned()
            .unwrap_or_default(),
    })
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    conditions
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, created: &str, ready: bool, going: bool) -> Pod {
        let mut pod = json!({
            "metadata": {
                "name": name, "namespace": "kdev", "uid": format!("uid-{name}"),
                "creationTimestamp": created,
                "labels": { LABEL_VERSION: "0.1.0" },
            },
            "status": { "conditions": [
                { "type": "PodScheduled", "status": "True" },
                { "type": "Ready", "status": if ready { "True" } else { "False" } },
            ]},
        });
        if going {
            pod["metadata"]["deletionTimestamp"] = json!("2025-01-01T00:00:00Z");
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn the_newest_ready_pod_that_stays_is_chosen() {
        let pods = [
            pod("old", "2025-01-01T00:00:01Z", true, false),
            pod("new", "2025-01-01T00:00:02Z", true, false),
            pod("starting", "2025-01-01T00:00:03Z", false, false),
            pod("going", "2025-01-01T00:00:04Z", true, true),
        ];
        let chosen = choose(&pods).unwrap();
        assert_eq!(
            (chosen.name.as_str(), chosen.uid.as_str()),
            ("new", "uid-new")
        );
        assert_eq!(chosen.version, "0.1.0");
    }

    #[test]
    fn no_pod_is_chosen_when_none_is_ready() {
        assert_eq!(choose(&[]), None);
        assert_eq!(
            choose(&[pod("a", "2025-01-01T00:00:01Z", false, false)]),
            None
        );
        assert_eq!(
            choose(&[pod("a", "2025-01-01T00:00:01Z", true, true)]),
            None
        );
    }
}
