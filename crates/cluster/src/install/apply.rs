//! Bringing one object to its desired state, and telling whether that changed it.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::InstallError;
use super::names::{FIELD_MANAGER, LABEL_MANAGED_BY, ObjectRef};
use super::options::{Change, ObjectChange};
use crate::client::call;

/// An object that is as its manifest wants it.
pub(super) struct Applied<K> {
    /// The object as the API server has it now.
    pub(super) object: K,
    /// What became of it.
    pub(super) change: ObjectChange,
}

/// Reads what there is of a manifest's object.
///
/// # Errors
/// [`InstallError::Foreign`] if it is there and another tool made it.
pub(super) async fn read<K>(
    api: &Api<K>,
    manifest: &Value,
) -> Result<Option<ObjectMeta>, InstallError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let object = object_ref(manifest);
    let found = call(format!("read {object}"), api.get_metadata_opt(&object.name)).await?;
    let Some(found) = found else { return Ok(None) };
    let managed_by = managed_by(&found.metadata);
    if managed_by.as_deref() != Some(FIELD_MANAGER) {
        return Err(InstallError::Foreign { object, managed_by });
    }
    Ok(Some(found.metadata))
}

/// Applies a manifest on the server's side and takes over fields that others set. `before` is what
/// [`read`] found.
pub(super) async fn apply<K>(
    api: &Api<K>,
    manifest: &Value,
    before: Option<&ObjectMeta>,
) -> Result<Applied<K>, InstallError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let object = object_ref(manifest);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let after = call(
        format!("apply {object}"),
        api.patch(&object.name, &params, &Patch::Apply(manifest)),
    )
    .await?;
    let change = change(before, after.meta());
    Ok(Applied {
        object: after,
        change: ObjectChange { object, change },
    })
}

/// Returns which tool made an object.
pub(super) fn managed_by(meta: &ObjectMeta) -> Option<String> {
    meta.labels.as_ref()?.get(LABEL_MANAGED_BY).cloned()
}

/// Returns whether an object's content differs before and after.
///
/// The resource version also moves with every status that a controller writes; where there is a
/// generation, it tells about the content alone.
fn change(before: Option<&ObjectMeta>, after: &ObjectMeta) -> Change {
    let Some(before) = before else {
        return Change::Created;
    };
    if before.uid != after.uid {
        return Change::Created;
    }
    let same = match (before.generation, after.generation) {
        (Some(before_it), Some(after_it)) => before_it == after_it && before.labels == after.labels,
        _ => before.resource_version == after.resource_version,
    };
    if same {
        Change::Unchanged
    } else {
        Change::Updated
    }
}

fn object_ref(manifest: &Value) -> ObjectRef {
    let meta = &manifest["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    ObjectRef::new(
        text(&manifest["kind"]),
        meta["namespace"].as_str(),
        text(&meta["name"]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(uid: &str, version: &str, generation: Option<i64>, label: &str) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_owned()),
            generation,
            labels: Some([("l".to_owned(), label.to_owned())].into()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn an_object_changed_if_its_content_did() {
        let plain = meta("u", "1", None, "a");
        let counted = meta("u", "1", Some(3), "a");
        let table = [
            (None, plain.clone(), Change::Created),
            (Some(plain.clone()), plain.clone(), Change::Unchanged),
            (
                Some(plain.clone()),
                meta("u", "2", None, "a"),
                Change::Updated,
            ),
            (Some(plain), meta("v", "1", None, "a"), Change::Created),
            // A controller wrote the status meanwhile.
            (
                Some(counted.clone()),
                meta("u", "9", Some(3), "a"),
                Change::Unchanged,
            ),
            (
                Some(counted.clone()),
                meta("u", "9", Some(4), "a"),
                Change::Updated,
            ),
            (Some(counted), meta("u", "9", Some(3), "b"), Change::Updated),
        ];
        for (before, after, wanted) in table {
            assert_eq!(
                change(before.as_ref(), &after),
                wanted,
                "{before:?} {after:?}"
            );
        }
    }
}
