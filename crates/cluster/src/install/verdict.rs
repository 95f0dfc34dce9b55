//! How an installation fares, judged from what the cluster shows. Pure.
//!
//! The facts that matter are spread: an image that can't be pulled shows in the pod, a quota in the
//! ReplicaSet, the words for it sometimes only in an Event.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::names::ObjectRef;
use super::trouble::{Reason, Trouble, creation_reason};

const REVISION: &str = "deployment.kubernetes.io/revision";

/// What the cluster shows of an installation.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The manager's Deployment.
    pub deployment: &'a Deployment,
    /// The ReplicaSets in its namespace; others than its own are passed over.
    pub replica_sets: &'a [ReplicaSet],
    /// The pods in its namespace; others than its own are passed over.
    pub pods: &'a [Pod],
    /// The Events in its namespace; empty if they may not be read.
    pub events: &'a [Event],
}

/// How an installation fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every wanted pod of the Deployment's present form is available.
    Available,
    /// It is under way.
    Progressing {
        /// What is awaited.
        what: String,
    },
    /// It can't go on, unless the trouble passes.
    Stuck(Trouble),
}

/// Judges an installation.
pub fn judge(scene: Scene<'_>) -> Verdict {
    let deployment = scene.deployment;
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        return progressing("the Deployment controller to see the change");
    }
    let wanted = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    let updated = status.updated_replicas.unwrap_or(0);
    let is_complete = updated == wanted
        && status.replicas.unwrap_or(0) == updated
        && status.available_replicas.unwrap_or(0) >= wanted;
    if is_complete {
        return Verdict::Available;
    }
    let Some(replica_set) = current_replica_set(scene) else {
        return match condition(deployment, "Progressing", "False") {
            Some((reason, message)) if reason == "ReplicaSetCreateError" => stuck(
                creation_reason(&message),
                message,
                reference("Deployment", &deployment.metadata),
            ),
            _ => progressing("the ReplicaSet to be created"),
        };
    };
    let mut pods = scene.pods.iter().filter(|pod| {
        is_owned_by(&pod.metadata, &replica_set.metadata)
            && pod.metadata.deletion_timestamp.is_none()
    });
    // One pod is wanted; with more, the first that has something to tell speaks for all.
    let Some(first) = pods.next() else {
        return match refused_creation(scene, replica_set) {
            Some(message) => stuck(
                creation_reason(&message),
                message,
                reference("ReplicaSet", &replica_set.metadata),
            ),
            None => progressing("the pod to be created"),
        };
    };
    let verdicts = std::iter::once(first)
        .chain(pods)
        .map(|pod| judge_pod(pod, scene.events));
    let mut calm = None;
    for verdict in verdicts {
        match verdict {
            Verdict::Stuck(_) => return verdict,
            _ => calm = calm.or(Some(verdict)),
        }
    }
    calm.unwrap_or_else(|| progressing("the pod to start"))
}

/// Judges one pod of the Deployment's present form.
pub(super) fn judge_pod(pod: &Pod, events: &[Event]) -> Verdict {
    let object = reference("Pod", &pod.metadata);
    let status = pod.status.clone().unwrap_or_default();
    if status.phase.as_deref() == Some("Failed") {
        let words = [status.reason, status.message]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        return stuck(Reason::PodFailed, words.join(": "), object);
    }
    let conditions = status.conditions.unwrap_or_default();
    let unscheduled = conditions.iter().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        if latest_event(events, &pod.metadata, |event| is(event, "TriggeredScaleUp")).is_some() {
            return progressing("the cluster's autoscaler to add a node");
        }
        let message = condition.message.clone().unwrap_or_default();
        return stuck(Reason::Unschedulable, message, object);
    }
    let Some(container) = status
        .container_statuses
        .unwrap_or_default()
        .into_iter()
        .next()
    else {
        return progressing("a node to take the pod");
    };
    judge_container(&container, pod, events, object)
}

fn judge_container(
    container: &ContainerStatus,
    pod: &Pod,
    events: &[Event],
    object: ObjectRef,
) -> Verdict {
    let state = container.state.clone().unwrap_or_default();
    if let Some(waiting) = state.waiting {
        let reason = waiting.reason.unwrap_or_default();
        let message = waiting.message.unwrap_or_default();
        match reason.as_str() {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "RegistryUnavailable"
            | "ImageInspectError"
            | "SignatureValidationFailed" => {
                return stuck(
                    Reason::ImagePull,
                    pull_message(&message, pod, events),
                    object,
                );
            }
            "ErrImageNeverPull" => return stuck(Reason::ImageNeverPull, message, object),
            "InvalidImageName" => return stuck(Reason::ImageName, message, object),
            "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError"
            | "PostStartHookError" => return stuck(Reason::ContainerStart, message, object),
            "CrashLoopBackOff" => return crashed(container, object),
            _ => {}
        }
        let preparing = latest_event(events, &pod.metadata, |event| {
            is(event, "FailedCreatePodSandBox") || is(event, "FailedMount")
        });
        if let Some(event) = preparing {
            return stuck(
                Reason::Sandbox,
                event.message.clone().unwrap_or_default(),
                object,
            );
        }
        return progressing(&format!(
            "the image {} to be there and started",
            container.image
        ));
    }
    // A program that crashed isn't better for being started once more.
    if state.terminated.is_some() || (container.restart_count > 0 && !container.ready) {
        return crashed(container, object);
    }
    match latest_event(events, &pod.metadata, |event| is(event, "Unhealthy")) {
        Some(event) if !container.ready => stuck(
            Reason::NotReady,
            event.message.clone().unwrap_or_default(),
            object,
        ),
        _ => progressing("the pod to become ready"),
    }
}

