//! The Lease of a session, written by the user's daemon with the user's credentials.

use std::fmt;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kdev_identity::Fingerprint;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use thiserror::Error;

use super::lease::{KEYS, SESSION, keys_text, labels, session_id, session_lease_name};
use crate::client::{ApiError, ApiFailure, call};
use crate::install::FIELD_MANAGER;

/// A session's Lease: where it is, and whose.
#[derive(Clone)]
pub struct SessionLease {
    client: Client,
    namespace: String,
    name: String,
    own: Fingerprint,
    owner: String,
}

impl fmt::Debug for SessionLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease {}/{}", self.namespace, self.name)
    }
}

/// Why the Lease can't be written.
#[derive(Debug, Error)]
pub enum VouchError {
    /// The user lacks the rights.
    #[error(
        "{source}. Ask the cluster's administrator for create, patch and delete on leases.coordination.k8s.io in namespace {namespace:?}"
    )]
    Forbidden {
        /// The manager's namespace.
        namespace: String,
        /// What the API server said.
        source: ApiError,
    },
    /// A call to the API server failed otherwise.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl SessionLease {
    /// The Lease of the session whose user's daemon has the key `own`; `owner` is for people.
    pub fn new(client: Client, namespace: &str, own: Fingerprint, owner: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            name: session_lease_name(&session_id(&own)),
            own,
            owner: owner.to_owned(),
        }
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Lets the Lease vouch for the session's own key and for `others`, whether it is there or not.
    ///
    /// # Errors
    ///
    /// [`VouchError::Forbidden`] for who may not connect.
    pub async fn vouch(&self, others: &[Fingerprint]) -> Result<(), VouchError> {
        let manifest = self.manifest(others);
        let lease: Lease = serde_json::from_value(manifest.clone()).unwrap_or_default();
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let what = format!("create Lease {}/{}", self.namespace, self.name);
        let created = call(what, self.api().create(&params, &lease)).await;
        let error = match created {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if !matches!(error.failure, ApiFailure::AlreadyExists { .. }) {
            return Err(self.told(error));
        }
        let what = format!("change Lease {}/{}", self.namespace, self.name);
        let changed = json!({ "metadata": { "annotations": manifest["metadata"]["annotations"] } });
        let patch = Patch::Merge(changed);
        let patched = call(
            what,
            self.api()
                .patch(&self.name, &PatchParams::default(), &patch),
        )
        .await;
        patched.map(drop).map_err(|error| self.told(error))
    }

    /// Removes the Lease: the session is over.
    ///
    /// # Errors
    ///
    /// When the API server doesn't; the manager removes it some time after the session has gone.
    pub async fn remove(&self) -> Result<(), VouchError> {
        let what = format!("delete Lease {}/{}", self.namespace, self.name);
        match call(
            what,
            self.api().delete(&self.name, &DeleteParams::default()),
        )
        .await
        {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(self.told(error)),
        }
    }

    fn told(&self, error: ApiError) -> VouchError {
        match &error.failure {
            ApiFailure::Forbidden(_) => VouchError::Forbidden {
                namespace: self.namespace.clone(),
                source: error,
            },
            _ => error.into(),
        }
    }

    fn manifest(&self, others: &[Fingerprint]) -> Value {
        let keys: Vec<Fingerprint> = [self.own].iter().chain(others).copied().collect();
        // A MicroTime has microseconds, no more and no less.
        let now = format!("{:.6}", Timestamp::now());
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": labels(&self.namespace, SESSION),
                "annotations": { KEYS: keys_text(&keys) },
            },
            "spec": { "holderIdentity": self.owner, "acquireTime": now },
        })
    }
}
