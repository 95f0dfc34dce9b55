//! No device.

use std::io;
use std::num::NonZeroUsize;

use super::{DeviceConfig, DeviceError, Link, VnetHeader};
use crate::Unsupported;

const UNSUPPORTED: Unsupported = Unsupported {
    what: "make a network device",
};

/// A queue that can't be made.
#[derive(Debug)]
pub(super) enum Queue {}

pub(super) async fn open_one(_: &DeviceConfig) -> Result<Queue, DeviceError> {
    Err(UNSUPPORTED.into())
}

pub(super) async fn open_many(
    _: &DeviceConfig,
    _: NonZeroUsize,
) -> Result<Vec<Queue>, DeviceError> {
    Err(UNSUPPORTED.into())
}

impl Queue {
    pub(super) fn link(&self) -> &Link {
        match *self {}
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        match *self {}
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn try_read(&self, _: &mut [u8]) -> io::Result<Option<(VnetHeader, usize)>> {
        match *self {}
    }

    pub(super) fn try_write(&self, _: &VnetHeader, _: &[u8]) -> io::Result<bool> {
        match *self {}
    }

    pub(super) fn try_write_frame(&self, _: &[u8]) -> io::Result<bool> {
        match *self {}
    }
}