fn crashed(container: &ContainerStatus, object: ObjectRef) -> Verdict {
    let terminated = container
        .state
        .as_ref()
        .and_then(|state| state.terminated.clone())
        .or_else(|| {
            container
                .last_state
                .as_ref()
                .and_then(|state| state.terminated.clone())
        });
    let Some(terminated) = terminated else {
        return stuck(Reason::Crash, "it was restarted".to_owned(), object);
    };
    let reason = terminated.reason.unwrap_or_default();
    let words = terminated.message.unwrap_or_default();
    let words = words.trim();
    if matches!(reason.as_str(), "StartError" | "ContainerCannotRun") {
        return stuck(Reason::ContainerStart, words.to_owned(), object);
    }
    let mut message = match terminated.signal {
        Some(signal) if signal > 0 => format!("ended by signal {signal}"),
        _ => format!("exit code {}", terminated.exit_code),
    };
    if !matches!(reason.as_str(), "" | "Error" | "Completed") {
        message = format!("{reason}, {message}");
    }
    if container.restart_count > 0 {
        message = format!("{message}, started {} times", container.restart_count + 1);
    }
    if !words.is_empty() {
        message = format!("{message}: {words}");
    }
    stuck(Reason::Crash, message, object)
}

/// The back-off's own message only names the image; the reason is in the pull's Event.
fn pull_message(message: &str, pod: &Pod, events: &[Event]) -> String {
    let tells_why = !message.starts_with("Back-off") || message.contains("rpc error");
    if tells_why && !message.is_empty() {
        return message.to_owned();
    }
    let pull = latest_event(events, &pod.metadata, |event| {
        let text = event.message.as_deref().unwrap_or_default();
        is(event, "Failed") && text.starts_with("Failed to pull image")
    });
    pull.and_then(|event| event.message.clone())
        .unwrap_or_else(|| message.to_owned())
}

/// Returns why the ReplicaSet's pod wasn't created, if that was refused.
///
/// The condition keeps the words of the first refusal, the Events have those of the last.
fn refused_creation(scene: Scene<'_>, replica_set: &ReplicaSet) -> Option<String> {
    let event = latest_event(scene.events, &replica_set.metadata, |event| {
        is(event, "FailedCreate")
    });
    if let Some(message) = event.and_then(|event| event.message.as_deref()) {
        let message = message
            .strip_prefix("(combined from similar events): ")
            .unwrap_or(message);
        return Some(
            message
                .strip_prefix("Error creating: ")
                .unwrap_or(message)
                .to_owned(),
        );
    }
    let conditions = replica_set
        .status
        .as_ref()?
        .conditions
        .as_deref()
        .unwrap_or_default();
    conditions
        .iter()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?
        .message
        .clone()
}

/// Returns the ReplicaSet of the Deployment's present form.
fn current_replica_set<'a>(scene: Scene<'a>) -> Option<&'a ReplicaSet> {
    let revision = annotation(&scene.deployment.metadata, REVISION)?;
    scene.replica_sets.iter().find(|replica_set| {
        is_owned_by(&replica_set.metadata, &scene.deployment.metadata)
            && annotation(&replica_set.metadata, REVISION) == Some(revision)
    })
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

fn is_owned_by(meta: &ObjectMeta, owner: &ObjectMeta) -> bool {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners
        .iter()
        .any(|reference| Some(&reference.uid) == owner.uid.as_ref())
}

fn condition(deployment: &Deployment, kind: &str, status: &str) -> Option<(String, String)> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let found = conditions
        .iter()
        .find(|c| c.type_ == kind && c.status == status)?;
    Some((
        found.reason.clone().unwrap_or_default(),
        found.message.clone().unwrap_or_default(),
    ))
}

fn is(event: &Event, reason: &str) -> bool {
    event.reason.as_deref() == Some(reason)
}

fn latest_event<'a>(
    events: &'a [Event],
    about: &ObjectMeta,
    wanted: impl Fn(&Event) -> bool,
) -> Option<&'a Event> {
    events
        .iter()
        .filter(|event| {
            event.involved_object.uid.is_some() && event.involved_object.uid == about.uid
        })
        .filter(|event| wanted(event))
        .max_by_key(|event| event_time(event))
}

fn event_time(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref());
    series
        .map(|time| time.0)
        .or(event.last_timestamp.as_ref().map(|time| time.0))
        .or(event.event_time.as_ref().map(|time| time.0))
        .or(event
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0))
}

fn reference(kind: &str, meta: &ObjectMeta) -> ObjectRef {
    ObjectRef {
        kind: kind.to_owned(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

fn progressing(what: &str) -> Verdict {
    Verdict::Progressing {
        what: what.to_owned(),
    }
}

fn stuck(reason: Reason, message: String, object: ObjectRef) -> Verdict {
    let message = if message.trim().is_empty() {
        "no reason given".to_owned()
    } else {
        message
    };
    Verdict::Stuck(Trouble {
        reason,
        message,
        object,
    })
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
