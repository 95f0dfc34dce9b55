//! Services that lead to a machine and to nothing else.
//!
//! One has a selector that no pod meets, so that it is intercepted like any other, with a claim on each of its ports. It
//! goes as a whole with the first of them that ends: a port that leads nowhere serves nobody.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kdev_rules::Rule;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client};

use super::api::ServiceName;
use super::claim::{ClaimError, refused};
use super::intercept::{Intercept, Mode, call_id, claim_id, intercepts, now, original_selector};
use super::objects::{FIELD_MANAGER, INTERCEPTS, MANAGER_LABEL, PREVIEW};
use super::port::PortRef;
use crate::client::{ApiError, ApiFailure, call};

/// What a user wants to be made.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Chosen by the user's daemon, unique in the world, without a dot.
    pub id: String,
    /// The session that the connections go to.
    pub session: String,
    /// `user@machine`, for people.
    pub owner: String,
    /// The namespace of the traffic manager that is to serve it.
    pub manager: String,
    /// Its ports, each once; their names don't count.
    pub ports: Vec<PortRef>,
}

impl Preview {
    /// The claims on it, one for each port and in their order. The first has the preview's own id.
    fn intercepts(&self) -> Vec<Intercept> {
        let since = now();
        let one = |(at, port)| Intercept {
            id: claim_id(&self.id, at),
            session: self.session.clone(),
            owner: self.owner.clone(),
            manager: self.manager.clone(),
            port,
            since,
            rule: Rule::default(),
            mode: Mode::Preview,
            pass_if_down: false,
        };
        named(&self.ports)
            .into_iter()
            .enumerate()
            .map(one)
            .collect()
    }
}

/// The ports as the API server wants them: where there are several each has a name, and a single one needs none. A mesh
/// that reads protocols out of names finds none in these, and looks for itself as it does where there is no name.
fn named(ports: &[PortRef]) -> Vec<PortRef> {
    let name = |port: &PortRef| match ports.len() {
        1 => String::new(),
        _ => format!(
            "{}-{}",
            port.number,
            port.protocol.as_str().to_ascii_lowercase()
        ),
    };
    let named = ports.iter().map(|port| PortRef {
        name: name(port),
        ..port.clone()
    });
    named.collect()
}

/// Makes a Service whose ports are claimed from its first moment on; the claims, in the order of the ports.
///
/// # Errors
///
/// When there is such a Service already, or the user may not make one; nothing is made then.
pub async fn create_preview(
    client: &Client,
    name: &ServiceName,
    preview: &Preview,
) -> Result<Vec<Intercept>, ClaimError> {
    let intercepts = preview.intercepts();
    let service = service(name, preview, &intercepts);
    let services: Api<Service> = Api::namespaced(client.clone(), &name.namespace);
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let created = services.create(&params, &service);
    match call(format!("create service {name}"), created).await {
        Ok(_) => Ok(intercepts),
        Err(error) if matches!(error.failure, ApiFailure::AlreadyExists { .. }) => {
            Err(ClaimError::Exists {
                service: name.clone(),
            })
        }
        Err(error) => Err(refused(error)),
    }
}

/// Deletes the Service of a preview that the claim `id` is part of; one that is gone, or that isn't this preview's, is
/// left alone.
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

/// Whether a Service was made for this claim and has not become anything else: what the manager deletes must not
/// be anybody's who only wrote a label on it.
fn is_preview(service: &Service, id: &str) -> bool {
    let id = call_id(id);
    let spec = service.spec.as_ref();
    let selects = original_selector(service);
    let own = [(PREVIEW.to_owned(), id.to_owned())].into();
    let kind = spec.and_then(|spec| spec.type_.as_deref());
    preview_of(service) == Some(id)
        && selects.as_ref() == Some(&own)
        && matches!(kind, None | Some("ClusterIP"))
}

/// The id of the preview that a Service was made for.
pub(super) fn preview_of(service: &Service) -> Option<&str> {
    let labels = service.metadata.labels.as_ref()?;
    labels.get(PREVIEW).map(String::as_str)
}

