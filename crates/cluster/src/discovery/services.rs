//! Where Services' addresses come from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;

use super::prefixes::{around, covering, distinct, merged};

/// The narrowest guess: 256 addresses around one that is used.
const NARROWEST_V4: u8 = 24;
const NARROWEST_V6: u8 = 120;

/// The widest guess. Real ranges are as wide as /12 and /108, but a guess that wide could swallow
/// an office's whole network.
const WIDEST_V4: u8 = 16;
const WIDEST_V6: u8 = 112;

/// Returns the prefixes of the ServiceCIDR objects, or, where the cluster has none, prefixes around
/// the addresses that are used.
///
/// The API server draws addresses at random from a range that nobody tells. Two of them within one
/// /16 make it likely that what lies between them belongs to the range as well, so that a Service
/// made a moment later is reachable at once; beyond a /16 each part has to be seen to be believed.
pub(super) fn service_cidrs(
    declared: impl IntoIterator<Item = IpNet>,
    used: impl IntoIterator<Item = IpAddr>,
) -> Vec<IpNet> {
    let declared = distinct(declared);
    if !declared.is_empty() {
        return declared;
    }
    let mut guesses: BTreeMap<IpNet, IpNet> = BTreeMap::new();
    for address in used {
        let (widest, narrowest) = match address {
            IpAddr::V4(_) => (WIDEST_V4, NARROWEST_V4),
            IpAddr::V6(_) => (WIDEST_V6, NARROWEST_V6),
        };
        let here = around(address, narrowest);
        guesses
            .entry(around(address, widest))
            .and_modify(|guess| *guess = covering(*guess, here))
            .or_insert(here);
    }
    merged(guesses.into_values())
}

/// Returns a Service's addresses in the cluster; none if it is headless or a mere name.
pub(super) fn cluster_ips(service: &Service) -> BTreeSet<IpAddr> {
    let spec = service.spec.as_ref();
    let all = spec
        .and_then(|spec| spec.cluster_ips.as_deref())
        .unwrap_or_default();
    let first = spec.and_then(|spec| spec.cluster_ip.as_ref());
    all.iter()
        .chain(first)
        .filter_map(|ip| ip.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::prefixes::tests::{ips, nets};
    use super::*;
    use k8s_openapi::api::core::v1::ServiceSpec;

    #[test]
    fn declared_prefixes_count_and_used_addresses_fill_in_for_them() {
        let table = [
            ("10.96.0.0/16", "10.96.3.4 172.20.0.1", "10.96.0.0/16"),
            (
                "10.96.0.0/16 10.96.4.0/24 fd00::/112",
                "",
                "10.96.0.0/16 fd00::/112",
            ),
            ("", "", ""),
            ("", "10.96.0.1", "10.96.0.0/24"),
            ("", "10.96.0.1 10.96.0.10", "10.96.0.0/24"),
            ("", "10.96.0.1 10.96.3.7", "10.96.0.0/22"),
            ("", "10.96.0.1 10.96.250.7", "10.96.0.0/16"),
            ("", "10.96.0.1 10.107.2.3", "10.96.0.0/24 10.107.2.0/24"),
            (
                "",
                "10.96.0.1 10.96.250.7 10.97.3.3 10.97.200.1",
                "10.96.0.0/15",
            ),
            ("", "10.43.0.1 fd00:43::1", "10.43.0.0/24 fd00:43::/120"),
            (
                "",
                "fd00:43::1 fd00:43::3:1",
                "fd00:43::/120 fd00:43::3:0/120",
            ),
            ("", "fd00:43::1 fd00:43::301", "fd00:43::/118"),
        ];
        for (declared, used, wanted) in table {
            let found = service_cidrs(nets(declared), ips(used));
            assert_eq!(found, nets(wanted), "{declared} / {used}");
        }
    }

    #[test]
    fn a_headless_service_has_no_address() {
        let service = |ips: &[&str]| Service {
            spec: Some(ServiceSpec {
                cluster_ip: Some(ips[0].into()),
                cluster_ips: Some(ips.iter().map(|&ip| ip.into()).collect()),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        };
        assert_eq!(cluster_ips(&service(&["None"])), ips(""));
        assert_eq!(cluster_ips(&service(&[""])), ips(""));
        assert_eq!(
            cluster_ips(&service(&["10.0.0.1", "fd00::1"])),
            ips("10.0.0.1 fd00::1")
        );
    }
}
