//! No changes.

use std::io;

use super::LinkError;
use crate::Unsupported;

const UNSUPPORTED: Unsupported = Unsupported {
    what: "notice network changes",
};

/// Changes that can't be noticed.
#[derive(Debug)]
pub(super) enum Changes {}

impl Changes {
    pub(super) fn listen() -> Result<Self, LinkError> {
        Err(UNSUPPORTED.into())
    }

    pub(super) async fn changed(&mut self) -> io::Result<()> {
        match *self {}
    }
}
