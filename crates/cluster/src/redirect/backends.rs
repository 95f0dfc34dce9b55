//! The pods behind a Service's port, whether it is redirected or not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::api::{ServiceApi, ServiceName};
use super::notices::Notices;
use super::observed::Observed;
use super::port::{PortRef, api_ports};
use super::slices;
use crate::backoff::ApiBackoff;

/// The shortest time between two looks at a Service whose pods change all the time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at a Service without a selector: nothing of it is watched.
const LOOK: Duration = Duration::from_secs(3);
/// What `sessionAffinityConfig.clientIP.timeoutSeconds` is where it isn't said (the API's default: 3 h).
const AFFINITY: Duration = Duration::from_secs(10_800);

/// Where connections of a Service's port go when nobody intercepts it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backends {
    /// The addresses of ready pods, with the port that each of them serves it on. Empty without any, or
    /// without the Service.
    pub addresses: Vec<SocketAddr>,
    /// For how long after its last connection a client stays with the pod that it had; `None` where the
    /// Service doesn't ask for that.
    pub affinity: Option<Duration>,
}

/// Says where connections of a Service's port go when nobody intercepts it, as that changes. Ends when nobody
/// listens; it may be dropped at any point.
pub async fn follow_backends(
    client: &Client,
    service: &ServiceName,
    port: &PortRef,
    backends: watch::Sender<Option<Arc<Backends>>>,
) {
    let api = ServiceApi::new(client, service.clone());
    let mut delays = ApiBackoff::new();
    let mut notices: Option<Notices> = None;
    while !backends.is_closed() {
        let next = Instant::now() + SHORTEST_PAUSE;
        let again = match api.observe().await {
            Ok(read) => {
                delays = ApiBackoff::new();
                let found = Arc::new(behind(&read.observed, port));
                backends.send_if_modified(|known| {
                    let changed = known.as_ref() != Some(&found);
                    *known = Some(found);
                    changed
                });
                match read.observed.selector() {
                    Some(selector) => {
                        if !notices.as_ref().is_some_and(|one| one.are_of(&selector)) {
                            notices = Some(Notices::watch(client, service, &selector));
                        }
                        None
                    }
                    None => {
                        notices = None;
                        Some(LOOK)
                    }
                }
            }
            // Those that are known may do.
            Err(error) => {
                tracing::debug!(%service, %error, "can't look for pods");
                Some(delays.delay())
            }
        };
        tokio::select! {
            () = Notices::next(&mut notices) => sleep_until(next).await,
            () = after(again) => {}
            () = backends.closed() => return,
        }
        if let Some(notices) = &mut notices {
            notices.take_all();
        }
    }
}

async fn after(pause: Option<Duration>) {
    match pause {
        Some(pause) => sleep(pause).await,
        None => futures::future::pending().await,
    }
}

fn behind(observed: &Observed, port: &PortRef) -> Backends {
    let Some(found) = &observed.service else {
        return Backends::default();
    };
    // Its name may have been changed since.
    let Some(port) = api_ports(found).iter().find(|current| port.is(current)) else {
        return Backends::default();
    };
    let wanted = slices::wanted(found, &observed.pods, &BTreeMap::new(), &observed.zones());
    Backends {
        addresses: slices::destinations(&wanted, &PortRef::of(port)),
        affinity: client_affinity(found),
    }
}

/// For how long a Service has its clients stay with their pods (`sessionAffinity: ClientIP`).
fn client_affinity(service: &Service) -> Option<Duration> {
    let spec = service.spec.as_ref()?;
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref();
    let seconds = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Some(seconds.map_or(AFFINITY, Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ClientIPConfig, SessionAffinityConfig};

    use super::*;
    use crate::redirect::testing;

    #[test]
    fn clients_stay_with_their_pods_for_as_long_as_the_service_says() {
        let mut service = testing::service("web", &[("", 80, "TCP")]);
        assert_eq!(client_affinity(&service), None);
        let spec = service.spec.as_mut().unwrap();
        spec.session_affinity = Some("ClientIP".to_owned());
        assert_eq!(client_affinity(&service), Some(Duration::from_secs(10_800)));
        let client_ip = Some(ClientIPConfig {
            timeout_seconds: Some(5),
        });
        let spec = service.spec.as_mut().unwrap();
        spec.session_affinity_config = Some(SessionAffinityConfig { client_ip });
        assert_eq!(client_affinity(&service), Some(Duration::from_secs(5)));
        service.spec.as_mut().unwrap().session_affinity = Some("None".to_owned());
        assert_eq!(client_affinity(&service), None);
    }
}
