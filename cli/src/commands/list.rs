//! `kdev list`.

use kdev_proto::Failure;
use kdev_proto::v1::ListRequest;

use super::cluster;
use crate::args::ListArgs;
use crate::{daemons, output};

/// Lists services.
///
/// # Errors
///
/// Why they can't be listed.
pub async fn list(args: ListArgs) -> Result<(), Failure> {
    let namespace = if args.all_namespaces {
        "*".to_owned()
    } else {
        args.namespace.unwrap_or_default()
    };
    let request = ListRequest {
        cluster: Some(cluster(&args.cluster, "")?),
        namespace,
    };
    let response = daemons::user().await?.list(request).await?.into_inner();
    output::services::show(&response.services, args.output)
}
