//! What the manager is told by its pod's environment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use kdev_cluster::install::{DIRECT_PORT, GRPC_PORT, HEALTH_PORT};
use kdev_cluster::vouch::OwnPod;

use crate::lease::Grace;
use crate::router::PortLimits;

/// The manager's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The pod that it lives in.
    pub pod: OwnPod,
    /// Addresses of its pod, where its router listens: one per address family.
    pub pod_ips: Vec<IpAddr>,
    /// The node that the pod is on, where that is known.
    pub node: Option<String>,
    /// Where sessions arrive over port-forwards.
    pub sessions: SocketAddr,
    /// Where they arrive directly: both address families, or one where there is no other.
    pub direct: [SocketAddr; 2],
    /// Where the kubelet asks.
    pub health: [SocketAddr; 2],
    /// How long a session may be away.
    pub grace: Grace,
    /// What the router's ports take.
    pub router: PortLimits,
}

/// A variable that is missing or can't be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("environment variable {name}: {why}; `kdev install` writes a Deployment that sets it")]
pub struct SettingsError {
    name: &'static str,
    why: String,
}

impl Settings {
    /// Reads them from variables, as found by `get`.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or wrong.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let pod = OwnPod {
            namespace: required(&get, "KDEV_NAMESPACE")?,
            name: required(&get, "KDEV_POD_NAME")?,
            uid: required(&get, "KDEV_POD_UID")?,
        };
        let everywhere = |port| {
            [
                (Ipv6Addr::UNSPECIFIED, port).into(),
                (Ipv4Addr::UNSPECIFIED, port).into(),
            ]
        };
        let pod_ips = required(&get, "KDEV_POD_IPS")?
            .split(',')
            .map(|ip| parse("KDEV_POD_IPS", ip.trim()))
            .collect::<Result<_, _>>()?;
        let default = Grace::default();
        let grace = match get("KDEV_SESSION_GRACE_SECONDS") {
            None => default,
            Some(seconds) => {
                let gone = parse("KDEV_SESSION_GRACE_SECONDS", &seconds)?;
                let gone = Duration::from_secs(gone);
                Grace {
                    gone,
                    silent: default.silent.max(gone),
                }
            }
        };
        Ok(Self {
            pod,
            pod_ips,
            node: get("KDEV_NODE_NAME").filter(|node| !node.is_empty()),
            sessions: (Ipv4Addr::LOCALHOST, GRPC_PORT).into(),
            direct: everywhere(DIRECT_PORT),
            health: everywhere(HEALTH_PORT),
            grace,
            router: router(&get)?,
        })
    }
}

/// The router's limits, each as usual unless a variable says otherwise.
fn router(get: &impl Fn(&str) -> Option<String>) -> Result<PortLimits, SettingsError> {
    let number = |name: &'static str| -> Result<Option<u32>, SettingsError> {
        let value = get(name).map(|value| parse::<NonZeroU32>(name, &value));
        Ok(value.transpose()?.map(NonZeroU32::get))
    };
    let count =
        |name| number(name).map(|value| value.and_then(|value| usize::try_from(value).ok()));
    let millis = |name| number(name).map(|value| value.map(|it| Duration::from_millis(it.into())));
    let mut limits = PortLimits::default();
    let connection = &mut limits.connection;
    set(&mut connection.head_bytes, count("KDEV_ROUTER_HEAD_BYTES")?);
    set(&mut connection.headers, count("KDEV_ROUTER_HEADERS")?);
    set(
        &mut connection.first_byte,
        millis("KDEV_ROUTER_FIRST_BYTE_MS")?,
    );
    set(&mut connection.head_time, millis("KDEV_ROUTER_HEAD_MS")?);
    set(&mut limits.connections, count("KDEV_ROUTER_CONNECTIONS")?);
    Ok(limits)
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn required(
    get: impl Fn(&str) -> Option<String>,
    name: &'static str,
) -> Result<String, SettingsError> {
    get(name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| SettingsError {
            name,
            why: "isn't set".to_owned(),
        })
}

fn parse<T: FromStr<Err: std::fmt::Display>>(
    name: &'static str,
    value: &str,
) -> Result<T, SettingsError> {
    value.parse().map_err(|error| SettingsError {
        name,
        why: format!("\"{value}\": {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "KDEV_NAMESPACE" => Some("kdev".to_owned()),
            "KDEV_POD_NAME" => Some("manager-1".to_owned()),
            "KDEV_POD_UID" => Some("1234".to_owned()),
            "KDEV_POD_IPS" => Some("10.1.2.3, fd00::3".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn a_dual_stack_pod_has_both_addresses() {
        let settings = Settings::from_env(environment).unwrap();
        assert_eq!(settings.pod_ips.len(), 2);
        assert_eq!(settings.grace, Grace::default());
    }

    #[test]
    fn each_limit_of_the_router_has_a_variable() {
        let values = [
            ("KDEV_ROUTER_HEAD_BYTES", "1000"),
            ("KDEV_ROUTER_HEADERS", "20"),
            ("KDEV_ROUTER_FIRST_BYTE_MS", "30"),
            ("KDEV_ROUTER_HEAD_MS", "40"),
            ("KDEV_ROUTER_CONNECTIONS", "50"),
        ];
        let get = |name: &str| {
            let value = values.iter().find(|(set, _)| *set == name);
            value.map_or_else(|| environment(name), |(_, value)| Some((*value).to_owned()))
        };
        let limits = Settings::from_env(get).unwrap().router;
        let connection = &limits.connection;
        assert_eq!((connection.head_bytes, connection.headers), (1000, 20));
        assert_eq!(connection.first_byte, Duration::from_millis(30));
        assert_eq!(connection.head_time, Duration::from_millis(40));
        assert_eq!(limits.connections, 50);
        let usual = Settings::from_env(environment).unwrap().router;
        assert_eq!(usual, PortLimits::default());
        let get = |name: &str| match name {
            "KDEV_ROUTER_HEADERS" => Some("0".to_owned()),
            other => environment(other),
        };
        let error = Settings::from_env(get).unwrap_err().to_string();
        assert!(error.contains("KDEV_ROUTER_HEADERS"), "{error}");
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = Settings::from_env(|_| None).unwrap_err();
        assert!(error.to_string().contains("KDEV_NAMESPACE"));
    }

    #[test]
    fn a_wrong_variable_is_named_with_its_value() {
        let get = |name: &str| match name {
            "KDEV_SESSION_GRACE_SECONDS" => Some("soon".to_owned()),
            other => environment(other),
        };
        let error = Settings::from_env(get).unwrap_err().to_string();
        assert!(error.contains("KDEV_SESSION_GRACE_SECONDS") && error.contains("soon"));
    }
}
