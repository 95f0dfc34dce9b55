//! The watches that the facts are made of.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::IpAddr;

use futures::StreamExt;
use futures::stream::BoxStream;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::direct::Ways;
use super::pods::{NodeFacts, pod_ips};
use super::services::cluster_ips;
use crate::backoff::{ApiBackoff, WATCH_SECONDS};
use crate::client::{ApiError, call};

/// How many pods are asked for to see whether the nodes tell the truth.
const SAMPLE: u32 = 100;

/// What a watch of one kind tells, already reduced to what matters.
pub(super) type Told<T> = Result<Event<(String, T)>, watcher::Error>;

/// News of one of the kinds.
pub(super) enum News {
    Namespaces(Told<()>),
    Nodes(Told<NodeFacts>),
    ServiceCidrs(Told<Vec<IpNet>>),
    Services(Told<BTreeSet<IpAddr>>),
    Pods(Told<BTreeSet<IpAddr>>),
    Own(Told<Ways>),
}

pub(super) type Source = BoxStream<'static, News>;

/// The versions of the ServiceCIDR API, the best first.
pub(super) const SERVICE_CIDR_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

pub(super) fn namespaces(client: &Client) -> Source {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    watch(api, |_| (), News::Namespaces)
}

pub(super) fn nodes(client: &Client) -> Source {
    watch(Api::all(client.clone()), NodeFacts::of, News::Nodes)
}

pub(super) fn service_cidrs(client: &Client, version: &str) -> Source {
    let resource = ApiResource {
        group: "networking.k8s.io".to_owned(),
        version: version.to_owned(),
        api_version: format!("networking.k8s.io/{version}"),
        kind: "ServiceCIDR".to_owned(),
        plural: "servicecidrs".to_owned(),
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    watch(api, cidrs_of, News::ServiceCidrs)
}

pub(super) fn services(client: &Client) -> Source {
    let api: Api<Service> = Api::all(client.clone());
    watch(api, cluster_ips, News::Services)
}

/// Watches one Service, `namespace/name`.
pub(super) fn own(client: &Client, service: &str) -> Source {
    let (namespace, name) = service.split_once('/').unwrap_or(("default", service));
    let api: Api<Service> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watch_some(api, config, Ways::of, News::Own)
}

pub(super) fn pods(client: &Client) -> Source {
    let api: Api<Pod> = Api::all(client.clone());
    watch(api, pod_ips, News::Pods)
}

/// Asks for the addresses of a few pods.
pub(super) async fn sample(client: Client) -> Result<BTreeSet<IpAddr>, ApiError> {
    let api: Api<Pod> = Api::all(client);
    let params = ListParams::default().limit(SAMPLE);
    let pods = call("list a few pods", api.list(&params)).await?;
    Ok(pods.items.iter().flat_map(pod_ips).collect())
}

fn watch<K, T>(
    api: Api<K>,
    reduce: impl Fn(&K) -> T + Send + 'static,
    news: impl Fn(Told<T>) -> News + Send + 'static,
) -> Source
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    T: Send + 'static,
{
    watch_some(api, watcher::Config::default(), reduce, news)
}

fn watch_some<K, T>(
    api: Api<K>,
    config: watcher::Config,
    reduce: impl Fn(&K) -> T + Send + 'static,
    news: impl Fn(Told<T>) -> News + Send + 'static,
) -> Source
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    T: Send + 'static,
{
    let config = config.timeout(WATCH_SECONDS);
    let reduced = move |object: K| {
        let name = match object.namespace() {
            Some(namespace) => format!("{namespace}/{}", object.name_any()),
            None => object.name_any(),
        };
        (name, reduce(&object))
    };
    watcher(api, config)
        .backoff(ApiBackoff::new())
        .map(move |told| {
            news(told.map(|event| match event {
                Event::Init => Event::Init,
                Event::InitApply(object) => Event::InitApply(reduced(object)),
                Event::InitDone => Event::InitDone,
                Event::Apply(object) => Event::Apply(reduced(object)),
                Event::Delete(object) => Event::Delete(reduced(object)),
            }))
        })
        .boxed()
}

fn cidrs_of(object: &DynamicObject) -> Vec<IpNet> {
    let cidrs = object.data["spec"]["cidrs"].as_array();
    cidrs
        .into_iter()
        .flatten()
        .filter_map(|cidr| cidr.as_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::prefixes::tests::nets;
    use super::*;

    #[test]
    fn a_service_cidr_tells_its_prefixes() {
        let object: DynamicObject = serde_json::from_value(serde_json::json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": { "name": "kubernetes" },
            "spec": { "cidrs": ["10.96.0.0/16", "fd00::/112", "nonsense"] },
        }))
        .unwrap();
        assert_eq!(cidrs_of(&object), nets("10.96.0.0/16 fd00::/112"));
    }
}
