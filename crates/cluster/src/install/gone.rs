//! Waiting until objects are gone, and which failures of a watch end a wait.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::client::{ApiError, ApiFailure, classify_watch};

/// Watches until no object is left, for at most `timeout`; returns the name of one that is still
/// there then. `waiting` gets the name of what is waited for, when it changes.
pub(super) async fn until_gone<K>(
    api: Api<K>,
    config: watcher::Config,
    timeout: Duration,
    mut waiting: impl FnMut(&str),
) -> Result<Option<String>, ApiError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, mut writer) = reflector::store::<K>();
    let mut events = pin!(watcher(api, config).default_backoff());
    let mut told = String::new();
    let gone = async {
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    watch_failed("watch the removal", &error)?;
                    continue;
                }
            };
            writer.apply_watcher_event(&event);
            // While the list is still being read, an empty store says nothing.
            if matches!(event, watcher::Event::Init | watcher::Event::InitApply(_)) {
                continue;
            }
            let Some(name) = store.state().first().map(|object| object.name_any()) else {
                break;
            };
            if told != name {
                waiting(&name);
                told = name;
            }
        }
        Ok::<(), ApiError>(())
    };
    match tokio::time::timeout(timeout, gone).await {
        Ok(gone) => gone.map(|()| None),
        Err(_) => Ok(store.state().first().map(|object| object.name_any())),
    }
}

/// Ends a wait if a watch's error won't pass by itself.
pub(super) fn watch_failed(doing: &str, error: &watcher::Error) -> Result<(), ApiError> {
    let failure = classify_watch(error);
    let is_final = matches!(
        failure,
        ApiFailure::Forbidden(_)
            | ApiFailure::Denied { .. }
            | ApiFailure::Unauthorized { .. }
            | ApiFailure::Credentials { .. }
    );
    if is_final {
        return Err(ApiError {
            doing: doing.to_owned(),
            failure,
            source: None,
        });
    }
    tracing::debug!(%error, "a watch failed and is taken up again");
    Ok(())
}
