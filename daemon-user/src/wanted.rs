//! What people want of an intercept, as they write it and are told of it: ports, rules, namespaces.

use std::net::SocketAddr;

use kdev_cluster::redirect::{PortQuery, PortRef, Protocol, ServiceName, Which};
use kdev_common::label::is_label;
use kdev_common::loopback;
use kdev_proto::Failure;
use kdev_proto::v1::{ErrorKind, InterceptPort};
use kdev_rules::Rule;

/// Finds where the local program takes what comes to a port of that protocol.
///
/// # Errors
///
/// When no program does.
pub async fn listener(
    name: &ServiceName,
    port: u16,
    protocol: Protocol,
) -> Result<SocketAddr, Failure> {
    if let Some(found) = program(port, protocol).await {
        return Ok(found);
    }
    let (other, does) = match protocol {
        Protocol::Udp => (Protocol::Tcp, "takes datagrams"),
        Protocol::Tcp | Protocol::Sctp => (Protocol::Udp, "listens"),
    };
    let other_is_there = program(port, other).await.is_some();
    let beside = match other_is_there {
        true => format!(", only on its {other} port"),
        false => String::new(),
    };
    Err(Failure::new(
        ErrorKind::LocalPort,
        format!("can't intercept {name}"),
        format!("nothing {does} on {protocol} port {port} of this machine{beside}"),
        match other_is_there {
            true => format!(
                "name the Service's {other} port, with --port LOCAL[:PORT]/{}, or start a program \
                 that takes {protocol}",
                suffix(other)
            ),
            false => "start your program first, then intercept".to_owned(),
        },
    ))
}

async fn program(port: u16, protocol: Protocol) -> Option<SocketAddr> {
    match protocol {
        Protocol::Udp => loopback::receiver(port).await,
        Protocol::Tcp | Protocol::Sctp => loopback::listener(port).await,
    }
}

/// Reads the ports of local programs, and which ones of the Service are meant with them; where they aren't any, `what`
/// says what can't be done.
///
/// # Errors
///
/// When there are none, or one isn't a port.
pub fn ports(what: &str, given: &[InterceptPort]) -> Result<Vec<(u16, PortQuery)>, Failure> {
    let refused = |why: String| {
        Failure::new(
            ErrorKind::Usage,
            what,
            why,
            "give --port LOCAL or LOCAL:PORT, where LOCAL is 1 to 65535",
        )
    };
    if given.is_empty() {
        return Err(refused("no port is given".to_owned()));
    }
    let read = |one: &InterceptPort| {
        let local = u16::try_from(one.local_port).ok().filter(|port| *port != 0);
        let local = local.ok_or_else(|| refused(format!("{} isn't a port", one.local_port)))?;
        let Ok(query) = one.port.parse::<PortQuery>();
        Ok((local, query))
    };
    given.iter().map(read).collect()
}

/// Looks whether a Service that is to be made can have its name: a label of RFC 1035 section 2.3.1, in lower case as the
/// API server wants it.
///
/// # Errors
///
/// When it can't.
pub fn new_name(name: &ServiceName) -> Result<(), Failure> {
    let text = name.name.as_str();
    if is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Ok(());
    }
    Err(Failure::new(
        ErrorKind::Usage,
        format!("can't make service {text:?}"),
        "that can't be a Service's name",
        "give one of lower case letters, digits and inner hyphens that begins with a letter, 63 characters at most",
    ))
}

/// The port of a Service that is to be made.
///
/// # Errors
///
/// When it isn't one.
pub fn new_port(name: &ServiceName, local: u16, wanted: &PortQuery) -> Result<PortRef, Failure> {
    let refused = |why: String, next: &str| {
        Failure::new(
            ErrorKind::Usage,
            format!("can't make service {name}"),
            why,
            next,
        )
    };
    let number = match &wanted.which {
        Which::Only => Some(local),
        Which::Number(number) => Some(*number).filter(|number| *number != 0),
        Which::Name(_) => None,
    };
    let Some(number) = number else {
        return Err(refused(
            format!("{wanted} isn't a port"),
            "give --port LOCAL or LOCAL:PORT, where PORT is 1 to 65535",
        ));
    };
    let protocol = wanted.protocol.unwrap_or(Protocol::Tcp);
    if protocol == Protocol::Sctp {
        return Err(refused(
            format!("{protocol} isn't carried"),
            "name a TCP or UDP port",
        ));
    }
    Ok(PortRef {
        name: String::new(),
        number,
        protocol,
    })
}

