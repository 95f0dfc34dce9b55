//! Takes again what was given back while nobody could hold it: a Service, or a port of it, that was deleted and is there
//! again, and the workload of one that is replaced, once its intercept works again.

use std::sync::Arc;
use std::time::Duration;

use kdev_cluster::client::ClusterClient;
use kdev_cluster::redirect::{self, Claim, ClaimError, Claimed, ServiceName};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::intercepts::{Held, Intercepts};
use super::manager_link::ManagerLink;
use super::rest;

/// Between two looks, while there is something to take again: at first, and after many in vain.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_SELDOM: Duration = Duration::from_secs(15);
/// How long others may have to wait for their turn meanwhile.
const TAKES: Duration = Duration::from_secs(5);

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
        let (mut pause, mut before) = (LOOK, Vec::new());
        loop {
            changes.mark_unchanged();
            let gone = self.intercepts.those(Held::is_gone);
            let unheard = self.intercepts.those(Held::is_unheard);
            let unscaled = self.intercepts.those(Held::is_unscaled);
            for one in &gone {
                self.claim(one).await;
            }
            for one in &unheard {
                self.manager.request(one.request());
            }
            for one in &unscaled {
                self.scale_down(one).await;
            }
            let all = [gone, unheard, unscaled].concat();
            let all: Vec<String> = all.into_iter().map(|one| one.intercept.id).collect();
            if all.is_empty() {
                if changes.changed().await.is_err() {
                    return;
                }
                continue;
            }
            pause = match all == before {
                true => (pause * 5 / 4).min(LOOK_SELDOM),
                false => LOOK,
            };
            before = all;
            sleep(pause).await;
        }
    }

    /// Claims what was deleted, if it is there again.
    async fn claim(&self, held: &Held) {
        let id = &held.intercept.id;
        let name = ServiceName::new(&held.namespace, &held.service);
        let _turn = self.intercepts.turn().await;
        // It may have been left before it was this one's turn.
        if !self.intercepts.is(id, Held::is_gone) {
            return;
        }
        let claim = [Claim::from(&held.intercept)];
        let claimed = redirect::claim(self.cluster.kube(), &name, &claim);
        match tokio::time::timeout(TAKES, claimed).await {
            Ok(Ok(Claimed { claims, uid, .. })) => {
                tracing::info!(service = %name, "is there again, and claimed");
                for intercept in claims {
                    self.intercepts.handle_claimed_again(intercept, &uid);
                }
                for one in self.intercepts.those(|one| one.intercept.id == *id) {
                    self.manager.request(one.request());
                }
            }
            // The API server may be away; it is asked again.
            Err(_)
            | Ok(Err(
                ClaimError::ServiceNotFound { .. }
                | ClaimError::PortNotFound { .. }
                | ClaimError::Api(_),
            )) => {}
            Ok(Err(error)) => {
                let why = format!("the service isn't intercepted again yet: {error}");
                self.intercepts.handle_not_claimed(id, &why);
            }
        }
    }

    /// Scales to zero again what was scaled back.
    async fn scale_down(&self, held: &Held) {
        let name = ServiceName::new(&held.namespace, &held.service);
        let client = self.cluster.kube();
        let scaled = rest::scale_down(client, &self.intercepts, &name, &held.intercept).await;
        if let Err(error) = scaled {
            tracing::warn!(service = %name, %error, "not scaled to zero again yet");
        }
    }
}
