//! `kdev list`.

use kdev_proto::Failure;
use kdev_proto::v1::{Holder, InterceptMode, ServicePort, ServiceSummary};
use serde::Serialize;

use super::{json, mode_name, result, table};
use crate::args::Format;

#[derive(Serialize)]
struct View<'a> {
    namespace: &'a str,
    name: &'a str,
    interceptable: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    why_not: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    external_name: &'a str,
    ports: Vec<PortView<'a>>,
}

#[derive(Serialize)]
struct PortView<'a> {
    name: &'a str,
    port: u32,
    protocol: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held: Vec<HeldView<'a>>,
}

#[derive(Serialize)]
struct HeldView<'a> {
    by: &'a str,
    since: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    rule: &'a str,
    mode: &'static str,
}

/// Shows the services.
///
/// # Errors
///
/// When JSON can't be written.
pub fn show(services: &[ServiceSummary], format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return json(&services.iter().map(view).collect::<Vec<_>>());
    }
    if services.is_empty() {
        result("no services");
        return Ok(());
    }
    let head = ["NAMESPACE", "SERVICE", "PORTS", "STATE"].map(str::to_owned);
    let rows = services.iter().map(|service| {
        let ports: Vec<String> = service.ports.iter().map(port).collect();
        [
            service.namespace.clone(),
            service.name.clone(),
            ports.join(","),
            state(service),
        ]
    });
    result(&table::lay_out(
        &std::iter::once(head).chain(rows).collect::<Vec<_>>(),
    ));
    Ok(())
}

fn view(service: &ServiceSummary) -> View<'_> {
    View {
        namespace: &service.namespace,
        name: &service.name,
        interceptable: service.why_not.is_empty(),
        why_not: &service.why_not,
        external_name: &service.external_name,
        ports: service.ports.iter().map(port_view).collect(),
    }
}

fn port_view(port: &ServicePort) -> PortView<'_> {
    let held = port.holders.iter().map(|one| HeldView {
        by: &one.by,
        since: &one.since,
        rule: &one.rule,
        mode: mode_name(one.mode()),
    });
    PortView {
        name: &port.name,
        port: port.number,
        protocol: &port.protocol,
        target: &port.target,
        held: held.collect(),
    }
}

fn port(port: &ServicePort) -> String {
    let name = if port.name.is_empty() {
        String::new()
    } else {
        format!("{}:", port.name)
    };
    format!("{name}{}/{}", port.number, port.protocol)
}

fn state(service: &ServiceSummary) -> String {
    let holders = |held: &ServicePort| {
        let port = port(held);
        let say = |one: &Holder| {
            let rule = match one.rule.as_str() {
                "" => String::new(),
                rule => format!(" for {rule}"),
            };
            let held = match one.mode() {
                InterceptMode::Unspecified | InterceptMode::Preview => "held by",
                InterceptMode::Replace => "replaced by",
                InterceptMode::Wiretap => "copied to",
            };
            format!("{port} {held} {}{rule} since {}", one.by, one.since)
        };
        held.holders.iter().map(say).collect::<Vec<_>>()
    };
    let held: Vec<String> = service.ports.iter().flat_map(holders).collect();
    match (service.why_not.is_empty(), held.is_empty()) {
        (false, _) => match service.external_name.as_str() {
            "" => service.why_not.clone(),
            host => format!("leads to {host}; {}", service.why_not),
        },
        (true, true) => "free".to_owned(),
        (true, false) => held.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_for_a_host_is_shown_with_the_host_and_why_it_cant_be_intercepted() {
        let alias = ServiceSummary {
            name: "db".to_owned(),
            why_not: "it is of type ExternalName".to_owned(),
            external_name: "db.example.com".to_owned(),
            ..ServiceSummary::default()
        };
        assert_eq!(
            state(&alias),
            "leads to db.example.com; it is of type ExternalName"
        );
        let shown = serde_json::to_value(view(&alias)).unwrap();
        assert_eq!(shown["external_name"], "db.example.com");
        let headless = ServiceSummary {
            why_not: "it is headless".to_owned(),
            ..ServiceSummary::default()
        };
        assert_eq!(state(&headless), "it is headless");
        let shown = serde_json::to_value(view(&headless)).unwrap();
        assert_eq!(shown.get("external_name"), None);
    }
}
