//! `kdev connect`.

use kdev_proto::Failure;
use kdev_proto::v1::ConnectRequest;

use super::{cluster, follow};
use crate::args::ConnectArgs;
use crate::daemons;

/// Starts what doesn't run, then connects.
///
/// # Errors
///
/// What is in the way.
pub async fn connect(args: ConnectArgs) -> Result<(), Failure> {
    let cluster = cluster(&args.cluster, &args.manager_namespace)?;
    let root_started = daemons::ensure_root().await?;
    let request = ConnectRequest {
        cluster: Some(cluster),
        namespace: args.namespace.unwrap_or_default(),
        root_started,
        direct: args.direct,
        resume_limit_seconds: args.resume_limit.unwrap_or_default(),
    };
    follow(daemons::user().await?.connect(request).await).await
}
