//! What to install, and how it is told.

use std::fmt;
use std::time::Duration;

use super::names::{DEFAULT_NAMESPACE, ObjectRef};

/// When the kubelet pulls the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// If the node doesn't have it.
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

impl PullPolicy {
    /// Returns the policy as Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// How machines reach the manager without the API server between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direct {
    /// As an earlier installation has it; a first one: by a port of each node.
    #[default]
    AsInstalled,
    /// Not from outside of the cluster.
    None,
    /// By a port of each node.
    NodePort,
    /// By a load balancer, where the cluster has them.
    LoadBalancer,
}

/// The variable of the manager's environment with the grace of sessions.
pub(crate) const SESSION_GRACE_SECONDS: &str = "KDEV_SESSION_GRACE_SECONDS";

/// What to install, and where. What isn't said stays as an earlier installation has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallOptions {
    /// The manager's namespace; made if it isn't there.
    pub namespace: String,
    /// The manager's image. Its entrypoint runs without arguments, its user isn't root. Empty: the one
    /// that is installed, or that of this version where it came from.
    pub image: String,
    /// When to pull the image; `None`: as installed, or as Kubernetes chooses by its tag.
    pub image_pull_policy: Option<PullPolicy>,
    /// The Secrets with the registry's credentials, in the manager's namespace.
    pub image_pull_secrets: Vec<String>,
    /// The manager's version, which becomes a label.
    pub version: String,
    /// The user id in the pod; `None` where the cluster assigns one (OpenShift).
    pub run_as_user: Option<i64>,
    /// The manager's log filter (`KDEV_LOG`).
    pub log: Option<String>,
    /// Seconds after which a session that is gone loses its intercepts; `None`: as installed, or the
    /// manager's default.
    pub session_grace_seconds: Option<u32>,
    /// The limits of its router.
    pub router: RouterLimits,
    /// How machines reach it directly.
    pub direct: Direct,
    /// How long the manager may take to become available.
    pub timeout: Duration,
}

impl InstallOptions {
    /// Returns the options for an image of a version, everything else as usual.
    pub fn new(image: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            namespace: DEFAULT_NAMESPACE.to_owned(),
            image: image.into(),
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            version: version.into(),
            run_as_user: Some(65532),
            log: None,
            session_grace_seconds: None,
            router: RouterLimits::default(),
            direct: Direct::default(),
            timeout: Duration::from_secs(120),
        }
    }
}

/// The limits of the manager's router; `None`: as installed, or the manager's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouterLimits {
    /// Bytes of a request's head.
    pub head_bytes: Option<u32>,
    /// Header lines of a request.
    pub headers: Option<u32>,
    /// Milliseconds that a client may be silent before the pods are asked to speak.
    pub first_byte_ms: Option<u32>,
    /// Milliseconds that a head may take from its first byte to its last.
    pub head_ms: Option<u32>,
    /// Connections of one port of a Service at once.
    pub connections: Option<u32>,
}

impl RouterLimits {
    /// The variables of the manager's environment that say so.
    pub(crate) fn variables(mut self) -> impl Iterator<Item = (&'static str, u32)> {
        self.named_mut()
            .map(|(name, value)| (name, *value))
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
    }

    /// Each limit with the variable that says it.
    pub(crate) fn named_mut(&mut self) -> [(&'static str, &mut Option<u32>); 5] {
        [
            ("KDEV_ROUTER_HEAD_BYTES", &mut self.head_bytes),
            ("KDEV_ROUTER_HEADERS", &mut self.headers),
            ("KDEV_ROUTER_FIRST_BYTE_MS", &mut self.first_byte_ms),
            ("KDEV_ROUTER_HEAD_MS", &mut self.head_ms),
            ("KDEV_ROUTER_CONNECTIONS", &mut self.connections),
        ]
    }
}

/// What became of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It wasn't there.
    Created,
    /// It was different.
    Updated,
    /// It was as it should be.
    Unchanged,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        })
    }
}

/// An object and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectChange {
    /// The object.
    pub object: ObjectRef,
    /// What became of it.
    pub change: Change,
}

/// Whether the manager's pod answered through a port-forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It did.
    Yes,
    /// It didn't, or couldn't be asked; connecting will probably fail for the same reason.
    No(String),
}

/// An installation that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether any object was created or updated.
    pub changed: bool,
    /// Every object of the installation.
    pub objects: Vec<ObjectChange>,
    /// Whether the manager answers the way that a session will use.
    pub answer: Answer,
}

/// A step of an installation or a removal, as it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// An object was brought to its desired state.
    Applied(ObjectChange),
    /// A manager that can't start as it is gets another try.
    Restarting {
        /// The Deployment.
        object: ObjectRef,
        /// What kept it from starting.
        why: String,
    },
    /// Something is awaited; told again only when it changes.
    Waiting {
        /// What; completes the phrase "waiting for ...".
        what: String,
    },
    /// An object is being removed.
    Removing(ObjectRef),
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied(ObjectChange { object, change }) => write!(f, "{object} {change}"),
            Self::Restarting { object, why } => write!(f, "restarting {object}, stuck at: {why}"),
            Self::Waiting { what } => write!(f, "waiting for {what}"),
            Self::Removing(object) => write!(f, "removing {object}"),
        }
    }
}

/// Takes the steps of an installation or a removal as they happen. Must not block.
pub type ProgressSink<'a> = &'a mut (dyn FnMut(Progress) + Send + Sync);
