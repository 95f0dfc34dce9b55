//! No routes.

use super::{DesiredRoutes, LocalRoute, RouteReport, RoutesError};
use crate::Unsupported;
use crate::device::Device;

const UNSUPPORTED: Unsupported = Unsupported { what: "set routes" };

/// Routes that can't be set.
#[derive(Debug)]
pub(super) enum Routes {}

impl Routes {
    pub(super) fn new(_: &Device) -> Result<Self, RoutesError> {
        Err(UNSUPPORTED.into())
    }

    pub(super) async fn apply(&mut self, _: &DesiredRoutes) -> Result<RouteReport, RoutesError> {
        match *self {}
    }

    pub(super) async fn local_routes(&self) -> Result<Vec<LocalRoute>, RoutesError> {
        match *self {}
    }
}
