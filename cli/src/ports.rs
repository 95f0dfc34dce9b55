//! Ports, as they are typed.

use kdev_common::label::is_label;

/// `LOCAL[:PORT][/PROTOCOL]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    /// Where the local program listens.
    pub local: u16,
    /// The service's port; `None` where it has just one.
    pub service: Option<String>,
    /// Its protocol; `None` for the one that it has.
    pub protocol: Option<Protocol>,
}

impl Ports {
    /// The service's port as the daemon reads it.
    pub fn query(&self) -> String {
        query(self.service.as_deref().unwrap_or_default(), self.protocol)
    }
}

/// What a port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Reads what `--port` says of an intercept.
///
/// # Errors
///
/// What isn't as it should be.
pub fn parse_ports(text: &str) -> Result<Ports, String> {
    let (ports, protocol) = split_protocol(text)?;
    let (local, service) = match ports.split_once(':') {
        Some((_, "")) => return Err("the service's port is missing behind the colon".to_owned()),
        Some((local, service)) => (local, Some(service.to_owned())),
        None => (ports, None),
    };
    match local.parse() {
        Ok(local) if local != 0 => Ok(Ports {
            local,
            service,
            protocol,
        }),
        _ => Err(format!(
            "\"{local}\" isn't a port of this machine: 1 to 65535"
        )),
    }
}

/// What stands before a slash, and the protocol behind it.
fn split_protocol(text: &str) -> Result<(&str, Option<Protocol>), String> {
    let Some((port, protocol)) = text.split_once('/') else {
        return Ok((text, None));
    };
    match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Ok((port, Some(Protocol::Tcp))),
        "udp" => Ok((port, Some(Protocol::Udp))),
        _ => Err(format!("\"{protocol}\" isn't a protocol: tcp or udp")),
    }
}

/// Reads a port of a Service, by number or name or as the only one of its protocol, for the daemon.
///
/// # Errors
///
/// What isn't as it should be.
pub fn parse_service_port(text: &str) -> Result<String, String> {
    let (port, protocol) = split_protocol(text)?;
    // What begins with a digit may be a name as well, but what has nothing else is a number.
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = match (port, protocol) {
        ("", protocol) => protocol.is_some(),
        (number, _) if is_number => number.parse().is_ok_and(|number: u16| number != 0),
        (name, _) => is_label(name),
    };
    if !is_port {
        return Err(format!(
            "\"{port}\" isn't a port of a Service: a number from 1 to 65535, or a name"
        ));
    }
    Ok(query(port, protocol))
}

/// A Service's port as the daemon reads it.
fn query(port: &str, protocol: Option<Protocol>) -> String {
    match protocol {
        Some(Protocol::Tcp) => format!("{port}/tcp"),
        Some(Protocol::Udp) => format!("{port}/udp"),
        None => port.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_local_first_and_its_protocol_last() {
        let table = [
            ("8080", (8080, "")),
            ("8080:http", (8080, "http")),
            ("8080:80", (8080, "80")),
            ("5353:53/udp", (5353, "53/udp")),
            ("5353:dns/UDP", (5353, "dns/udp")),
            ("5353/udp", (5353, "/udp")),
            ("5353:53/tcp", (5353, "53/tcp")),
        ];
        for (text, (local, query)) in table {
            let ports = parse_ports(text).unwrap();
            assert_eq!(
                (ports.local, ports.query().as_str()),
                (local, query),
                "{text}"
            );
        }
        for wrong in [
            "",
            "http",
            "0",
            "65536",
            "8080:",
            ":80",
            "-1",
            "80/",
            "80:53/sctp",
            "/udp",
            "80/udp:53",
        ] {
            assert!(parse_ports(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_of_a_service_is_a_number_or_a_name_and_its_protocol_last() {
        for (text, query) in [
            ("80", "80"),
            ("http", "http"),
            ("53/UDP", "53/udp"),
            ("dns/tcp", "dns/tcp"),
            ("/udp", "/udp"),
            ("1a", "1a"),
        ] {
            assert_eq!(parse_service_port(text).as_deref(), Ok(query), "{text}");
        }
        for wrong in [
            "", "0", "65536", "80/xyz", "80/", "a b", "80/udp/x", "8080:80",
        ] {
            assert!(parse_service_port(wrong).is_err(), "{wrong}");
        }
    }
}
