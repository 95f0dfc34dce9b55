//! Making a device that is down into one that works: size, addresses, up.

use std::io;
use std::net::Ipv6Addr;
use std::time::Duration;

use futures::{TryFutureExt as _, TryStreamExt as _};
use ipnet::IpNet;
use netlink_packet_route::address::AddressHeaderFlags;
use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use netlink_packet_route::route::{RouteMessage, RouteType};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use super::super::{DeviceConfig, DeviceError, Link};
use super::create::Descriptor;
use crate::netlink::{Netlink, io_error};

/// How long the kernel may take until it takes what is sent to an address.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is asked.
const LOOK: Duration = Duration::from_millis(2);

/// Configures the device and brings it up.
pub(super) async fn configure(
    descriptor: &Descriptor,
    config: &DeviceConfig,
) -> Result<Link, DeviceError> {
    let name = &descriptor.name;
    let failed = |step: String| {
        move |source| DeviceError::Configure {
            step,
            name: name.clone(),
            source,
        }
    };
    let index = nix::net::if_::if_nametoindex(name.as_str())
        .map_err(|errno| failed("read the number".to_owned())(errno.into()))?;
    let netlink = Netlink::connect().map_err(DeviceError::Connect)?;
    let handle = netlink.handle();

    quieten(handle, index).await;
    // Without the multicast flag nobody announces services on it.
    let settings = LinkUnspec::new_with_index(index)
        .mtu(config.mtu.into())
        .txqueuelen(config.txqueuelen)
        .multicast(false);
    set(handle, settings.build())
        .map_err(failed("set MTU and queue length".to_owned()))
        .await?;
    let mut ipv6 = false;
    for address in &config.addresses {
        match add_address(handle, index, *address).await {
            Ok(()) => ipv6 |= matches!(address, IpNet::V6(_)),
            Err(error) if matches!(address, IpNet::V6(_)) && has_no_ipv6(&error) => {
                tracing::info!(device = %name, %error, "the kernel has no IPv6 on the device");
            }
            Err(error) => return Err(failed(format!("set the address {address}"))(error)),
        }
    }
    set(handle, LinkUnspec::new_with_index(index).up().build())
        .map_err(failed("change the state".to_owned()))
        .await?;
    for address in &config.addresses {
        if let IpNet::V6(own) = address
            && ipv6
        {
            until_local(handle, own.addr()).await;
        }
    }
    Ok(Link {
        name: name.clone(),
        index,
        mtu: config.mtu,
        ipv6,
        queues: 1,
        features: descriptor.features,
    })
}

/// Keeps the kernel from sending what nobody asked for: without a link-local address there are no
/// router solicitations. Where there is no IPv6, this fails and isn't needed.
async fn quieten(handle: &Handle, index: u32) {
    let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let link = LinkUnspec::new_with_index(index)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![inet6]));
    if let Err(error) = set(handle, link.build()).await {
        tracing::debug!(%error, "the device may have a link-local address");
    }
}

async fn set(handle: &Handle, message: netlink_packet_route::link::LinkMessage) -> io::Result<()> {
    handle.link().set(message).execute().await.map_err(io_error)
}

async fn add_address(handle: &Handle, index: u32, address: IpNet) -> io::Result<()> {
    let mut request = handle
        .address()
        .add(index, address.addr(), address.prefix_len());
    // Nobody else is on the device who could have it; until the kernel has found that out, it can't
    // be bound to.
    request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    request.execute().await.map_err(io_error)
}

/// Waits until the kernel takes what is sent to an address of its own. It makes the route for that some
/// time after the device is up, drops all answers before, and tells nobody.
async fn until_local(handle: &Handle, address: Ipv6Addr) {
    let taken = async {
        loop {
            let query = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(address, 128)
                .build();
            let answer = handle.route().get(query).execute();
            let is_local = |route: &RouteMessage| route.header.kind == RouteType::Local;
            match answer.try_collect::<Vec<_>>().await {
                Ok(routes) if routes.iter().any(is_local) => return,
                // There is no other way to it, or another one.
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    };
    if tokio::time::timeout(PATIENCE, taken).await.is_err() {
        tracing::warn!(%address, "the kernel may drop the first answers over IPv6");
    }
}

/// Whether the kernel has been built without IPv6, or it is switched off (`disable_ipv6`, which the
/// kernel answers with EACCES).
fn has_no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EACCES)
    )
}
