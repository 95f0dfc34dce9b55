//! TUN devices of Linux (Documentation/networking/tuntap.rst).

mod configure;
mod create;
mod steer;

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::num::NonZeroUsize;

use nix::sys::uio::{readv, writev};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::create::Descriptor;
use super::{DeviceConfig, DeviceError, Link, VnetHeader};

/// One queue of a device.
pub(super) struct Queue {
    tun: AsyncFd<tun::Device>,
    link: Link,
}

pub(super) async fn open_one(config: &DeviceConfig) -> Result<Queue, DeviceError> {
    let descriptor = create::single(config.name.as_deref())?;
    let link = configure::configure(&descriptor, config).await?;
    Queue::new(descriptor, link)
}

pub(super) async fn open_many(
    config: &DeviceConfig,
    queues: NonZeroUsize,
) -> Result<Vec<Queue>, DeviceError> {
    let descriptors = create::several(config.name.as_deref(), queues)?;
    let Some(first) = descriptors.first() else {
        return Ok(Vec::new());
    };
    let mut link = configure::configure(first, config).await?;
    link.queues = descriptors.len();
    descriptors
        .into_iter()
        .map(|descriptor| Queue::new(descriptor, link.clone()))
        .collect()
}

impl Queue {
    fn new(descriptor: Descriptor, link: Link) -> Result<Self, DeviceError> {
        let register = |source| DeviceError::Register {
            name: link.name.clone(),
            source,
        };
        let tun = descriptor.into_tun().map_err(register)?;
        // SAFETY: the device owns its descriptor, always gives the same, and closes it when dropped.
        let tun = unsafe { AsyncFd::register(tun) }.map_err(|error| register(error.into()))?;
        Ok(Self { tun, link })
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        // A device that has been removed shows an error, and nothing to read.
        self.tun
            .ready(Interest::READABLE | Interest::ERROR)
            .await
            .map(drop)
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.tun.writable().await.map(drop)
    }

    pub(super) fn try_read(&self, packet: &mut [u8]) -> io::Result<Option<(VnetHeader, usize)>> {
        match not_now(
            self.tun
                .try_io(Interest::READABLE, |tun| self.receive(tun, packet)),
        )? {
            None => not_now(
                self.tun
                    .try_io(Interest::ERROR, |tun| self.receive(tun, packet)),
            ),
            read => Ok(read),
        }
    }

    fn receive(&self, tun: &tun::Device, packet: &mut [u8]) -> io::Result<(VnetHeader, usize)> {
        if !self.link.features.vnet_header {
            return Ok((VnetHeader::default(), tun.recv(packet)?));
        }
        // Two pieces in one call, so that the packet begins where its buffer does; `tun` would read
        // into the first piece only.
        let mut header = [0; VnetHeader::LEN];
        let mut pieces = [IoSliceMut::new(&mut header), IoSliceMut::new(packet)];
        let length = readv(&self.tun, &mut pieces)?;
        let length = length
            .checked_sub(VnetHeader::LEN)
            .ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
        Ok((VnetHeader::parse(&header), length))
    }

    pub(super) fn try_write(&self, header: &VnetHeader, packet: &[u8]) -> io::Result<bool> {
        let written = self.tun.try_io(Interest::WRITABLE, |tun| {
            if !self.link.features.vnet_header {
                return tun.send(packet);
            }
            let header = header.emit();
            Ok(writev(
                &self.tun,
                &[IoSlice::new(&header), IoSlice::new(packet)],
            )?)
        });
        Ok(not_now(written)?.is_some())
    }

    pub(super) fn try_write_frame(&self, frame: &[u8]) -> io::Result<bool> {
        let skipped = if self.link.features.vnet_header {
            0
        } else {
            VnetHeader::LEN
        };
        let bytes = frame
            .get(skipped..)
            .ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
        let written = self.tun.try_io(Interest::WRITABLE, |tun| tun.send(bytes));
        Ok(not_now(written)?.is_some())
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

fn not_now<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::super::Features;
    use super::*;
    use crate::support::in_namespace;
    use crate::support::packet::Packet;

    #[test]
    fn without_packet_headers_packets_pass_all_the_same() {
        in_namespace(async || {
            let descriptor = create::plain();
            let addresses = vec!["10.77.0.1/24".parse().unwrap()];
            let config = DeviceConfig {
                addresses,
                ..DeviceConfig::default()
            };
            let link = configure::configure(&descriptor, &config).await.unwrap();
            let queue = Queue::new(descriptor, link).unwrap();
            assert_eq!(queue.link().features, Features::default());

            let socket = UdpSocket::bind("10.77.0.1:0").unwrap();
            socket.send_to(b"ping", "10.77.0.2:9").unwrap();
            let mut buffer = [0; 2_000];
            let (header, length) = loop {
                queue.readable().await.unwrap();
                if let Some(read) = queue.try_read(&mut buffer).unwrap() {
                    break read;
                }
            };
            assert_eq!(header, VnetHeader::default());
            let packet = Packet::parse(&buffer[..length]).unwrap();
            assert_eq!(packet.payload(), b"ping");

            queue.writable().await.unwrap();
            assert!(queue.try_write(&header, &packet.answer(b"one")).unwrap());
            let frame = [&header.emit()[..], &packet.answer(b"two")].concat();
            assert!(queue.try_write_frame(&frame).unwrap());
            for answer in [b"one", b"two"] {
                let (length, _) = socket.recv_from(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], answer);
            }
        });
    }
}
