//! A Service's ports, and how people name them.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use serde::{Deserialize, Serialize};

/// The protocol of a Service's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, which can be passed on but not intercepted.
    Sctp,
}

impl Protocol {
    /// Reads the API's spelling; the default is TCP, as it is the API server's.
    pub fn from_api(name: Option<&str>) -> Self {
        match name {
            Some("UDP") => Self::Udp,
            Some("SCTP") => Self::Sctp,
            _ => Self::Tcp,
        }
    }

    /// Reads what a person writes behind a slash.
    pub fn from_suffix(text: &str) -> Option<Self> {
        let all = [Self::Tcp, Self::Udp, Self::Sctp];
        all.into_iter()
            .find(|one| one.as_str().eq_ignore_ascii_case(text))
    }

    /// Returns the API's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRef {
    /// The name; empty for a single port without one.
    #[serde(default)]
    pub name: String,
    /// The Service's own port, not the pod's.
    pub number: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl PortRef {
    /// Names a port of a Service.
    pub fn of(port: &ServicePort) -> Self {
        Self {
            name: port.name.clone().unwrap_or_default(),
            number: u16::try_from(port.port).unwrap_or_default(),
            protocol: Protocol::from_api(port.protocol.as_deref()),
        }
    }

    /// Returns whether `port` is the one meant: number and protocol are what the API keeps unique,
    /// while a name may be changed.
    pub fn is(&self, port: &ServicePort) -> bool {
        let other = Self::of(port);
        (self.number, self.protocol) == (other.number, other.protocol)
    }
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            number,
            protocol,
        } = self;
        match name.as_str() {
            "" => write!(f, "{number}/{protocol}"),
            name => write!(f, "{name} ({number}/{protocol})"),
        }
    }
}

/// A person's way to say which port of a Service: by number, by name, or not at all where there is only one;
/// and by protocol where it could be several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortQuery {
    /// Its number or name.
    pub which: Which,
    /// Its protocol, where it was said.
    pub protocol: Option<Protocol>,
}

/// See [`PortQuery`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The only one.
    Only,
    /// By name.
    Name(String),
    /// By number.
    Number(u16),
}

impl FromStr for PortQuery {
    type Err = Infallible;

    /// Reads `http`, `80`, `53/udp`, `dns/udp`, `/udp`, or nothing.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (which, protocol) = match text.rsplit_once('/') {
            Some((which, protocol)) => match Protocol::from_suffix(protocol) {
                Some(protocol) => (which, Some(protocol)),
                None => (text, None),
            },
            None => (text, None),
        };
        let which = match which.parse() {
            Ok(number) => Which::Number(number),
            Err(_) if which.is_empty() => Which::Only,
            Err(_) => Which::Name(which.to_owned()),
        };
        Ok(Self { which, protocol })
    }
}

impl fmt::Display for PortQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::Only => f.write_str("(the only one)")?,
            Which::Name(name) => f.write_str(name)?,
            Which::Number(number) => write!(f, "{number}")?,
        }
        match self.protocol {
            Some(protocol) => write!(f, "/{protocol}"),
            None => Ok(()),
        }
    }
}

impl From<&PortRef> for PortQuery {
    /// Means this port and no other.
    fn from(port: &PortRef) -> Self {
        Self {
            which: Which::Number(port.number),
            protocol: Some(port.protocol),
        }
    }
}

impl PortQuery {
    /// Finds the port of `service` that is meant; `None` if there is no such port, or several. Where
    /// several protocols share what was said, TCP is meant.
    pub fn find(&self, service: &Service) -> Option<PortRef> {
        let mut matching = ports_of(service);
        matching.retain(|port| self.matches(port));
        if matching.len() > 1 {
            matching.retain(|port| port.protocol == Protocol::Tcp);
        }
        let port = matching.pop()?;
        matching.is_empty().then_some(port)
    }

    /// Those that may be meant as well, of another protocol than the one that was found.
    pub fn others(&self, service: &Service, found: &PortRef) -> Vec<PortRef> {
        let mut others = ports_of(service);
        others.retain(|port| self.matches(port) && port.protocol != found.protocol);
        others
    }

    /// Returns whether `port` may be meant.
    pub fn matches(&self, port: &PortRef) -> bool {
        let is_it = match &self.which {
            Which::Only => true,
            Which::Name(name) => port.name == *name,
            Which::Number(number) => port.number == *number,
        };
        is_it && self.protocol.is_none_or(|said| said == port.protocol)
    }
}

/// Returns the ports of a Service in their order.
pub fn ports_of(service: &Service) -> Vec<PortRef> {
    api_ports(service).iter().map(PortRef::of).collect()
}

pub(super) fn api_ports(service: &Service) -> &[ServicePort] {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirect::testing;

    fn dns() -> Service {
        testing::service(
            "dns",
            &[
                ("dns", 53, "UDP"),
                ("dns-tcp", 53, "TCP"),
                ("metrics", 9153, "TCP"),
            ],
        )
    }

    #[test]
    fn a_port_is_found_by_name_by_number_and_alone() {
        let table = [
            ("dns", Some(("dns", Protocol::Udp))),
            ("metrics", Some(("metrics", Protocol::Tcp))),
            ("9153", Some(("metrics", Protocol::Tcp))),
            ("53/udp", Some(("dns", Protocol::Udp))),
            ("53/TCP", Some(("dns-tcp", Protocol::Tcp))),
            ("dns/udp", Some(("dns", Protocol::Udp))),
            ("dns/tcp", None),
            ("/udp", Some(("dns", Protocol::Udp))),
            // TCP and UDP share it.
            ("53", Some(("dns-tcp", Protocol::Tcp))),
            ("9153/udp", None),
            ("http", None),
            ("", None),
            ("65536", None),
        ];
        for (text, wanted) in table {
            let query: PortQuery = text.parse().unwrap();
            let found = query.find(&dns());
            let found = found
                .as_ref()
                .map(|port| (port.name.as_str(), port.protocol));
            assert_eq!(found, wanted, "{text:?}");
        }
        let single = testing::service("web", &[("", 80, "TCP")]);
        let only: PortQuery = "".parse().unwrap();
        let found = only.find(&single).unwrap();
        assert_eq!(found.to_string(), "80/TCP");
        assert_eq!(PortQuery::from(&found).to_string(), "80/TCP");
    }

    #[test]
    fn a_number_of_two_protocols_means_tcp_and_the_other_is_known() {
        let query: PortQuery = "53".parse().unwrap();
        let found = query.find(&dns()).unwrap();
        let others = query.others(&dns(), &found);
        assert_eq!(others.len(), 1);
        assert_eq!(others[0].to_string(), "dns (53/UDP)");
        let exact: PortQuery = "53/tcp".parse().unwrap();
        assert!(exact.others(&dns(), &found).is_empty());
    }

    #[test]
    fn a_port_that_is_renamed_is_still_the_same() {
        let intercepted = "9153".parse::<PortQuery>().unwrap().find(&dns()).unwrap();
        let mut port = api_ports(&dns())[2].clone();
        port.name = Some("stats".into());
        assert!(intercepted.is(&port));
        port.port = 9154;
        assert!(!intercepted.is(&port));
    }
}
