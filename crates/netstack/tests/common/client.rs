//! A model of the machine's own kernel: a second smoltcp interface with ordinary sockets.

use std::collections::VecDeque;
use std::net::SocketAddr;

use kdev_netstack::Checksum;
use smoltcp::iface::{self, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::MOST_PACKETS;

pub const V4: [u8; 4] = [10, 0, 0, 1];
pub const V6: [u16; 8] = [0xfd00, 0, 0, 0, 0, 0, 0, 1];

pub struct Client {
    pub iface: Interface,
    pub queues: Queues,
    pub sockets: SocketSet<'static>,
    next_port: u16,
}

/// The client's side of the device.
#[derive(Default)]
pub struct Queues {
    pub incoming: VecDeque<Vec<u8>>,
    pub outgoing: VecDeque<Vec<u8>>,
    pub offload: bool,
}

pub struct Rx(Vec<u8>);
pub struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut packet = vec![0; len];
        let result = write(&mut packet);
        self.0.push_back(packet);
        assert!(self.0.len() < MOST_PACKETS, "the client sends without end");
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.incoming.pop_front()?), Tx(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1_500;
        if self.offload {
            capabilities.max_transmission_unit = 65_535;
            capabilities.checksum.tcp = phy::Checksum::Rx;
            capabilities.segmentation.tcpv4 = std::num::NonZeroUsize::new(65_535);
            capabilities.segmentation.tcpv6 = std::num::NonZeroUsize::new(65_535);
        }
        capabilities
    }
}

impl Client {
    pub fn new(offload: bool) -> Self {
        let mut queues = Queues {
            offload,
            ..Queues::default()
        };
        let config = iface::Config::new(HardwareAddress::Ip);
        let mut iface = Interface::new(config, &mut queues, Instant::from_micros(0));
        iface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(IpAddress::from(std::net::IpAddr::from(V4)), 8))
                .unwrap();
            addresses
                .push(IpCidr::new(IpAddress::from(std::net::IpAddr::from(V6)), 64))
                .unwrap();
        });
        Self {
            iface,
            queues,
            sockets: SocketSet::new(vec![]),
            next_port: 20_000,
        }
    }

    /// The state in which its packets reach the stack.
    pub fn checksum(&self) -> Checksum {
        if self.queues.offload {
            Checksum::Partial
        } else {
            Checksum::Unverified
        }
    }

    /// Begins to connect from a fresh port, with buffers of a size.
    pub fn connect(&mut self, target: SocketAddr, buffer: usize) -> SocketHandle {
        let ring = || tcp::SocketBuffer::new(vec![0; buffer]);
        let mut socket = tcp::Socket::new(ring(), ring());
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        self.next_port += 1;
        let from: IpAddress = match target {
            SocketAddr::V4(_) => std::net::IpAddr::from(V4).into(),
            SocketAddr::V6(_) => std::net::IpAddr::from(V6).into(),
        };
        socket
            .connect(self.iface.context(), target, (from, self.next_port))
            .unwrap();
        self.sockets.add(socket)
    }

    pub fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }
}
