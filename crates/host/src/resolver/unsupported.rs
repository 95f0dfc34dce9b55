//! No settings.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{Applied, ResolverError, Restored};
use crate::Unsupported;

const UNSUPPORTED: Unsupported = Unsupported {
    what: "change whom programs ask for names",
};

/// Settings that can't be made.
#[derive(Debug)]
pub(super) struct ResolvConf;

impl ResolvConf {
    pub(super) fn new(_: PathBuf, _: PathBuf) -> Self {
        Self
    }

    pub(super) fn apply(&mut self, _: IpAddr) -> Result<Applied, ResolverError> {
        Err(UNSUPPORTED.into())
    }

    pub(super) fn reapply(&mut self) -> Result<Option<Applied>, ResolverError> {
        Err(UNSUPPORTED.into())
    }

    pub(super) fn restore(&mut self) -> Result<Restored, ResolverError> {
        Ok(Restored::Nothing)
    }

    pub(super) fn watch(&self) -> Result<Watch, ResolverError> {
        Err(UNSUPPORTED.into())
    }
}

/// A watch that can't be kept.
#[derive(Debug)]
pub(super) enum Watch {}

impl Watch {
    pub(super) async fn changed(&mut self) -> Result<(), ResolverError> {
        match *self {}
    }
}

pub(super) fn recover(_: &Path) -> Result<Restored, ResolverError> {
    Ok(Restored::Nothing)
}

/// A guard that can't be started.
#[derive(Debug)]
pub(super) enum Guard {}

impl Guard {
    pub(super) fn spawn(_: &Path, _: &[&OsStr]) -> Result<Self, ResolverError> {
        Err(UNSUPPORTED.into())
    }

    pub(super) fn id(&self) -> u32 {
        match *self {}
    }

    pub(super) fn is_running(&mut self) -> bool {
        match *self {}
    }
}

pub(super) fn run_guard(_: &Path) -> Result<Restored, ResolverError> {
    Ok(Restored::Nothing)
}
