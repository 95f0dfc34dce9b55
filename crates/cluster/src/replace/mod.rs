//! Scaling the workloads behind a Service to zero while an intercept lasts, and back.
//!
//! What is scaled carries its marks itself, written by the patch that scales it: who may not patch a workload
//! can't have anybody else do it, and whoever restores needs nothing but the workload.
//!
//! | on the workload | is |
//! |---|---|
//! | label [`REPLACED`] | the id of the intercept |
//! | label [`MANAGER_LABEL`](crate::redirect::objects::MANAGER_LABEL) | the namespace of the traffic manager that serves it |
//! | annotation [`REPLICAS`] | how many replicas there were |

mod find;
mod scale;

use std::fmt;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use kube::core::{ApiResource, DynamicObject};
use thiserror::Error;

use crate::client::{ApiError, ApiFailure, Forbidden};
use crate::redirect::ServiceName;

pub use find::find;
pub use scale::{
    restore, restore_by, restore_orphans, scale_down, scaled_by, scaled_for, wait_ready,
};

/// The label with the intercept for whose time a workload is scaled to zero.
pub const REPLACED: &str = "kdev.dev/replaced";

/// The annotation with the replicas that it had.
pub const REPLICAS: &str = "kdev.dev/replicas";

/// The kinds of workloads that have a number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `apps/v1`.
    Deployment,
    /// `apps/v1`.
    StatefulSet,
    /// `apps/v1`; one that no Deployment owns.
    ReplicaSet,
}

impl Kind {
    /// All of them.
    const ALL: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::ReplicaSet];

    fn resource(self) -> ApiResource {
        match self {
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            Self::ReplicaSet => ApiResource::erase::<ReplicaSet>(&()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::ReplicaSet => "replicaset",
        })
    }
}

/// A workload with a number of replicas.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Its kind.
    pub kind: Kind,
    /// What the API server shows of it.
    object: DynamicObject,
}

impl Workload {
    fn namespace(&self) -> &str {
        self.object
            .metadata
            .namespace
            .as_deref()
            .unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    /// How many replicas are wanted now; one where nothing is said.
    pub fn replicas(&self) -> u64 {
        self.object.data["spec"]["replicas"].as_u64().unwrap_or(1)
    }

    fn label(&self, name: &str) -> Option<&str> {
        let labels = self.object.metadata.labels.as_ref()?;
        labels.get(name).map(String::as_str)
    }
}

/// `deployment shop/web`.
impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace(), self.name())
    }
}

/// Why the workloads behind a Service can't be scaled to zero, or back.
///
/// Each text says what failed, why, and what to try next; it is complete without the sources.
#[derive(Debug, Error)]
pub enum ReplaceError {
    /// There is no such Service.
    #[error("there is no service {service}. `kdev list` shows those that there are")]
    ServiceNotFound {
        /// The Service asked for.
        service: ServiceName,
    },
    /// Nothing that can be scaled is behind it.
    #[error(
        "no deployment, statefulset or replicaset is behind service {service}. `kdev intercept` takes its connections and leaves what is there running"
    )]
    NoWorkload {
        /// The Service.
        service: ServiceName,
    },
    /// Some of its pods have no number of replicas.
    #[error(
        "pod {pod} of service {service} belongs to {owner}, which can't be scaled to zero. `kdev intercept` takes its connections and leaves it running"
    )]
    NotScalable {
        /// The Service.
        service: ServiceName,
        /// One of them.
        pod: String,
        /// The kind of its owner.
        owner: String,
    },
    /// Somebody would scale it up again.
    #[error(
        "{workload} is scaled by {scaler}, which would start it again. Pause that first: `kubectl annotate -n {namespace} {scaler} autoscaling.keda.sh/paused-replicas=0`"
    )]
    Autoscaled {
        /// The workload.
        workload: String,
        /// Its namespace.
        namespace: String,
        /// What scales it.
        scaler: String,
    },
    /// Another intercept has scaled it.
    #[error(
        "{workload} is scaled to zero already, for an intercept of somebody's. Ask them to leave it; `kdev list` shows who holds the services"
    )]
    Taken {
        /// The workload.
        workload: String,
    },
    /// The user may not.
    #[error("can't {doing}: {forbidden}. Ask the cluster's administrator for that right")]
    Forbidden {
        /// The step, as it completes the sentence "can't ...".
        doing: String,
        /// Who may not do what.
        forbidden: Box<Forbidden>,
        /// The API server's answer.
        source: ApiError,
    },
    /// The call to the API server failed otherwise.
    #[error(transparent)]
    Api(ApiError),
}

impl From<ApiError> for ReplaceError {
    fn from(error: ApiError) -> Self {
        match &error.failure {
            ApiFailure::Forbidden(forbidden) => Self::Forbidden {
                doing: error.doing.clone(),
                forbidden: forbidden.clone(),
                source: error,
            },
            _ => Self::Api(error),
        }
    }
}
