//! Who wrote a Service's selector, as the API server noted it (`metadata.managedFields`).

use std::fmt;

use k8s_openapi::api::core::v1::Service;

use super::objects::FIELD_MANAGER;

/// The name under which somebody else than kdev writes, as `argocd-controller` or `kubectl-edit`; none where nobody
/// is noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer(Option<String>);

/// As people are told of him.
impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "{name:?} (so metadata.managedFields)"),
            None => f.write_str("somebody else"),
        }
    }
}

/// Returns who wrote the selector last.
pub(super) fn of_selector(service: &Service) -> Writer {
    let entries = service.metadata.managed_fields.iter().flatten();
    let wrote_it = entries.filter(|entry| {
        let fields = entry.fields_v1.as_ref();
        fields.is_some_and(|fields| fields.0.pointer("/f:spec/f:selector").is_some())
    });
    let last = wrote_it
        .filter_map(|entry| {
            let name = entry.manager.clone().filter(|name| name != FIELD_MANAGER)?;
            Some((entry.time.as_ref().map(|time| time.0), name))
        })
        .max();
    Writer(last.map(|(_, name)| name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(entries: &Value) -> Service {
        let metadata = json!({ "name": "web", "managedFields": entries });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    fn entry(manager: &str, time: &str, spec: &Value) -> Value {
        json!({
            "manager": manager, "operation": "Update", "apiVersion": "v1", "time": time,
            "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": spec },
        })
    }

    #[test]
    fn the_last_one_who_wrote_the_selector_is_named() {
        let selector = json!({ "f:selector": {} });
        let found = of_selector(&service(&json!([
            entry("kubectl-create", "2026-01-01T00:00:00Z", &selector),
            entry("argocd-controller", "2026-01-02T00:00:00Z", &selector),
            entry("helm", "2026-01-03T00:00:00Z", &json!({ "f:ports": {} })),
            entry(FIELD_MANAGER, "2026-01-04T00:00:00Z", &selector),
        ])));
        assert_eq!(found, Writer(Some("argocd-controller".to_owned())));
    }

    #[test]
    fn where_nothing_is_noted_nobody_is_named() {
        assert_eq!(of_selector(&service(&json!([]))), Writer(None));
        assert_eq!(
            of_selector(&Service::default()).to_string(),
            "somebody else"
        );
    }
}
