//! Which ports of a Service people mean.

use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};

use super::api::ServiceName;
use super::claim::{ClaimError, refused, unsuitable};
use super::port::{PortQuery, PortRef, Which, ports_of};
use super::suitable::interceptable;
use crate::client::call;

/// Finds which ports of a Service are meant, each with those that are of another protocol and could be meant as well.
///
/// # Errors
///
/// When there is no such Service, one of the ports doesn't exist or, where each can be meant only once, is another one of
/// them, or the user may not look.
pub async fn find_ports(
    client: &Client,
    name: &ServiceName,
    wanted: &[PortQuery],
    each_once: bool,
) -> Result<Vec<(PortRef, Vec<PortRef>)>, ClaimError> {
    let services: Api<Service> = Api::namespaced(client.clone(), &name.namespace);
    let read = call(format!("read service {name}"), services.get_opt(&name.name));
    let Some(service) = read.await.map_err(refused)? else {
        return Err(ClaimError::ServiceNotFound {
            service: name.clone(),
        });
    };
    // What is no port of a Service that can't be intercepted anyway isn't worth a word.
    interceptable(&service).map_err(|why| unsuitable(name, &service, why))?;
    let found = wanted.iter().map(|query| meant(name, &service, query));
    let found = found.collect::<Result<Vec<_>, _>>()?;
    if each_once {
        differ(name, wanted, &found)?;
    }
    let others = |(query, port): (&PortQuery, PortRef)| {
        let others = query.others(&service, &port);
        (port, others)
    };
    Ok(wanted.iter().zip(found).map(others).collect())
}

/// Looks whether all ports that were found differ.
fn differ(name: &ServiceName, wanted: &[PortQuery], found: &[PortRef]) -> Result<(), ClaimError> {
    for (at, port) in found.iter().enumerate() {
        if let Some(before) = found[..at].iter().position(|other| other == port) {
            return Err(ClaimError::PortTwice {
                service: name.clone(),
                port: port.clone(),
                named: Box::new((wanted[before].clone(), wanted[at].clone())),
            });
        }
    }
    Ok(())
}

/// The port that is meant.
pub(super) fn meant(
    name: &ServiceName,
    service: &Service,
    wanted: &PortQuery,
) -> Result<PortRef, ClaimError> {
    let found = wanted.find(service);
    found.ok_or_else(|| ClaimError::PortNotFound {
        service: name.clone(),
        wanted: wanted.clone(),
        available: ports_of(service),
    })
}

/// What people are told of [`ClaimError::PortNotFound`]: where no port was named, there are several or none of its protocol; else there is none of that name.
pub(super) fn no_such_port(
    service: &ServiceName,
    wanted: &PortQuery,
    available: &[PortRef],
) -> String {
    let kind = match wanted.protocol {
        Some(protocol) => format!("{protocol} "),
        None => String::new(),
    };
    let meant: Vec<_> = available
        .iter()
        .filter(|one| wanted.matches(one))
        .cloned()
        .collect();
    let why = match (&wanted.which, meant.len()) {
        (Which::Only, 0) => format!("has no {kind}port, only {}", list(available)),
        (Which::Only, several) => format!(
            "has {several} {kind}ports, and none of them was named: {}",
            list(&meant)
        ),
        _ => format!("has no port {wanted}, only {}", list(available)),
    };
    format!(
        "service {service} {why}. Name one of them behind the local port: --port LOCAL:PORT, where PORT is its name or \
         its number"
    )
}

fn list(ports: &[PortRef]) -> String {
    let ports: Vec<_> = ports.iter().map(PortRef::to_string).collect();
    ports.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirect::testing;

    #[test]
    fn ports_that_are_wanted_together_exist_and_differ() {
        let name = ServiceName::new("shop", "web");
        let ports = [
            ("http", 80, "TCP"),
            ("grpc", 90, "TCP"),
            ("sctp", 91, "SCTP"),
        ];
        let web = testing::service("web", &ports);
        let together = |wanted: &[&str]| {
            let query = |text: &&str| text.parse().unwrap_or_else(|never| match never {});
            let wanted: Vec<PortQuery> = wanted.iter().map(query).collect();
            let found = wanted.iter().map(|query| meant(&name, &web, query));
            let found = found.collect::<Result<Vec<_>, _>>()?;
            differ(&name, &wanted, &found)
        };
        assert!(together(&["http", "90", "sctp"]).is_ok());
        for (wanted, names) in [
            (&["80", "http"][..], "as 80 and as http"),
            (&["http", "grpc", "80/tcp"], "as http and as 80/TCP"),
        ] {
            assert_eq!(
                together(wanted).unwrap_err().to_string(),
                format!(
                    "port http (80/TCP) of service shop/web is named twice, {names}. Give each port of the Service once"
                )
            );
        }
        // Also two that come after the first.
        let later = together(&["http", "grpc", "90"]).unwrap_err().to_string();
        assert!(later.contains("as grpc and as 90"), "{later}");
        let missing = together(&["http", "https"]).unwrap_err();
        assert!(matches!(missing, ClaimError::PortNotFound { .. }));
    }
}
