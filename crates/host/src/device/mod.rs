//! The network device through which the machine's packets come to kdev.

mod error;
mod steering;
#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "unsupported.rs"]
mod system;
mod vnet;

use std::io;
use std::num::NonZeroUsize;

use ipnet::IpNet;

pub use self::error::DeviceError;
pub use self::vnet::VnetHeader;

/// What a device is to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Its name; `None` takes the first free one of kdev0, kdev1 and so on.
    pub name: Option<String>,
    /// The largest packet that goes over a wire, in bytes. Default 1,500; IPv6 needs 1,280.
    pub mtu: u16,
    /// The machine's own addresses on it, each with the network that is behind it.
    pub addresses: Vec<IpNet>,
    /// How many packets may wait to be read. Default 1,000: a packet lost here costs TCP a second.
    pub txqueuelen: u32,
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            name: None,
            mtu: 1_500,
            addresses: Vec::new(),
            txqueuelen: 1_000,
        }
    }
}

/// What the kernel agreed to do for a device, so that fewer and larger packets pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// Packets have a [`VnetHeader`]: what is written may be up to 64 KiB with an unfinished checksum.
    pub vnet_header: bool,
    /// Packets that are read may have an unfinished checksum.
    pub checksum: bool,
    /// Packets that are read may be up to 64 KiB of TCP over IPv4.
    pub tso4: bool,
    /// Packets that are read may be up to 64 KiB of TCP over IPv6.
    pub tso6: bool,
}

/// One queue of a TUN device: whole IP packets in and out, without blocking.
///
/// The network device, and with it every route over it, vanishes when its last queue is dropped or
/// the process dies. Reading and writing take `&self`: share it in an `Arc`.
#[derive(Debug)]
pub struct Device {
    system: system::Queue,
}

impl Device {
    /// Makes a device with one queue and brings it up, in the calling thread's network namespace.
    ///
    /// Must be called within a tokio runtime. Addresses of a family that the kernel doesn't have are
    /// left out; see [`ipv6`](Self::ipv6).
    ///
    /// # Errors
    ///
    /// Says which step failed; no device is left then.
    pub async fn open(config: &DeviceConfig) -> Result<Self, DeviceError> {
        let system = system::open_one(config).await?;
        Ok(Self { system })
    }

    /// Makes a device with several queues, each for a reader of its own, in the order of their
    /// numbers. All packets of one conversation come by one queue, see [`queue_of`](Self::queue_of).
    /// There are fewer queues, or one, where the kernel refuses more or doesn't take the rule.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_queues(
        config: &DeviceConfig,
        queues: NonZeroUsize,
    ) -> Result<Vec<Self>, DeviceError> {
        let queues = system::open_many(config, queues).await?;
        Ok(queues.into_iter().map(|system| Self { system }).collect())
    }

    /// Returns the number of the queue by which a whole IP packet should come: that of its connection
    /// for a TCP segment, that of its pair of addresses for everything else, fragments included.
    ///
    /// A few packets come by another queue: TCP segments behind IPv6 extension headers. What was
    /// fragments may be a segment when it is whole. Who reads such a packet hands it on.
    pub fn queue_of(&self, packet: &[u8]) -> usize {
        steering::queue_of(packet, self.system.link().queues)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.system.link().name
    }

    /// Its number in the kernel.
    pub fn index(&self) -> u32 {
        self.system.link().index
    }

    /// The largest packet that goes over a wire, in bytes.
    pub fn mtu(&self) -> usize {
        self.system.link().mtu.into()
    }

    /// Whether it has an IPv6 address: false where the kernel has no IPv6 or none was asked for.
    pub fn ipv6(&self) -> bool {
        self.system.link().ipv6
    }

    /// What the kernel agreed to.
    pub fn features(&self) -> Features {
        self.system.link().features
    }

    /// Whether it takes packets of up to 64 KiB with unfinished checksums.
    pub fn offload(&self) -> bool {
        self.features().vnet_header
    }

    /// Waits until a packet may be there. Cancel safe.
    ///
    /// # Errors
    ///
    /// When the runtime shuts down.
    pub async fn readable(&self) -> io::Result<()> {
        self.system.readable().await
    }

    /// Waits until there may be room for a packet. Cancel safe.
    ///
    /// # Errors
    ///
    /// When the runtime shuts down.
    pub async fn writable(&self) -> io::Result<()> {
        self.system.writable().await
    }

    /// Reads a packet to the beginning of `packet` and returns what is left to do with it, and its
    /// length; `None` when there is none. 65,535 bytes hold any packet; of a larger one the rest is lost.
    ///
    /// # Errors
    ///
    /// When the device is gone.
    pub fn try_read(&self, packet: &mut [u8]) -> io::Result<Option<(VnetHeader, usize)>> {
        self.system.try_read(packet)
    }

    /// Writes a packet; false when there is no room and it has to be written again. The header must
    /// be the default one without [`offload`](Self::offload).
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the kernel refuses this packet; the device is as good as before. Any other
    /// when the device is down or gone.
    pub fn try_write(&self, header: &VnetHeader, packet: &[u8]) -> io::Result<bool> {
        self.system.try_write(header, packet)
    }

    /// Writes a packet that is preceded by [`VnetHeader::LEN`] bytes with its header, in one piece;
    /// otherwise as [`try_write`](Self::try_write).
    ///
    /// # Errors
    ///
    /// As [`try_write`](Self::try_write), and `InvalidInput` when `frame` is too short.
    pub fn try_write_frame(&self, frame: &[u8]) -> io::Result<bool> {
        self.system.try_write_frame(frame)
    }
}

/// What all queues of a device share.
#[derive(Debug, Clone)]
struct Link {
    name: String,
    index: u32,
    mtu: u16,
    ipv6: bool,
    queues: usize,
    features: Features,
}
