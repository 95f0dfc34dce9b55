//! Service meshes: who takes a pod's connections before its program does, and whether it wants mTLS of all.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::core::DynamicObject;

/// The containers that meshes put into a pod, and what they are called.
const PROXIES: [(&str, &str); 2] = [("istio-proxy", "Istio"), ("linkerd-proxy", "Linkerd")];

/// What Istio writes on a pod whose node takes its connections.
const AMBIENT: (&str, &str) = ("ambient.istio.io/redirection", "enabled");

/// Returns the mesh that a pod is in.
pub(super) fn of(pod: &Pod) -> Option<&'static str> {
    if pod.annotations().get(AMBIENT.0).map(String::as_str) == Some(AMBIENT.1) {
        return Some("Istio");
    }
    let spec = pod.spec.as_ref()?;
    // One that starts before the others is an init container that stays.
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let mut proxies = containers.filter_map(|container| {
        let known = PROXIES.iter().find(|(name, _)| container.name == *name);
        known.map(|(_, mesh)| *mesh)
    });
    proxies.next()
}

/// What is said for all workloads of a namespace.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// Whether they take nothing but mTLS.
    pub(super) is_strict: bool,
    /// The `PeerAuthentication` that says so, `namespace/name`.
    pub(super) by: String,
}

/// Returns what `PeerAuthentication`s say for all workloads of their namespace: what they say of some isn't looked at.
pub(super) fn said(all: &[DynamicObject]) -> Option<Said> {
    all.iter().find_map(|one| {
        let spec = &one.data["spec"];
        let mode = spec["mtls"]["mode"]
            .as_str()
            .filter(|mode| *mode != "UNSET")?;
        spec["selector"].is_null().then(|| Said {
            is_strict: mode == "STRICT",
            by: format!("{}/{}", one.namespace().unwrap_or_default(), one.name_any()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(value: &Value) -> Pod {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn a_pod_in_a_mesh_is_known_by_its_proxy() {
        let plain = json!({ "metadata": {}, "spec": { "containers": [{ "name": "web" }] } });
        assert_eq!(of(&pod(&plain)), None);
        let beside = json!({ "metadata": {}, "spec": { "containers": [{ "name": "web" }, { "name": "linkerd-proxy" }] } });
        assert_eq!(of(&pod(&beside)), Some("Linkerd"));
        let before = json!({ "metadata": {}, "spec": { "containers": [{ "name": "web" }], "initContainers": [{ "name": "istio-proxy" }] } });
        assert_eq!(of(&pod(&before)), Some("Istio"));
        let node =
            json!({ "metadata": { "annotations": { "ambient.istio.io/redirection": "enabled" } } });
        assert_eq!(of(&pod(&node)), Some("Istio"));
    }

    #[test]
    fn only_a_whole_namespace_that_is_strict_counts() {
        let one = |name: &str, spec: Value| {
            let object = json!({
                "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
                "metadata": { "name": name, "namespace": "shop" }, "spec": spec,
            });
            serde_json::from_value::<DynamicObject>(object).unwrap()
        };
        let permissive = one("a", json!({ "mtls": { "mode": "PERMISSIVE" } }));
        let of_some = one(
            "b",
            json!({ "mtls": { "mode": "STRICT" }, "selector": { "matchLabels": {} } }),
        );
        let strict = one("c", json!({ "mtls": { "mode": "STRICT" } }));
        let said = |all: &[DynamicObject]| said(all).map(|said| (said.is_strict, said.by));
        assert_eq!(said(&[of_some.clone(), one("d", json!({}))]), None);
        assert_eq!(said(&[of_some, strict]), Some((true, "shop/c".to_owned())));
        assert_eq!(said(&[permissive]), Some((false, "shop/a".to_owned())));
    }
}