/// Looks whether the ports of a Service that is to be made differ, as the API server wants them to.
///
/// # Errors
///
/// When one is there twice.
pub fn each_once(name: &ServiceName, ports: &[PortRef]) -> Result<(), Failure> {
    let is_twice = |(at, port): &(usize, &PortRef)| ports[..*at].contains(port);
    match ports.iter().enumerate().find(is_twice) {
        None => Ok(()),
        Some((_, port)) => Err(Failure::new(
            ErrorKind::Usage,
            format!("can't make service {name}"),
            format!("port {} is given twice", shown(port)),
            "give each --port another number of the Service: --port LOCAL:PORT",
        )),
    }
}

/// A port as people are told of it.
pub fn shown(port: &PortRef) -> String {
    format!("{}/{}", port.number, port.protocol)
}

/// A protocol as people write it behind a port.
fn suffix(protocol: Protocol) -> String {
    protocol.as_str().to_lowercase()
}

/// How to have what could have been meant as well.
pub fn beside(local: u16, others: &[PortRef]) -> String {
    let all = others.iter().filter(|one| one.protocol != Protocol::Sctp);
    let all = all.map(|one| {
        let (number, protocol) = (one.number, suffix(one.protocol));
        format!(
            "; its {} port {number} is another one: --port {local}:{number}/{protocol}",
            one.protocol
        )
    });
    all.collect()
}

/// Reads a rule as the command writes it.
///
/// # Errors
///
/// When it isn't one.
pub fn rule(json: &str) -> Result<Rule, Failure> {
    let rule = match json {
        "" => Ok(Rule::default()),
        json => Rule::from_json(json),
    };
    rule.map_err(|error| {
        Failure::new(
            ErrorKind::Usage,
            "can't use the conditions",
            error.to_string(),
            "`kdev intercept --help` shows how they are written",
        )
    })
}

/// What was given, or else the default.
pub fn or(given: String, default: &str) -> String {
    if given.is_empty() {
        default.to_owned()
    } else {
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_name_is_a_label_that_begins_with_a_letter() {
        let checked = |name: &str| new_name(&ServiceName::new("shop", name));
        for right in ["a", "mine", "web-2", &"a".repeat(63)] {
            assert_eq!(checked(right), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "Bad_Name",
            "Web",
            "2web",
            "-web",
            "web-",
            "web.shop",
            "wéb",
            &"a".repeat(64),
        ] {
            assert_eq!(
                checked(wrong).unwrap_err().kind,
                ErrorKind::Usage,
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_new_services_ports_differ_in_number_or_in_protocol() {
        let name = ServiceName::new("shop", "mine");
        let ports = |queries: &[&str]| -> Vec<PortRef> {
            let query = |text: &&str| text.parse().unwrap_or_else(|never| match never {});
            let port = |text| new_port(&name, 9000, &query(text)).unwrap();
            queries.iter().map(port).collect()
        };
        for right in [&["80"][..], &["80", "81"], &["53", "53/udp"], &["", "80"]] {
            assert_eq!(each_once(&name, &ports(right)), Ok(()), "{right:?}");
        }
        for wrong in [
            &["80", "80"][..],
            &["80", "53/udp", "80/tcp"],
            &["", "9000"],
        ] {
            let refused = each_once(&name, &ports(wrong)).unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Usage, "{wrong:?}");
            assert!(refused.why.ends_with("/TCP is given twice"), "{refused}");
        }
    }
}
