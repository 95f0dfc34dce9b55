//! Routes as the kernel lists them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteNextHop, RouteType, RouteVia,
};

use super::super::{LocalRoute, RouteKind};

/// The names of network devices by their numbers.
pub(super) type Names = HashMap<u32, String>;

/// A route as the kernel lists it.
pub(super) struct Listed {
    pub(super) route: LocalRoute,
    pub(super) device: Option<u32>,
    pub(super) protocol: u8,
}

/// Reads a route; one with several next hops is as many.
pub(super) fn read(message: &RouteMessage, names: &Names) -> Vec<Listed> {
    let header = &message.header;
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return Vec::new(),
    };
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => RouteKind::Blocked,
        _ => return Vec::new(),
    };
    let mut target = any;
    let mut table = u32::from(header.table);
    let mut hops: Vec<(Option<u32>, Option<IpAddr>)> = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => target = ip(address).unwrap_or(any),
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::MultiPath(all) => hops.extend(all.iter().map(hop)),
            _ => {}
        }
    }
    if hops.is_empty() {
        hops.push((output(&message.attributes), gateway(&message.attributes)));
    }
    let Ok(prefix) = IpNet::new(target, header.destination_prefix_length) else {
        return Vec::new();
    };
    hops.into_iter()
        .map(|(device, via)| {
            let owner = match (header.kind, device) {
                (RouteType::BlackHole, _) => "blackhole".to_owned(),
                (RouteType::Unreachable, _) => "unreachable".to_owned(),
                (RouteType::Prohibit, _) => "prohibit".to_owned(),
                (_, Some(index)) => names
                    .get(&index)
                    .cloned()
                    .unwrap_or_else(|| format!("device {index}")),
                (_, None) => "an unknown device".to_owned(),
            };
            let route = LocalRoute {
                prefix: prefix.trunc(),
                owner,
                via,
                table,
                kind,
            };
            Listed {
                route,
                device,
                protocol: header.protocol.into(),
            }
        })
        .collect()
}

fn hop(hop: &RouteNextHop) -> (Option<u32>, Option<IpAddr>) {
    (Some(hop.interface_index), gateway(&hop.attributes))
}

fn output(attributes: &[RouteAttribute]) -> Option<u32> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
