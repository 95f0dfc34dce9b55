//! The Lease of a manager's pod: its key, and which release it is.

use k8s_openapi::api::coordination::v1::Lease;
use kdev_identity::Fingerprint;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use thiserror::Error;

use super::lease::{KEYS, POD, PROTOCOL, RELEASE, annotation, keys_of, keys_text, labels};
use crate::client::{ApiError, call};
use crate::install::{FIELD_MANAGER, ManagerPod};

/// The pod that the manager runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: the Lease goes with it.
    pub uid: String,
}

/// What a manager says of itself before it is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerKey {
    /// The key that it will prove to have.
    pub key: Fingerprint,
    /// Its release.
    pub release: String,
    /// The number of its interfaces.
    pub protocol: u32,
}

/// Why a manager's key isn't known.
#[derive(Debug, Error)]
pub enum ManagerKeyError {
    /// It hasn't published any.
    #[error(
        "the traffic manager in pod {pod} (release {release}) has published no key of its own. Bring it up to date with `kdev install`"
    )]
    None {
        /// Its pod.
        pod: String,
        /// Its release, as the pod's label has it.
        release: String,
    },
    /// What it published isn't readable.
    #[error(
        "the Lease of the traffic manager's pod {pod} isn't as kdev writes it: {why}. Delete the pod, so that another one writes it anew"
    )]
    Unreadable {
        /// Its pod.
        pod: String,
        /// What is wrong.
        why: String,
    },
    /// A call to the API server failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Reads the key that the manager in `pod` has published. Needs `get` on Leases there.
///
/// # Errors
///
/// Why it isn't known.
pub async fn manager_key(client: &Client, pod: &ManagerPod) -> Result<ManagerKey, ManagerKeyError> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &pod.namespace);
    let what = format!("read Lease {}/{}", pod.namespace, pod.name);
    let lease = call(what, leases.get_opt(&pod.name)).await?;
    let Some(lease) = lease else {
        return Err(ManagerKeyError::None {
            pod: format!("{}/{}", pod.namespace, pod.name),
            release: pod.version.clone(),
        });
    };
    read(&lease).map_err(|why| ManagerKeyError::Unreadable {
        pod: format!("{}/{}", pod.namespace, pod.name),
        why,
    })
}

fn read(lease: &Lease) -> Result<ManagerKey, String> {
    let keys = keys_of(lease).map_err(|why| why.to_string())?;
    let [key] = keys[..] else {
        return Err("it has more than one key".to_owned());
    };
    let text = |name| annotation(lease, name).ok_or_else(|| format!("no annotation {name}"));
    let protocol = text(PROTOCOL)?;
    Ok(ManagerKey {
        key,
        release: text(RELEASE)?.to_owned(),
        protocol: protocol
            .parse()
            .map_err(|_| format!("{PROTOCOL} is {protocol:?}"))?,
    })
}

/// Publishes a manager's own key. The Lease goes with the pod.
///
/// # Errors
///
/// When the API server doesn't take it.
pub async fn publish(client: &Client, pod: &OwnPod, own: &ManagerKey) -> Result<(), ApiError> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &pod.namespace);
    let manifest = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "labels": labels(&pod.namespace, POD),
            "annotations": {
                KEYS: keys_text(&[own.key]),
                RELEASE: own.release,
                PROTOCOL: own.protocol.to_string(),
            },
            "ownerReferences": [
                { "apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid },
            ],
        },
        "spec": { "holderIdentity": pod.name },
    });
    let what = format!("apply Lease {}/{}", pod.namespace, pod.name);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    call(
        what,
        leases.patch(&pod.name, &params, &Patch::Apply(manifest)),
    )
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(annotations: serde_json::Value) -> Lease {
        serde_json::from_value(json!({ "metadata": { "annotations": annotations } })).unwrap()
    }

    #[test]
    fn a_manager_says_its_key_and_its_release() {
        let key = Fingerprint::from([7; Fingerprint::LENGTH]);
        let text = key.to_string();
        let told = read(&lease(
            json!({ KEYS: text, RELEASE: "1.2.3", PROTOCOL: "2" }),
        ));
        let expected = ManagerKey {
            key,
            release: "1.2.3".to_owned(),
            protocol: 2,
        };
        assert_eq!(told, Ok(expected));
        for wrong in [
            json!({ RELEASE: "1", PROTOCOL: "2" }),
            json!({ KEYS: text, PROTOCOL: "2" }),
            json!({ KEYS: text, RELEASE: "1", PROTOCOL: "two" }),
            json!({ KEYS: format!("{text},{text}"), RELEASE: "1", PROTOCOL: "2" }),
        ] {
            assert!(read(&lease(wrong)).is_err());
        }
    }
}
