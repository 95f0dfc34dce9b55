//! `kdev version`.

use kdev_proto::v1::{VersionRequest, Versions};
use kdev_proto::{Failure, version_of};

use crate::args::Format;
use crate::{daemons, output};

/// Shows the versions of whatever runs; what doesn't run is left open, not started.
///
/// # Errors
///
/// When the result can't be written.
pub async fn version(format: Format) -> Result<(), Failure> {
    let mut versions = match daemons::running_user().await {
        Ok(Some(mut user)) => user.get_version(VersionRequest {}).await?.into_inner(),
        _ => Versions::default(),
    };
    if versions.rootd.is_none()
        && let Ok(Some(mut root)) = daemons::running_root().await
    {
        versions.rootd = root
            .get_version(VersionRequest {})
            .await
            .ok()
            .map(|v| v.into_inner());
    }
    output::versions::show(&version_of("kdev"), &versions, format)
}
