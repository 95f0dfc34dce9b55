//! Notices that a Service, its pods or slices have changed.

use std::collections::BTreeMap;

use futures::stream::{self, BoxStream, StreamExt};
use futures::{FutureExt, future};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};

use super::ServiceName;
use super::intercept::label_selector;
use super::objects::slices_of;
use crate::backoff::{ApiBackoff, WATCH_SECONDS};

/// Notices of changes of a Service's pods and slices, whatever they are.
pub(super) struct Notices {
    selector: BTreeMap<String, String>,
    stream: BoxStream<'static, ()>,
}

impl Notices {
    /// Watches the pods of `selector`, the Service and all its slices.
    pub(super) fn watch(
        client: &Client,
        service: &ServiceName,
        selector: &BTreeMap<String, String>,
    ) -> Self {
        let config = watcher::Config::default().timeout(WATCH_SECONDS);
        let pods: Api<PartialObjectMeta<Pod>> = Api::namespaced(client.clone(), &service.namespace);
        let pods = watcher(pods, config.clone().labels(&label_selector(selector)))
            .backoff(ApiBackoff::new())
            .filter_map(|event| future::ready(is_news(event)));
        let slices: Api<PartialObjectMeta<EndpointSlice>> =
            Api::namespaced(client.clone(), &service.namespace);
        let slices = watcher(slices, config.labels(&slices_of(&service.name)))
            .backoff(ApiBackoff::new())
            .filter_map(|event| future::ready(is_news(event)));
        // Its ports may lead elsewhere.
        let services: Api<PartialObjectMeta<Service>> =
            Api::namespaced(client.clone(), &service.namespace);
        let this = watcher::Config::default()
            .timeout(WATCH_SECONDS)
            .fields(&format!("metadata.name={}", service.name));
        let services = watcher(services, this)
            .backoff(ApiBackoff::new())
            .filter_map(|event| future::ready(is_news(event)));
        let selector = selector.clone();
        Self {
            selector,
            stream: stream::select(stream::select(pods, slices), services).boxed(),
        }
    }

    /// Waits for one; for ever where nothing is watched. Cancel safe.
    pub(super) async fn next(notices: &mut Option<Self>) {
        match notices {
            Some(notices) => drop(notices.stream.next().await),
            None => future::pending().await,
        }
    }

    /// Whether the pods of this selector are watched.
    pub(super) fn are_of(&self, selector: &BTreeMap<String, String>) -> bool {
        self.selector == *selector
    }

    /// Takes all that are there: one look is enough for all of them.
    pub(super) fn take_all(&mut self) {
        while self.stream.next().now_or_never().flatten().is_some() {}
    }
}

/// A list is news only when it is complete, which it is after every gap in the watch.
fn is_news<K>(event: Result<watcher::Event<K>, watcher::Error>) -> Option<()> {
    match event {
        Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone) => {
            Some(())
        }
        Ok(watcher::Event::Init | watcher::Event::InitApply(_)) | Err(_) => None,
    }
}
