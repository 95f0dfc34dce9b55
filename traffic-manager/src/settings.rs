//! What the manager is told by its pod's environment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use kdev_cluster::install::{DIRECT_PORT, GRPC_PORT, HEALTH_PORT};
use kdev_cluster::vouch::OwnPod;

use crate::lease::Grace;

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
        })
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
