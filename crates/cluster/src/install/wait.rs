//! Waiting until the manager is available, or until it is clear that it won't be.

use std::fmt::Debug;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until};

use super::error::InstallError;
use super::gone::watch_failed;
use super::look::crash_log;
use super::names::{MANAGER, ObjectRef, pod_selector};
use super::options::{Progress, ProgressSink};
use super::patience::Patience;
use super::trouble::{Reason, Trouble};
use super::verdict::{Scene, Verdict, judge};

/// Waits until the Deployment, in the form that `applied` has or a later one, is available.
///
/// # Errors
/// Fails as soon as a reason why it can't start has lasted for its grace, else after `timeout`.
pub(super) async fn until_available(
    client: &Client,
    applied: &Deployment,
    timeout: Duration,
    progress: ProgressSink<'_>,
) -> Result<(), InstallError> {
    let namespace = applied.metadata.namespace.as_deref().unwrap_or_default();
    let deadline = Instant::now() + timeout;
    let mut watched = Watched::new(client, namespace);
    let mut patience = Patience::default();
    let mut told = "the API server to show the Deployment".to_owned();
    loop {
        let unseen = || Verdict::Progressing { what: told.clone() };
        let verdict = watched.judge(applied).unwrap_or_else(unseen);
        let what = match &verdict {
            Verdict::Available => return Ok(()),
            Verdict::Progressing { what } => what.clone(),
            Verdict::Stuck(trouble) => trouble.awaited(),
        };
        // The same trouble is told once, though its words may name another pod each time.
        if what != told && !patience.knows(&verdict) {
            progress(Progress::Waiting { what: what.clone() });
            told = what;
        }
        if let Some(trouble) = patience.handle_verdict(&verdict, Instant::now()) {
            let log = crash_log(client, namespace, &trouble).await;
            return Err(InstallError::NotStarting { trouble, log });
        }
        let wake = patience
            .poll_timeout()
            .map_or(deadline, |at| at.min(deadline));
        tokio::select! {
            changed = watched.changes.next() => if let Some(Err(error)) = changed {
                watch_failed("watch the traffic manager start", &error)?;
            },
            () = sleep_until(wake) => if wake == deadline {
                let trouble = patience.into_last().unwrap_or_else(|| Trouble {
                    reason: Reason::NoProgress,
                    message: format!("still waiting for {told}"),
                    object: ObjectRef::new("Deployment", Some(namespace), MANAGER),
                });
                return Err(InstallError::TimedOut { seconds: timeout.as_secs(), trouble });
            },
        }
    }
}

/// What the cluster shows of the manager, kept up to date by watches.
struct Watched {
    deployments: Store<Deployment>,
    replica_sets: Store<ReplicaSet>,
    pods: Store<Pod>,
    events: Store<Event>,
    changes: BoxStream<'static, Result<(), watcher::Error>>,
}

impl Watched {
    fn new(client: &Client, namespace: &str) -> Self {
        let own = watcher::Config::default().labels(&pod_selector());
        let named = watcher::Config::default().fields(&format!("metadata.name={MANAGER}"));
        let api = || client.clone();
        let (deployments, a) = watch(Api::namespaced(api(), namespace), named);
        let (replica_sets, b) = watch(Api::namespaced(api(), namespace), own.clone());
        let (pods, c) = watch(Api::namespaced(api(), namespace), own);
        let (events, d) = watch(
            Api::namespaced(api(), namespace),
            watcher::Config::default(),
        );
        // Events only add words: without the right to read them the rest still tells enough.
        let d = d
            .filter(|change| std::future::ready(change.is_ok()))
            .boxed();
        let changes = stream::select_all([a, b, c, d]).boxed();
        Self {
            deployments,
            replica_sets,
            pods,
            events,
            changes,
        }
    }

    /// Judges what is seen; `None` until the Deployment is seen in the form that was applied.
    fn judge(&self, applied: &Deployment) -> Option<Verdict> {
        fn all<K>(store: &Store<K>) -> Vec<K>
        where
            K: Resource<DynamicType = ()> + Clone + 'static,
        {
            store
                .state()
                .iter()
                .map(|object| K::clone(object))
                .collect()
        }
        let current = self.deployments.state().into_iter().find(|deployment| {
            deployment.metadata.uid == applied.metadata.uid
                && deployment.metadata.generation >= applied.metadata.generation
        });
        Some(judge(Scene {
            deployment: current?.as_ref(),
            replica_sets: &all(&self.replica_sets),
            pods: &all(&self.pods),
            events: &all(&self.events),
        }))
    }
}

fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
) -> (Store<K>, BoxStream<'static, Result<(), watcher::Error>>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let events = watcher(api, config).default_backoff();
    let changes = reflector::reflector(writer, events).map(|event| event.map(|_| ()));
    (store, changes.boxed())
}
