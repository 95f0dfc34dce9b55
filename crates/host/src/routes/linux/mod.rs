//! Routes of Linux (rtnetlink(7)).

mod listed;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt as _;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::route::{RouteFlags, RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::RouteMessageBuilder;

use self::listed::{Listed, Names, read};
use super::plan::{difference, plan, sample};
use super::{
    Answer, Conflict, DesiredRoutes, LocalRoute, MAIN_TABLE, PROTOCOL, Problem, RouteReport,
    RouteState, RoutesError,
};
use crate::device::Device;
use crate::netlink::{Netlink, io_error};

/// The routes' metric. Larger than what others use, so that a VPN that comes up later can add the
/// same prefix, and has it.
const METRIC: u32 = 2048;

/// The routes over one device.
#[derive(Debug)]
pub(super) struct Routes {
    netlink: Netlink,
    device: String,
    index: u32,
    ipv6: bool,
}

impl Routes {
    pub(super) fn new(device: &Device) -> Result<Self, RoutesError> {
        Ok(Self {
            netlink: Netlink::connect().map_err(RoutesError::Connect)?,
            device: device.name().to_owned(),
            index: device.index(),
            ipv6: device.ipv6(),
        })
    }

    pub(super) async fn local_routes(&self) -> Result<Vec<LocalRoute>, RoutesError> {
        let names = self.names().await?;
        let listed = self.list(&names).await?;
        Ok(listed.into_iter().map(|listed| listed.route).collect())
    }

    pub(super) async fn apply(
        &mut self,
        desired: &DesiredRoutes,
    ) -> Result<RouteReport, RoutesError> {
        let names = self.names().await?;
        if !names.contains_key(&self.index) {
            return Err(RoutesError::DeviceGone {
                device: self.device.clone(),
            });
        }
        let (own, others): (Vec<_>, Vec<_>) = self
            .list(&names)
            .await?
            .into_iter()
            .partition(|listed| listed.device == Some(self.index));
        let present: BTreeSet<IpNet> = own
            .into_iter()
            .filter(|own| own.protocol == PROTOCOL && own.route.table == MAIN_TABLE)
            .map(|own| own.route.prefix)
            .collect();
        let others: Vec<LocalRoute> = others.into_iter().map(|listed| listed.route).collect();
        let mut routes = plan(desired, &others, self.ipv6);
        let wanted = routes
            .iter()
            .flat_map(|state| &state.installed)
            .copied()
            .collect();
        let (mut add, remove) = difference(&wanted, &present);
        // What is wanted comes first, so that no address is without a route for a moment.
        let mut refused = Vec::new();
        for prefix in &add {
            if let Err(error) = self.add(*prefix).await {
                refused.push((*prefix, error.to_string()));
            }
        }
        for prefix in &remove {
            self.remove(*prefix)
                .await
                .map_err(|source| RoutesError::Remove {
                    prefix: *prefix,
                    source,
                })?;
        }
        for (prefix, reason) in refused {
            add.retain(|added| *added != prefix);
            for state in &mut routes {
                refuse(state, prefix, &reason);
            }
        }
        for state in &mut routes {
            if let Some(conflict) = self.shadow(state, &others, &names).await {
                state.conflicts.push(conflict);
            }
        }
        tracing::debug!(device = %self.device, added = ?add, removed = ?remove, "routes applied");
        Ok(RouteReport {
            routes,
            added: add,
            removed: remove,
        })
    }

    async fn names(&self) -> Result<Names, RoutesError> {
        let links: Vec<_> = self
            .netlink
            .handle()
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|error| RoutesError::List {
                what: "network devices",
                source: io_error(error),
            })?;
        let name = |attributes: &[LinkAttribute]| {
            attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            })
        };
        Ok(links
            .into_iter()
            .filter_map(|link| Some((link.header.index, name(&link.attributes)?)))
            .collect())
    }

    async fn list(&self, names: &Names) -> Result<Vec<Listed>, RoutesError> {
        let mut listed = Vec::new();
        for query in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let family = query.header.address_family;
            let messages = self.netlink.handle().route().get(query).execute();
            let messages: Result<Vec<RouteMessage>, _> = messages.try_collect().await;
            match messages.map_err(io_error) {
                Ok(messages) => {
                    listed.extend(messages.iter().flat_map(|message| read(message, names)));
                }
                // A kernel without IPv6 has no routes of it.
                Err(error)
                    if family == AddressFamily::Inet6
                        && matches!(
                            error.raw_os_error(),
                            Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)
                        ) => {}
                Err(source) => {
                    return Err(RoutesError::List {
                        what: "routes",
                        source,
                    });
                }
            }
        }
        Ok(listed)
    }

    async fn add(&self, prefix: IpNet) -> io::Result<()> {
        let message = self.message(prefix);
        self.netlink
            .handle()
            .route()
            .add(message)
            .execute()
            .await
            .map_err(io_error)
    }

    async fn remove(&self, prefix: IpNet) -> io::Result<()> {
        let message = self.message(prefix);
        match self
            .netlink
            .handle()
            .route()
            .del(message)
            .execute()
            .await
            .map_err(io_error)
        {
            // Somebody was faster.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            done => done,
        }
    }

    fn message(&self, prefix: IpNet) -> RouteMessage {
        let protocol = RouteProtocol::Other(PROTOCOL);
        match prefix {
            IpNet::V4(prefix) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(prefix.addr(), prefix.prefix_len())
                .output_interface(self.index)
                .scope(RouteScope::Link)
                .protocol(protocol)
                .priority(METRIC)
                .build(),
            IpNet::V6(prefix) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(prefix.addr(), prefix.prefix_len())
                .output_interface(self.index)
                .protocol(protocol)
                .priority(METRIC)
                .build(),
        }
    }

    /// Asks the kernel where a packet would really go: rules for other tables come before the main
    /// one on machines with a VPN.
    async fn shadow(
        &self,
        state: &RouteState,
        others: &[LocalRoute],
        names: &Names,
    ) -> Option<Conflict> {
        let address = sample(state, others)?;
        let mut query = match address {
            IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(address, 32)
                .build(),
            IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(address, 128)
                .build(),
        };
        // Answers with the route and not with the address.
        query.header.flags = RouteFlags::FibMatch;
        let answer = self.netlink.handle().route().get(query).execute();
        let answer: Vec<RouteMessage> = match answer.try_collect().await.map_err(io_error) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%address, %error, "the kernel doesn't say where it goes");
                return None;
            }
        };
        let taken = answer
            .iter()
            .flat_map(|message| read(message, names))
            .next()?;
        (taken.device != Some(self.index)).then_some(Conflict {
            with: taken.route.prefix,
            owner: taken.route.owner,
            via: taken.route.via,
            answer: Answer::Shadowed,
        })
    }
}

fn refuse(state: &mut RouteState, prefix: IpNet, reason: &str) {
    let before = state.installed.len();
    state.installed.retain(|installed| *installed != prefix);
    if state.installed.len() < before {
        state.problem = Some(Problem::Refused {
            prefix,
            reason: reason.to_owned(),
        });
    }
}