fn service(name: &ServiceName, preview: &Preview, intercepts: &[Intercept]) -> Service {
    let mark = [(PREVIEW.to_owned(), preview.id.clone())];
    let claims = serde_json::json!(intercepts).to_string();
    let ports = intercepts.iter().map(|one| service_port(&one.port));
    Service {
        metadata: ObjectMeta {
            name: Some(name.name.clone()),
            namespace: Some(name.namespace.clone()),
            labels: Some(
                mark.clone()
                    .into_iter()
                    .chain([(MANAGER_LABEL.to_owned(), preview.manager.clone())])
                    .collect(),
            ),
            annotations: Some([(INTERCEPTS.to_owned(), claims)].into()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            selector: Some(mark.into()),
            ports: Some(ports.collect()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn service_port(port: &PortRef) -> ServicePort {
    let number = i32::from(port.number);
    ServicePort {
        name: Some(port.name.clone()).filter(|name| !name.is_empty()),
        port: number,
        target_port: Some(IntOrString::Int(number)),
        protocol: Some(port.protocol.to_string()),
        ..ServicePort::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirect::{Protocol, interceptable, intercepts, ports_of, testing};

    fn preview(ports: Vec<PortRef>) -> Preview {
        Preview {
            id: "i1".into(),
            session: "s1".into(),
            owner: "ann@laptop".into(),
            manager: "kdev".into(),
            ports,
        }
    }

    fn made(preview: &Preview) -> Service {
        let name = ServiceName::new("shop", "mine");
        let mut service = service(&name, preview, &preview.intercepts());
        service.spec.as_mut().unwrap().cluster_ip = Some("10.96.0.8".to_owned());
        service
    }

    #[test]
    fn a_preview_is_a_claimed_service_that_selects_nothing_of_anybody() {
        let preview = preview(vec![testing::port("", 8080)]);
        let mut service = made(&preview);
        assert_eq!(preview_of(&service), Some("i1"));
        let claims = intercepts(&service.metadata).unwrap();
        assert_eq!(claims, preview.intercepts());
        assert_eq!(
            (claims[0].id.as_str(), claims[0].mode),
            ("i1", Mode::Preview)
        );
        let spec = service.spec.as_ref().unwrap();
        assert_eq!(spec.selector.as_ref().unwrap()[PREVIEW], "i1");
        assert_eq!(interceptable(&service), Ok(()));
        assert!(is_preview(&service, "i1") && !is_preview(&service, "i2"));
        assert_eq!(ports_of(&service), [testing::port("", 8080)]);
        // Somebody's own, with the label only.
        service.spec.as_mut().unwrap().selector = Some(testing::strings(&[("app", "web")]));
        assert!(!is_preview(&service, "i1"));
    }

    #[test]
    fn each_of_several_ports_is_claimed_under_a_name_and_an_id_of_its_own() {
        let over_udp = PortRef {
            protocol: Protocol::Udp,
            ..testing::port("", 53)
        };
        let preview = preview(vec![
            testing::port("", 53),
            over_udp,
            testing::port("", 8080),
        ]);
        let service = made(&preview);
        let claims = intercepts(&service.metadata).unwrap();
        let ids: Vec<_> = claims.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["i1", "i1.2", "i1.3"]);
        let claimed: Vec<_> = claims.into_iter().map(|one| one.port).collect();
        assert_eq!(claimed, ports_of(&service));
        let shown: Vec<_> = claimed.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["53-tcp (53/TCP)", "53-udp (53/UDP)", "8080-tcp (8080/TCP)"]
        );
    }

    #[test]
    fn whichever_claim_of_a_preview_ends_its_service_is_meant() {
        let service = made(&preview(vec![
            testing::port("", 80),
            testing::port("", 8080),
        ]));
        for id in ["i1", "i1.2"] {
            assert!(is_preview(&service, id), "{id}");
        }
        for id in ["i2", "i2.2", "i12", "i", ""] {
            assert!(!is_preview(&service, id), "{id}");
        }
    }
}
