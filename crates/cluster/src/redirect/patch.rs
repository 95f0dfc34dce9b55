//! The JSON patches (RFC 6902) that change a Service.
//!
//! Each begins with a `test` of the resource version, so that it applies to the Service observed
//! or not at all.

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::intercept::{Intercept, Original, selector};
use super::objects::{FIELD_MANAGER, INTERCEPTS, ORIGINAL};

/// Clears the selector and saves it.
pub(super) fn clear(service: &Service, saved: &Original) -> Vec<Value> {
    let mut patch = begin(service);
    set_annotation(&mut patch, service, ORIGINAL, &json!(saved));
    if selector(service).is_some() {
        patch.push(json!({ "op": "remove", "path": "/spec/selector" }));
    }
    patch
}

/// Writes the selector back.
pub(super) fn restore(service: &Service, selector: &Value) -> Vec<Value> {
    let mut patch = begin(service);
    patch.push(json!({ "op": "add", "path": "/spec/selector", "value": selector }));
    patch
}

/// Removes the saved selector's annotation, or rewrites the list of claims, or both.
pub(super) fn drop_annotation(
    service: &Service,
    original: bool,
    intercepts: Option<&[Intercept]>,
) -> Vec<Value> {
    let mut patch = begin(service);
    if original {
        patch.push(json!({ "op": "remove", "path": path(ORIGINAL) }));
        patch.extend(disown(service));
    }
    if let Some(intercepts) = intercepts {
        set_intercepts(&mut patch, service, intercepts);
    }
    patch
}

/// Writes the list of claims; an empty one removes the annotation.
pub(super) fn write_intercepts(service: &Service, intercepts: &[Intercept]) -> Vec<Value> {
    let mut patch = begin(service);
    set_intercepts(&mut patch, service, intercepts);
    patch
}

fn set_intercepts(patch: &mut Vec<Value>, service: &Service, intercepts: &[Intercept]) {
    if intercepts.is_empty() {
        patch.push(json!({ "op": "remove", "path": path(INTERCEPTS) }));
    } else {
        set_annotation(patch, service, INTERCEPTS, &json!(intercepts));
    }
}

fn begin(service: &Service) -> Vec<Value> {
    let version = &service.metadata.resource_version;
    vec![json!({ "op": "test", "path": "/metadata/resourceVersion", "value": version })]
}

fn set_annotation(patch: &mut Vec<Value>, service: &Service, annotation: &str, value: &Value) {
    if service.metadata.annotations.is_none() {
        patch.push(json!({ "op": "add", "path": "/metadata/annotations", "value": {} }));
    }
    patch.push(json!({ "op": "add", "path": path(annotation), "value": value.to_string() }));
}

/// Gives up the ownership of the fields that were written back. Whoever applies the Service next
/// would otherwise meet a conflict with kdev over a selector that has always been theirs.
fn disown(service: &Service) -> Option<Value> {
    let fields = service.metadata.managed_fields.as_ref()?;
    let others: Vec<_> = fields
        .iter()
        .filter(|entry| entry.manager.as_deref() != Some(FIELD_MANAGER))
        .collect();
    (others.len() != fields.len() && !others.is_empty())
        .then(|| json!({ "op": "replace", "path": "/metadata/managedFields", "value": others }))
}

fn path(annotation: &str) -> String {
    format!(
        "/metadata/annotations/{}",
        annotation.replace('~', "~0").replace('/', "~1")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirect::testing;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

    #[test]
    fn clearing_saves_the_selector_in_the_same_patch() {
        let service = testing::service("web", &[("", 80, "TCP")]);
        let saved = testing::original(&[("app", "web")]);
        assert_eq!(
            json!(clear(&service, &saved)),
            json!([
                { "op": "test", "path": "/metadata/resourceVersion", "value": "1" },
                { "op": "add", "path": "/metadata/annotations", "value": {} },
                {
                    "op": "add",
                    "path": "/metadata/annotations/kdev.dev~1original",
                    "value": r#"{"manager":"kdev","selector":{"app":"web"}}"#
                },
                { "op": "remove", "path": "/spec/selector" },
            ])
        );
    }

    #[test]
    fn a_selector_that_is_cleared_already_is_only_saved() {
        let mut service = testing::service("web", &[("", 80, "TCP")]);
        service.spec.as_mut().unwrap().selector = None;
        let patch = clear(&service, &testing::original(&[("app", "web")]));
        assert!(patch.iter().all(|step| step["op"] != "remove"), "{patch:?}");
    }

    #[test]
    fn the_last_patch_leaves_no_field_in_our_name() {
        let mut service = testing::service("web", &[("", 80, "TCP")]);
        testing::clear(&mut service, &[("app", "web")]);
        let entry = |manager: &str| ManagedFieldsEntry {
            manager: Some(manager.into()),
            ..ManagedFieldsEntry::default()
        };
        service.metadata.managed_fields = Some(vec![entry("kubectl"), entry("kdev")]);
        let patch = json!(drop_annotation(&service, true, Some(&[])));
        assert_eq!(
            patch,
            json!([
                { "op": "test", "path": "/metadata/resourceVersion", "value": "1" },
                { "op": "remove", "path": "/metadata/annotations/kdev.dev~1original" },
                {
                    "op": "replace",
                    "path": "/metadata/managedFields",
                    "value": [{ "manager": "kubectl" }]
                },
                { "op": "remove", "path": "/metadata/annotations/kdev.dev~1intercepts" },
            ])
        );
    }

    #[test]
    fn claims_that_stay_are_written_again() {
        let service = testing::service("web", &[("", 80, "TCP")]);
        let claim = testing::intercept("i1", ("", 80));
        let patch = write_intercepts(&service, std::slice::from_ref(&claim));
        let text = patch[2]["value"].as_str().unwrap();
        assert_eq!(
            serde_json::from_str::<Vec<Intercept>>(text).unwrap(),
            [claim]
        );
    }
}
