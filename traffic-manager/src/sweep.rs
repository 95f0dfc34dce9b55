//! Puts back what came with intercepts that are over and nobody has put back: whoever was to do it was killed, or
//! the API server refused.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kdev_cluster::redirect::delete_orphans;
use kdev_cluster::redirect::redirector::Annotated;
use kdev_cluster::replace;
use kube::Client;
use tokio::sync::watch;
use tokio::time::sleep;

/// Between two looks; the first list of claims is there before the first one.
const EVERY: Duration = Duration::from_secs(60);

/// Looks again and again, until dropped.
pub async fn run(client: Client, manager: String, claims: watch::Receiver<Arc<[Annotated]>>) {
    loop {
        sleep(EVERY).await;
        // What is marked is looked for first: a mark is written after its claim.
        let known = || -> BTreeSet<String> {
            let claims = claims.borrow();
            claims.iter().map(|one| one.intercept.id.clone()).collect()
        };
        match replace::restore_orphans(&client, &manager, known).await {
            Ok(restored) => restored.iter().for_each(
                |workload| tracing::info!(%workload, "scaled back, as its intercept is over"),
            ),
            Err(error) => tracing::warn!(%error, "can't look for workloads that were left at zero"),
        }
        match delete_orphans(&client, &manager).await {
            Ok(deleted) => deleted
                .iter()
                .for_each(|service| tracing::info!(%service, "deleted, as its preview is over")),
            Err(error) => tracing::warn!(%error, "can't look for previews that were left"),
        }
    }
}
