//! Takes again what was given back while nobody could hold it: a Service that was deleted and is there again, and
//! the workload of one that is replaced, once its intercept works again.

use std::sync::Arc;
use std::time::Duration;

use kdev_cluster::client::ClusterClient;
use kdev_cluster::redirect::{self, Claim, ClaimError, ServiceName};
use kdev_cluster::replace;
use kdev_proto::v1::InterceptStart;
use kdev_proto::v1::session_request::Kind as Request;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::intercepts::{Held, Intercepts};
use super::manager_link::ManagerLink;

/// Between two looks, while there is something to take again.
const LOOK: Duration = Duration::from_secs(1);

/// What it needs.
pub struct Keeper {
    /// The cluster, with the user's own rights.
    pub cluster: Arc<ClusterClient>,
    /// Who is to redirect what is claimed again.
    pub manager: ManagerLink,
    /// What is intercepted.
    pub intercepts: Arc<Intercepts>,
}

impl Keeper {
    /// Looks after them until cancelled.
    pub async fn run(self, cancelled: CancellationToken) {
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&self) {
        let mut changes = self.intercepts.changes();
        loop {
            changes.mark_unchanged();
            let (gone, unscaled) = (self.intercepts.gone(), self.intercepts.unscaled());
            for one in &gone {
                self.claim(one).await;
            }
            for one in &unscaled {
                self.scale_down(one).await;
            }
            if !gone.is_empty() || !unscaled.is_empty() {
                sleep(LOOK).await;
            } else if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Claims what was deleted, if it is there again.
    async fn claim(&self, held: &Held) {
        let id = &held.intercept.id;
        let name = ServiceName::new(&held.namespace, &held.service);
        let _turn = self.intercepts.turn().await;
        // It may have been left before it was this one's turn.
        if !self
            .intercepts
            .gone()
            .iter()
            .any(|one| one.intercept.id == *id)
        {
            return;
        }
        let claim = Claim::from(&held.intercept);
        match redirect::claim(self.cluster.kube(), &name, &claim).await {
            Ok((intercept, _)) => {
                tracing::info!(service = %name, "is there again, and claimed");
                self.intercepts.handle_claimed_again(intercept);
                self.manager.request(Request::Intercept(InterceptStart {
                    id: id.clone(),
                    namespace: name.namespace,
                    service: name.name,
                }));
            }
            Err(ClaimError::ServiceNotFound { .. }) => {}
            Err(error) => {
                let why = format!("the service is there again, but not intercepted: {error}");
                self.intercepts.handle_not_claimed(id, &why);
            }
        }
    }

    /// Scales to zero again what was scaled back.
    async fn scale_down(&self, held: &Held) {
        let (id, manager) = (&held.intercept.id, &held.intercept.manager);
        let name = ServiceName::new(&held.namespace, &held.service);
        let client = self.cluster.kube();
        let _turn = self.intercepts.turn().await;
        if !self
            .intercepts
            .unscaled()
            .iter()
            .any(|one| one.intercept.id == *id)
        {
            return;
        }
        let scale = async {
            for workload in replace::find(client, &name).await? {
                replace::scale_down(client, &workload, id, manager).await?;
            }
            Ok::<_, replace::ReplaceError>(())
        };
        match scale.await {
            Ok(()) => self.intercepts.handle_scaled_down(id),
            Err(error) => tracing::warn!(service = %name, %error, "not scaled to zero again yet"),
        }
    }
}
