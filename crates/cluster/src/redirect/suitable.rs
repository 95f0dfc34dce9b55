//! Whether a Service can be redirected at all.

use k8s_openapi::api::core::v1::Service;
use thiserror::Error;

use super::api::ServiceName;
use super::intercept::{original, selector};
use super::port::{Protocol, ports_of};
use crate::install::{LABEL_NAME, MANAGER};

/// Why a Service can't be redirected; the text completes "can't be intercepted: ".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotInterceptable {
    /// `clusterIP: None`: names lead straight to the pods.
    #[error(
        "it is headless, so clients connect to the pods themselves, where only an agent in the pods can intercept them, and kdev has none yet. Intercept a Service with a cluster IP in front of the same pods"
    )]
    Headless,
    /// A CNAME, nothing more.
    #[error(
        "it is of type ExternalName, only another name for a host, so only an agent in the pods of its clients can intercept them, and kdev has none yet. Intercept a Service of the cluster that the name leads to, if it is one"
    )]
    ExternalName,
    /// Nobody but its author knows where its connections go.
    #[error(
        "it has no selector: its endpoints are written by hand or by another tool. Intercept a Service that selects pods"
    )]
    NoSelector,
    /// kdev's own.
    #[error(
        "it leads to kdev's own traffic manager. Intercept a Service of a program that you work on"
    )]
    Manager,
    /// A protocol that the router doesn't speak.
    #[error("the port's protocol is SCTP. Only TCP and UDP ports can be intercepted")]
    Protocol,
    /// No port with a protocol that the router speaks.
    #[error("its ports are SCTP. Only TCP and UDP ports can be intercepted")]
    NoPort,
    /// Conditions on what has no requests.
    #[error(
        "the port's protocol is UDP, and conditions (--header, --path, --mine and the like) tell requests of HTTP over TCP apart; of a UDP port every datagram comes. Leave the conditions out"
    )]
    RuleOnDatagrams,
}

/// The host that a Service of type ExternalName is another name for.
pub(crate) fn external_name(service: &Service) -> Option<&str> {
    let spec = service.spec.as_ref()?;
    let is_one = spec.type_.as_deref() == Some("ExternalName");
    spec.external_name.as_deref().filter(|_| is_one)
}

/// The Service of this cluster that a host's name is for, as far as the name tells: `web.shop.svc`, and whatever the
/// cluster's domain is behind it.
pub(super) fn service_at(host: &str) -> Option<ServiceName> {
    let mut labels = host.split('.');
    let (name, namespace, kind) = (labels.next()?, labels.next()?, labels.next()?);
    (kind == "svc").then(|| ServiceName::new(namespace, name))
}

/// Says whether `service` can be redirected, or is at present.
pub fn interceptable(service: &Service) -> Result<(), NotInterceptable> {
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        return Err(NotInterceptable::ExternalName);
    }
    if spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        return Err(NotInterceptable::Headless);
    }
    let labels = service.metadata.labels.as_ref();
    if labels
        .and_then(|labels| labels.get(LABEL_NAME))
        .is_some_and(|name| name == MANAGER)
    {
        return Err(NotInterceptable::Manager);
    }
    let cleared = matches!(original(&service.metadata), Ok(Some(_)));
    if selector(service).is_none() && !cleared {
        return Err(NotInterceptable::NoSelector);
    }
    if !ports_of(service)
        .iter()
        .any(|port| port.protocol != Protocol::Sctp)
    {
        return Err(NotInterceptable::NoPort);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirect::testing;

    #[test]
    fn only_a_service_with_a_cluster_ip_and_a_selector_can_be_intercepted() {
        let web = testing::service("web", &[("", 80, "TCP")]);
        assert_eq!(interceptable(&web), Ok(()));

        let dns = testing::service("dns", &[("", 53, "UDP")]);
        assert_eq!(interceptable(&dns), Ok(()));

        let calls = testing::service("calls", &[("", 5060, "SCTP")]);
        assert_eq!(interceptable(&calls), Err(NotInterceptable::NoPort));

        let mut headless = web.clone();
        headless.spec.as_mut().unwrap().cluster_ip = Some("None".into());
        assert_eq!(interceptable(&headless), Err(NotInterceptable::Headless));

        let mut own = web.clone();
        own.metadata.labels = Some([(LABEL_NAME.to_owned(), MANAGER.to_owned())].into());
        assert_eq!(interceptable(&own), Err(NotInterceptable::Manager));

        let mut external = web.clone();
        external.spec.as_mut().unwrap().type_ = Some("ExternalName".into());
        assert_eq!(
            interceptable(&external),
            Err(NotInterceptable::ExternalName)
        );

        let mut bare = web.clone();
        bare.spec.as_mut().unwrap().selector = None;
        assert_eq!(interceptable(&bare), Err(NotInterceptable::NoSelector));
        bare.spec.as_mut().unwrap().selector = Some([].into());
        assert_eq!(interceptable(&bare), Err(NotInterceptable::NoSelector));
    }

    #[test]
    fn an_external_name_tells_where_it_leads() {
        let mut alias = testing::service("alias", &[("", 80, "TCP")]);
        assert_eq!(external_name(&alias), None);
        let spec = alias.spec.as_mut().unwrap();
        spec.type_ = Some("ExternalName".into());
        spec.external_name = Some("db.shop.svc.cluster.local".into());
        let host = external_name(&alias).unwrap();
        assert_eq!(service_at(host), Some(ServiceName::new("shop", "db")));
        assert_eq!(service_at("db.shop.svc"), service_at(host));
        for outside in ["www.example.com", "db.shop", "svc", ""] {
            assert_eq!(service_at(outside), None, "{outside}");
        }
    }

    #[test]
    fn a_service_that_is_redirected_already_stays_interceptable() {
        let mut service = testing::service("web", &[("", 80, "TCP")]);
        testing::clear(&mut service, &[("app", "web")]);
        assert_eq!(interceptable(&service), Ok(()));
    }
}
