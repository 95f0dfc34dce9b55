//! Why a pod doesn't start, in words for a person.

use std::fmt;
use std::time::Duration;

use super::names::ObjectRef;

/// The kinds of reason why the manager doesn't start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The image can't be pulled.
    ImagePull,
    /// The node doesn't have the image and may not pull it.
    ImageNeverPull,
    /// The image's name makes no sense.
    ImageName,
    /// The program ends soon after it starts.
    Crash,
    /// The container can't be made or started.
    ContainerStart,
    /// The node can't make the pod's network or volumes.
    Sandbox,
    /// No node takes the pod.
    Unschedulable,
    /// A ResourceQuota leaves no room.
    Quota,
    /// Pod Security doesn't let the pod in.
    PodSecurity,
    /// An admission webhook or policy doesn't let the pod in.
    Admission,
    /// The pod can't be created for another reason.
    Create,
    /// The node ended the pod.
    PodFailed,
    /// The pod runs but doesn't say that it is ready.
    NotReady,
    /// Nothing at all happened in time.
    NoProgress,
}

impl Reason {
    /// Returns how long the reason must last before it is believed; `None`: it may pass by itself,
    /// so only the time-out makes it final.
    pub fn grace(self) -> Option<Duration> {
        match self {
            Self::ImageName | Self::ImageNeverPull => Some(Duration::from_secs(2)),
            Self::Quota | Self::PodSecurity | Self::Admission | Self::Create => {
                Some(Duration::from_secs(4))
            }
            Self::ContainerStart | Self::PodFailed => Some(Duration::from_secs(5)),
            // A registry may hiccup, a node may be about to join, the API server to come back.
            Self::ImagePull | Self::Unschedulable | Self::Crash => Some(Duration::from_secs(10)),
            Self::Sandbox | Self::NotReady | Self::NoProgress => None,
        }
    }

    /// Returns the reason as one word, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ImagePull => "ImagePull",
            Self::ImageNeverPull => "ImageNeverPull",
            Self::ImageName => "ImageName",
            Self::Crash => "Crash",
            Self::ContainerStart => "ContainerStart",
            Self::Sandbox => "Sandbox",
            Self::Unschedulable => "Unschedulable",
            Self::Quota => "Quota",
            Self::PodSecurity => "PodSecurity",
            Self::Admission => "Admission",
            Self::Create => "Create",
            Self::PodFailed => "PodFailed",
            Self::NotReady => "NotReady",
            Self::NoProgress => "NoProgress",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::ImagePull => "the image can't be pulled",
            Self::ImageNeverPull => "the node doesn't have the image and may not pull it",
            Self::ImageName => "the image's name makes no sense",
            Self::Crash => "the program ends soon after it starts",
            Self::ContainerStart => "the container can't be started",
            Self::Sandbox => "the node can't prepare the pod",
            Self::Unschedulable => "no node takes the pod",
            Self::Quota => "a resource quota leaves no room for the pod",
            Self::PodSecurity => "Pod Security doesn't let the pod in",
            Self::Admission => "an admission policy doesn't let the pod in",
            Self::Create => "the pod can't be created",
            Self::PodFailed => "the node ended the pod",
            Self::NotReady => "the pod runs but isn't ready",
            Self::NoProgress => "the cluster did nothing in time",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::ImagePull => {
                "Check the image's name and tag, that the nodes reach the registry, and the pull secret if it is private"
            }
            Self::ImageNeverPull => {
                "Load the image onto the nodes, or install with the pull policy IfNotPresent"
            }
            Self::ImageName => "Correct the image's name",
            Self::Crash => "Its log says more",
            Self::ContainerStart => {
                "Check the image: its entrypoint must exist and its user must not be root"
            }
            Self::Sandbox => "Check the node and its network plugin",
            Self::Unschedulable => {
                "Make room on a node, or see which taints and limits keep the pod away"
            }
            Self::Quota => "Raise the quota, or install into another namespace",
            Self::PodSecurity | Self::Admission => {
                "Ask the cluster's administrator to admit the pod, or install into another namespace"
            }
            Self::Create => "Ask the cluster's administrator",
            Self::PodFailed => "Check the node; the Deployment will try again",
            Self::NotReady | Self::NoProgress => "`kubectl describe` on it may tell more",
        }
    }
}

/// Why the manager doesn't start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The kind.
    pub reason: Reason,
    /// The cluster's own words.
    pub message: String,
    /// The object that says so.
    pub object: ObjectRef,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reason,
            message,
            object,
        } = self;
        write!(f, "{}: {message} ({object}). ", reason.text())?;
        match (reason, &object.namespace) {
            (Reason::Crash, Some(namespace)) => write!(
                f,
                "`kubectl -n {namespace} logs {} --previous` shows what it said, and `kubectl -n {namespace} describe pod {}` how it ended",
                object.name, object.name
            ),
            _ => f.write_str(reason.advice()),
        }
    }
}

/// How many of the last lines of a log are told.
const LAST_WORDS: usize = 3;

impl Trouble {
    /// The same with the end of the program's log, where there is one.
    pub(super) fn with_log(mut self, log: &[String]) -> Self {
        let said: Vec<&str> = log.iter().map(|line| line.trim()).collect();
        let said: Vec<&str> = said.into_iter().filter(|line| !line.is_empty()).collect();
        let last = &said[said.len().saturating_sub(LAST_WORDS)..];
        if !last.is_empty() {
            self.message = format!("{}; its last words: {}", self.message, last.join(" / "));
        }
        self
    }

    /// Returns what is awaited while the trouble may still pass; completes "waiting for ...".
    pub(super) fn awaited(&self) -> String {
        match self.reason {
            // Every program takes a moment to become ready: that is no trouble yet.
            Reason::NotReady => "the pod to become ready".to_owned(),
            reason => format!("this to pass: {}: {}", reason.text(), self.message),
        }
    }
}

/// Reads the reason out of the API server's refusal to create a pod, which has no structure.
pub(super) fn creation_reason(message: &str) -> Reason {
    let has = |part: &str| message.contains(part);
    if has("exceeded quota") || has("failed quota") {
        Reason::Quota
    } else if has("violates PodSecurity") {
        Reason::PodSecurity
    } else if has("admission webhook ")
        || has("ValidatingAdmissionPolicy")
        || has("security context constraint")
    {
        Reason::Admission
    } else {
        Reason::Create
    }
}
