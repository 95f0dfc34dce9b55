//! Looks after intercepted Services while no manager does.
//!
//! Every request to an intercepted Service passes the manager, also those that nobody's rule wants: its loss
//! must not be theirs. So when its link is lost and the API server says that no manager is ready, the Services
//! lead to their pods again. The claims stay on them: the next manager takes them up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kdev_cluster::client::ClusterClient;
use kdev_cluster::install::{ManagerError, find_manager};
use kdev_cluster::redirect::{Desired, Limits, Mode, ServiceName, reconcile};
use kdev_common::fault::{Point, point};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::intercepts::Intercepts;
use super::manager_link::Link;
use super::rest;

/// How long the link may be lost before the manager is looked for: most are back at once.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// How long putting one Service back may take before the manager is looked for again: one that is back has the
/// Service, also from machines whose links are slower.
const RESTORE: Duration = Duration::from_secs(2);

/// What it needs.
pub struct Guardian {
    /// The cluster, with the user's own rights.
    pub cluster: Arc<ClusterClient>,
    /// Where the manager is.
    pub namespace: String,
    /// The link to it.
    pub link: watch::Receiver<Link>,
    /// What is intercepted.
    pub intercepts: Arc<Intercepts>,
}

impl Guardian {
    /// Looks after them until cancelled.
    pub async fn run(mut self, cancelled: CancellationToken) {
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = self.guard() => {}
        }
    }

    /// Ends with the link's task.
    async fn guard(&mut self) {
        let mut any = self.intercepts.any_held();
        loop {
            if any.wait_for(|any| *any).await.is_err()
                || self
                    .link
                    .wait_for(|link| link.channel.is_none())
                    .await
                    .is_err()
            {
                return;
            }
            let mut back = self.link.clone();
            tokio::select! {
                linked = back.wait_for(|link| link.channel.is_some()) => if linked.is_err() {
                    return;
                },
                () = self.while_lost() => {}
            }
        }
    }

    /// Never ends: the link is back first. It may be dropped at any point, since a manager that is back takes
    /// each Service from where it is.
    async fn while_lost(&self) {
        let mut restored = BTreeSet::new();
        sleep(PATIENCE).await;
        loop {
            if self.is_gone().await {
                for name in self.services() {
                    if !restored.contains(&name) && self.restore(&name).await {
                        restored.insert(name);
                    }
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Whether no manager is ready. One that is may only be out of this machine's reach.
    async fn is_gone(&self) -> bool {
        let found = find_manager(self.cluster.kube(), &self.namespace).await;
        !matches!(found, Ok(_) | Err(ManagerError::Api(_)))
    }

    fn services(&self) -> BTreeSet<ServiceName> {
        let held = self.intercepts.all().into_iter();
        held.map(|one| ServiceName::new(one.namespace, one.service))
            .collect()
    }

    /// The pods of a Service that is replaced are to answer as well; whether they all can.
    async fn restore_workloads(&self, name: &ServiceName) -> bool {
        let held = self.intercepts.of_service(&name.namespace, &name.name);
        let mut all = true;
        for one in held
            .iter()
            .filter(|one| one.intercept.mode == Mode::Replace)
        {
            let (client, id) = (self.cluster.kube(), &one.intercept.id);
            let scaled = rest::scale_back(client, &self.intercepts, name, id).await;
            if let Err(error) = scaled {
                all = false;
                tracing::warn!(service = %name, %error, "not scaled back, and no manager runs");
            }
        }
        all
    }

    async fn restore(&self, name: &ServiceName) -> bool {
        point(Point::Unattended);
        let scaled = self.restore_workloads(name).await;
        let limits = Limits {
            deadline: RESTORE,
            ..Limits::default()
        };
        let restored = reconcile(self.cluster.kube(), name, &Desired::restored([]), limits).await;
        point(Point::PutBackUnattended);
        let text = match &restored {
            Ok(_) => "no manager runs: the Service leads to its pods until one is back".to_owned(),
            Err(error) => format!("no manager runs, and the Service can't be put back: {error}"),
        };
        match &restored {
            Ok(_) => tracing::info!(service = %name, "put back, as no manager runs"),
            Err(error) => {
                tracing::warn!(service = %name, %error, "not put back, and no manager runs")
            }
        }
        self.intercepts.handle_unattended(name, &text);
        scaled && restored.is_ok()
    }
}
