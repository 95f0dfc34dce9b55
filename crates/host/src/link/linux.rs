//! Multicasts of the kernel (rtnetlink(7)).
//!
//! A socket of our own: `rtnetlink` hands multicasts out through a queue without bounds, and what
//! they say in full is of no interest here.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteProtocol;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

use super::LinkError;
use crate::routes::PROTOCOL;

const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// A burst of changes is over when nothing came for so long …
const QUIET: Duration = Duration::from_millis(100);
/// … and at the latest after so long.
const BURST: Duration = Duration::from_secs(1);

/// The kernel's messages are smaller (NLMSG_GOODSIZE).
const BUFFER: usize = 32 * 1024;

/// A socket that hears of changes.
#[derive(Debug)]
pub(super) struct Changes {
    socket: AsyncFd<OwnedFd>,
    /// Something has been heard that nobody has been told of.
    heard: bool,
}

impl Changes {
    pub(super) fn listen() -> Result<Self, LinkError> {
        let open = || -> io::Result<AsyncFd<OwnedFd>> {
            let socket = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                SockProtocol::NetlinkRoute,
            )?;
            let groups = GROUPS
                .iter()
                .fold(0, |all, group| all | 1 << (*group as u32 - 1));
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
            // SAFETY: an OwnedFd always gives the same descriptor, and closes it when dropped.
            Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
        };
        Ok(Self {
            socket: open().map_err(LinkError::Listen)?,
            heard: false,
        })
    }

    pub(super) async fn changed(&mut self) -> io::Result<()> {
        while !self.heard {
            self.hear().await?;
        }
        let end = Instant::now() + BURST;
        while let Ok(heard) = timeout_at(end.min(Instant::now() + QUIET), self.hear()).await {
            heard?;
        }
        self.heard = false;
        Ok(())
    }

    /// Waits for messages and notes whether one of them matters.
    async fn hear(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let mut ready = self.socket.readable().await?;
            let received = ready.try_io(|socket| {
                Ok(recv(
                    socket.get_ref().as_raw_fd(),
                    &mut buffer,
                    MsgFlags::empty(),
                )?)
            });
            match received {
                Ok(Ok(length)) => self.heard |= concerns_others(&buffer[..length]),
                // What was too much for the socket's buffer has been lost, and may have mattered.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => self.heard = true,
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_nothing_there) => return Ok(()),
            }
        }
    }
}

/// Whether one of the messages is about anything but routes of ours.
fn concerns_others(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) else {
            return true;
        };
        let own = match message.payload {
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
            ) => route.header.protocol == RouteProtocol::Other(PROTOCOL),
            _ => false,
        };
        if !own {
            return true;
        }
        // Messages are aligned to four bytes.
        let length = (message.header.length as usize).next_multiple_of(4).max(4);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    false
}
