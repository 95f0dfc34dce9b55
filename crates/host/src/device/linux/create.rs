//! Asking the kernel for a TUN device, and for less where it refuses.
//!
//! The descriptor is opened here and not by `tun`: version 0.8 never asks for offloads, and refuses
//! more than one queue.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;

use super::super::{DeviceError, Features};
use super::steer::Steering;

/// The kernel fills in the first number that is free.
const FIRST_FREE: &str = "kdev%d";

/// What is asked for, the most first. A kernel that doesn't know one says EINVAL.
const WISHES: [libc::c_int; 2] = [libc::IFF_VNET_HDR, 0];

/// As [`WISHES`]; each needs those after it.
const OFFLOADS: [libc::c_uint; 3] = [
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6,
    libc::TUN_F_CSUM | libc::TUN_F_TSO4,
    libc::TUN_F_CSUM,
];

/// A descriptor of a device that has just been made and is down.
pub(super) struct Descriptor {
    file: File,
    pub(super) name: String,
    pub(super) features: Features,
}

/// Makes a device with one queue.
pub(super) fn single(name: Option<&str>) -> Result<Descriptor, DeviceError> {
    let name = free_name(name)?;
    with_less(name, WISHES.map(|wish| wish | libc::IFF_NO_PI))
}

/// Makes a device with several queues that are served by the rule of
/// [`steering`](super::super::steering), or one with a single queue.
pub(super) fn several(
    name: Option<&str>,
    queues: NonZeroUsize,
) -> Result<Vec<Descriptor>, DeviceError> {
    if queues.get() > 1 {
        match Steering::load().map_err(Refused::Steering) {
            Ok(steering) => match steered(free_name(name)?, queues, steering) {
                Ok(all) => return Ok(all),
                Err(refused) => tracing::info!(%refused, "one queue then"),
            },
            Err(refused) => tracing::info!(%refused, "one queue then"),
        }
    }
    Ok(vec![single(name)?])
}

fn steered(
    name: &str,
    queues: NonZeroUsize,
    steering: Steering,
) -> Result<Vec<Descriptor>, Refused> {
    let flags = WISHES.map(|wish| wish | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE);
    let first = with_less(name, flags)?;
    steering.attach(&first.file).map_err(Refused::Steering)?;
    let flags = if first.features.vnet_header {
        flags[0]
    } else {
        flags[1]
    };
    let mut all = vec![first];
    while all.len() < queues.get() {
        match attach(&all[0].name, flags) {
            Ok(next) => all.push(next),
            // The kernel has a limit (MAX_TAP_QUEUES, 256 or less).
            Err(error) => {
                tracing::info!(%error, queues = all.len(), "fewer queues than asked for");
                break;
            }
        }
    }
    Ok(all)
}

/// Why there can't be several queues. Not an error of the device's: one queue does the same.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the kernel takes no program that puts packets on queues: {0}")]
    Steering(#[source] io::Error),
    #[error("no device with several queues: {0}")]
    Device(#[from] DeviceError),
}

fn with_less(name: &str, flags: [libc::c_int; 2]) -> Result<Descriptor, DeviceError> {
    match attach(name, flags[0]) {
        Err(DeviceError::Create { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {
            tracing::info!("the kernel has no packet headers; every packet will be small");
            attach(name, flags[1])
        }
        other => other,
    }
}

fn free_name(name: Option<&str>) -> Result<&str, DeviceError> {
    let Some(name) = name else {
        return Ok(FIRST_FREE);
    };
    let odd = |c: char| c == '/' || c == '%' || c == '\0' || c.is_whitespace();
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(odd) {
        return Err(DeviceError::Name {
            name: name.to_owned(),
        });
    }
    // A persistent device would be taken over, with whatever addresses it has.
    if nix::net::if_::if_nametoindex(name).is_ok() {
        return Err(DeviceError::NameTaken {
            name: name.to_owned(),
        });
    }
    Ok(name)
}

/// Makes the device `name`, or one more queue of it.
fn attach(name: &str, flags: libc::c_int) -> Result<Descriptor, DeviceError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .map_err(DeviceError::Open)?;
    let name = set_interface(&file, name, flags | libc::IFF_TUN).map_err(|source| {
        DeviceError::Create {
            name: name.to_owned(),
            source,
        }
    })?;
    let vnet_header = flags & libc::IFF_VNET_HDR != 0;
    let features = if vnet_header {
        set_offloads(&file)
    } else {
        Features::default()
    };
    Ok(Descriptor {
        file,
        name,
        features,
    })
}

fn set_interface(file: &File, name: &str, flags: libc::c_int) -> io::Result<String> {
    // SAFETY: ifreq is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero; `free_name` has checked that the name fits.
    for (place, byte) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(name.bytes())
    {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel ends the name that it writes back with a zero byte within the array.
    let name = unsafe { CStr::from_ptr(request.ifr_name.as_ptr()) };
    Ok(name.to_string_lossy().into_owned())
}

fn set_offloads(file: &File) -> Features {
    let accepted = OFFLOADS.into_iter().find(|offloads| {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let done = unsafe {
            libc::ioctl(
                file.as_raw_fd(),
                libc::TUNSETOFFLOAD,
                libc::c_ulong::from(*offloads),
            )
        };
        done == 0
    });
    let accepted = accepted.unwrap_or(0);
    Features {
        vnet_header: true,
        checksum: accepted & libc::TUN_F_CSUM != 0,
        tso4: accepted & libc::TUN_F_TSO4 != 0,
        tso6: accepted & libc::TUN_F_TSO6 != 0,
    }
}

impl Descriptor {
    /// Hands the descriptor over.
    pub(super) fn into_tun(self) -> io::Result<tun::Device> {
        let mut configuration = tun::Configuration::default();
        configuration
            .raw_fd(self.file.into_raw_fd())
            .tun_name(&self.name);
        tun::Device::new(&configuration).map_err(io::Error::other)
    }
}

/// What an old kernel gives.
#[cfg(test)]
pub(super) fn plain() -> Descriptor {
    with_less(
        FIRST_FREE,
        [libc::IFF_TAP | libc::IFF_NO_PI, libc::IFF_NO_PI],
    )
    .unwrap()
}
