//! Services that lead to a machine and to nothing else.
//!
//! One has a selector that no pod meets, so that it is intercepted like any other; it goes with its intercept.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client};

use super::api::ServiceName;
use super::claim::{Claim, ClaimError, refused};
use super::intercept::{Intercept, Mode, intercepts, now, original_selector};
use super::objects::{FIELD_MANAGER, INTERCEPTS, MANAGER_LABEL, PREVIEW};
use super::port::PortRef;
use crate::client::{ApiError, ApiFailure, call};

/// Makes a Service with one port that is claimed from its first moment on.
///
/// # Errors
///
/// When there is such a Service already, or the user may not make one.
pub async fn create_preview(
    client: &Client,
    name: &ServiceName,
    port: PortRef,
    claim: &Claim,
) -> Result<Intercept, ClaimError> {
    let intercept = Intercept {
        id: claim.id.clone(),
        session: claim.session.clone(),
        owner: claim.owner.clone(),
        manager: claim.manager.clone(),
        port,
        since: now(),
        rule: claim.rule.clone(),
        mode: Mode::Preview,
        pass_if_down: false,
    };
    let service = service(name, &intercept);
    let services: Api<Service> = Api::namespaced(client.clone(), &name.namespace);
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let created = services.create(&params, &service);
    match call(format!("create service {name}"), created).await {
        Ok(_) => Ok(intercept),
        Err(error) if matches!(error.failure, ApiFailure::AlreadyExists { .. }) => {
            Err(ClaimError::Exists {
                service: name.clone(),
            })
        }
        Err(error) => Err(refused(error)),
    }
}

/// Deletes the Service of a preview; one that is gone, or that isn't this preview's, is left alone.
///
/// # Errors
///
/// When the API server refuses.
pub async fn delete_preview(client: &Client, name: &ServiceName, id: &str) -> Result<(), ApiError> {
    let services: Api<Service> = Api::namespaced(client.clone(), &name.namespace);
    let found = call(format!("read service {name}"), services.get_opt(&name.name)).await?;
    let Some(found) = found.filter(|found| is_preview(found, id)) else {
        return Ok(());
    };
    let params = DeleteParams {
        // One that was made anew under the name isn't it.
        preconditions: Some(Preconditions {
            uid: found.metadata.uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let deleted = services.delete(&name.name, &params);
    match call(format!("delete service {name}"), deleted).await {
        Ok(_) => Ok(()),
        Err(error) => match error.failure {
            ApiFailure::NotFound { .. } | ApiFailure::Conflict { .. } => Ok(()),
            _ => Err(error),
        },
    }
}

/// Deletes the previews of the traffic manager in `manager` that nobody claims any more; returns them.
///
/// # Errors
///
/// When the API server refuses.
pub async fn delete_orphans(client: &Client, manager: &str) -> Result<Vec<ServiceName>, ApiError> {
    let services: Api<Service> = Api::all(client.clone());
    let marked = ListParams::default().labels(&format!("{PREVIEW},{MANAGER_LABEL}={manager}"));
    let mut deleted = Vec::new();
    for service in call("list previews", services.list(&marked)).await? {
        let Some(id) = preview_of(&service) else {
            continue;
        };
        let claims = intercepts(&service.metadata).unwrap_or_default();
        if claims.is_empty() && is_preview(&service, id) {
            let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
            let name = service.metadata.name.as_deref().unwrap_or_default();
            let name = ServiceName::new(namespace, name);
            delete_preview(client, &name, id).await?;
            deleted.push(name);
        }
    }
    Ok(deleted)
}

/// Whether a Service was made for this intercept and has not become anything else: what the manager deletes must not
/// be anybody's who only wrote a label on it.
fn is_preview(service: &Service, id: &str) -> bool {
    let spec = service.spec.as_ref();
    let selects = original_selector(service);
    let own = [(PREVIEW.to_owned(), id.to_owned())].into();
    let kind = spec.and_then(|spec| spec.type_.as_deref());
    preview_of(service) == Some(id)
        && selects.as_ref() == Some(&own)
        && matches!(kind, None | Some("ClusterIP"))
}

/// The intercept that a Service was made for.
pub(super) fn preview_of(service: &Service) -> Option<&str> {
    let labels = service.metadata.labels.as_ref()?;
    labels.get(PREVIEW).map(String::as_str)
}

fn service(name: &ServiceName, intercept: &Intercept) -> Service {
    let number = i32::from(intercept.port.number);
    let mark = [(PREVIEW.to_owned(), intercept.id.clone())];
    let claims = serde_json::json!([intercept]).to_string();
    Service {
        metadata: ObjectMeta {
            name: Some(name.name.clone()),
            namespace: Some(name.namespace.clone()),
            labels: Some(
                mark.clone()
                    .into_iter()
                    .chain([(MANAGER_LABEL.to_owned(), intercept.manager.clone())])
                    .collect(),
            ),
            annotations: Some([(INTERCEPTS.to_owned(), claims)].into()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            selector: Some(mark.into()),
            ports: Some(vec![ServicePort {
                port: number,
                target_port: Some(IntOrString::Int(number)),
                protocol: Some(intercept.port.protocol.to_string()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirect::{interceptable, intercepts, testing};

    #[test]
    fn a_preview_is_a_claimed_service_that_selects_nothing_of_anybody() {
        let intercept = Intercept {
            mode: Mode::Preview,
            ..testing::intercept("i1", ("", 8080))
        };
        let mut service = service(&ServiceName::new("shop", "mine"), &intercept);
        assert_eq!(preview_of(&service), Some("i1"));
        assert_eq!(intercepts(&service.metadata).unwrap(), [intercept]);
        let spec = service.spec.as_mut().unwrap();
        assert_eq!(spec.selector.as_ref().unwrap()[PREVIEW], "i1");
        spec.cluster_ip = Some("10.96.0.8".to_owned());
        assert_eq!(interceptable(&service), Ok(()));
        assert!(is_preview(&service, "i1") && !is_preview(&service, "i2"));
        let number = &service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0];
        assert_eq!(PortRef::of(number), testing::port("", 8080));
        // Somebody's own, with the label only.
        service.spec.as_mut().unwrap().selector = Some(testing::strings(&[("app", "web")]));
        assert!(!is_preview(&service, "i1"));
    }
}
