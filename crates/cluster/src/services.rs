//! The Services that there are, and what can be done with them.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::client::{ApiError, call};
use crate::redirect::{
    Intercept, NotInterceptable, PortRef, ServiceName, external_name, interceptable, intercepts,
};

/// How many Services are asked for at once.
const PAGE: u32 = 500;

/// What a person wants to know of a Service before they intercept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSummary {
    /// The Service.
    pub name: ServiceName,
    /// Its ports in their order.
    pub ports: Vec<PortSummary>,
    /// Whether it can be intercepted; if not, the text completes "can't be intercepted: ".
    pub interceptable: Result<(), NotInterceptable>,
    /// The host that it is only another name for, where it is of type ExternalName.
    pub external_name: Option<String>,
    /// The claims on it; none if they can't be read.
    pub intercepts: Vec<Intercept>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSummary {
    /// The port.
    pub port: PortRef,
    /// Where it leads in the pods: a number, or the name of a container's port.
    pub target: String,
}

/// Lists the Services of one namespace, or of all if none is named, by namespace and name.
pub async fn list(
    client: &Client,
    namespace: Option<&str>,
) -> Result<Vec<ServiceSummary>, ApiError> {
    let (api, doing): (Api<Service>, _) = match namespace {
        Some(namespace) => (
            Api::namespaced(client.clone(), namespace),
            format!("list the services in namespace {namespace:?}"),
        ),
        None => (
            Api::all(client.clone()),
            "list the services of all namespaces".to_owned(),
        ),
    };
    let mut summaries = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = call(&doing, api.list(&params)).await?;
        summaries.extend(page.items.iter().map(summarize));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    summaries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(summaries)
}

/// Sums up a Service.
pub fn summarize(service: &Service) -> ServiceSummary {
    let metadata = &service.metadata;
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    ServiceSummary {
        name: ServiceName::new(
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
        ),
        ports: ports
            .iter()
            .map(|port| PortSummary {
                port: PortRef::of(port),
                target: match &port.target_port {
                    None => port.port.to_string(),
                    Some(IntOrString::Int(number)) => number.to_string(),
                    Some(IntOrString::String(name)) => name.clone(),
                },
            })
            .collect(),
        interceptable: interceptable(service),
        external_name: external_name(service).map(str::to_owned),
        intercepts: intercepts(metadata).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn summary(spec: Value, annotations: Value) -> ServiceSummary {
        let service = json!({
            "metadata": { "namespace": "shop", "name": "web", "annotations": annotations },
            "spec": spec,
        });
        summarize(&serde_json::from_value(service).unwrap())
    }

    #[test]
    fn a_service_is_summed_up_with_its_ports_and_claims() {
        let claims = r#"[{"id":"i1","session":"s1","owner":"ann@laptop","manager":"kdev","port":{"name":"http","number":80,"protocol":"TCP"},"since":"2026-01-02T03:04:05Z"}]"#;
        let summary = summary(
            json!({
                "clusterIP": "10.96.0.7",
                "selector": { "app": "web" },
                "ports": [
                    { "name": "http", "port": 80, "targetPort": "main" },
                    { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": 5353 },
                    { "name": "plain", "port": 7 },
                ],
            }),
            json!({ "kdev.dev/intercepts": claims }),
        );
        let ports: Vec<_> = summary
            .ports
            .iter()
            .map(|it| format!("{} -> {}", it.port, it.target))
            .collect();
        assert_eq!(
            ports,
            [
                "http (80/TCP) -> main",
                "dns (53/UDP) -> 5353",
                "plain (7/TCP) -> 7"
            ]
        );
        assert_eq!(summary.name.to_string(), "shop/web");
        assert_eq!(summary.interceptable, Ok(()));
        assert_eq!(summary.external_name, None);
        assert_eq!(summary.intercepts[0].owner, "ann@laptop");
    }

    #[test]
    fn another_name_for_a_host_is_summed_up_with_the_host() {
        let spec = json!({ "type": "ExternalName", "externalName": "db.example.com" });
        let host = summary(spec, json!({})).external_name;
        assert_eq!(host.as_deref(), Some("db.example.com"));
    }

    #[test]
    fn a_service_that_can_not_be_intercepted_says_why_and_what_to_do() {
        let table = [
            (
                json!({ "clusterIP": "None", "selector": { "app": "web" } }),
                "it is headless",
            ),
            (
                json!({ "type": "ExternalName" }),
                "it is of type ExternalName",
            ),
            (json!({ "clusterIP": "10.96.0.7" }), "it has no selector"),
        ];
        for (spec, start) in table {
            let why = summary(spec, json!({}))
                .interceptable
                .unwrap_err()
                .to_string();
            assert!(
                why.starts_with(start) && why.contains(". Intercept a"),
                "{why}"
            );
        }
    }
}
