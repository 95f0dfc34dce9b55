//! `kdev install`, `kdev uninstall` and `kdev recover`.

use kdev_proto::Failure;
use kdev_proto::v1::{InstallRequest, RecoverRequest, RouterLimits, UninstallRequest};

use super::{cluster, follow};
use crate::args::{InstallArgs, RecoverArgs, UninstallArgs};
use crate::daemons;

/// `kdev install`.
///
/// # Errors
///
/// Why the manager doesn't serve.
pub async fn install(args: InstallArgs) -> Result<(), Failure> {
    let request = InstallRequest {
        cluster: Some(cluster(&args.cluster, &args.namespace)?),
        image: args.image,
        image_pull_policy: args.image_pull_policy.unwrap_or_default(),
        session_grace_seconds: args.session_grace.unwrap_or_default(),
        direct: args.direct,
        router: Some(RouterLimits {
            head_bytes: args.router.router_head_bytes.unwrap_or_default(),
            headers: args.router.router_headers.unwrap_or_default(),
            first_byte_ms: args.router.router_first_byte_ms.unwrap_or_default(),
            head_ms: args.router.router_head_ms.unwrap_or_default(),
            connections: args.router.router_connections.unwrap_or_default(),
        }),
    };
    follow(daemons::user().await?.install(request).await).await
}

/// `kdev uninstall`.
///
/// # Errors
///
/// What couldn't be removed.
pub async fn uninstall(args: UninstallArgs) -> Result<(), Failure> {
    let request = UninstallRequest {
        cluster: Some(cluster(&args.cluster, &args.namespace)?),
    };
    follow(daemons::user().await?.uninstall(request).await).await
}

/// `kdev recover`.
///
/// # Errors
///
/// What couldn't be put back.
pub async fn recover(args: RecoverArgs) -> Result<(), Failure> {
    let request = RecoverRequest {
        cluster: Some(cluster(&args.cluster, &args.manager_namespace)?),
        dry_run: args.dry_run,
        namespace: args.namespace.unwrap_or_default(),
    };
    follow(daemons::user().await?.recover(request).await).await
}
