//! The proof that what a Service gets comes to the machine: through the Service's own addresses.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kdev_cluster::redirect::Protocol;
use kube::Api;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Claimed;
use crate::probe;

/// How long the cluster's nodes may take to learn of the redirection.
const PROBE: Duration = Duration::from_secs(10);
/// How long a connection to a pod may take that the prober is to stay with.
const HAVE_A_POD: Duration = Duration::from_millis(500);
/// Between two attempts: what the nodes know can't be waited for from here.
const BETWEEN: Duration = Duration::from_millis(50);

impl Claimed<'_> {
    /// Where the Service keeps clients with their pods, has the prober be one that has a pod: otherwise its probes
    /// might all arrive while other clients are still kept away.
    pub(super) async fn stay_with_pods(&self) {
        let Ok(service) = self.read().await else {
            return;
        };
        let affinity = service.spec.as_ref();
        let affinity = affinity.and_then(|spec| spec.session_affinity.as_deref());
        if affinity != Some("ClientIP") || self.claim.port.protocol != Protocol::Tcp {
            return;
        }
        for address in self.addresses(service).unwrap_or_default() {
            // One that isn't answered has no pod to stay with.
            let _ = tokio::time::timeout(HAVE_A_POD, TcpStream::connect(address)).await;
        }
    }

    /// Dials the Service's own addresses until the machine answers every time; returns how long the
    /// first answer took.
    pub(super) async fn prove(&self) -> Result<Duration, String> {
        let addresses = self.addresses(self.read().await?)?;
        let expected = self.joined.probe();
        let _announced = expected.announce();
        let end = Instant::now() + PROBE;
        loop {
            match probe::rounds(self.claim.port.protocol, &addresses, expected).await {
                Ok(took) => return Ok(took),
                Err(error) if Instant::now() > end => return Err(error.to_string()),
                Err(_) => tokio::time::sleep(BETWEEN).await,
            }
        }
    }

    /// The Service as it is.
    async fn read(&self) -> Result<Service, String> {
        let namespace = &self.service.namespace;
        let services: Api<Service> = Api::namespaced(self.tools.client.clone(), namespace);
        let found = services.get(&self.service.name).await;
        found.map_err(|error| error.to_string())
    }

    /// The Service's own addresses, with the port that was claimed, of the families that the router
    /// listens on.
    fn addresses(&self, found: Service) -> Result<Vec<SocketAddr>, String> {
        let spec = found.spec.unwrap_or_default();
        let own = spec.cluster_ips.unwrap_or_default();
        let own: Vec<IpAddr> = own.iter().filter_map(|ip| ip.parse().ok()).collect();
        if own.is_empty() {
            return Err("the Service has no address of its own to probe".to_owned());
        }
        let routed = |ip: &IpAddr| {
            let pods = self.tools.ports.addresses();
            pods.iter().any(|own| own.is_ipv4() == ip.is_ipv4())
        };
        let addresses: Vec<_> = own
            .iter()
            .filter(|ip| routed(ip))
            .map(|ip| SocketAddr::new(*ip, self.claim.port.number))
            .collect();
        if addresses.is_empty() {
            let (own, pod) = (own[0], self.tools.ports.addresses()[0]);
            return Err(format!(
                "the Service has the address {own} only, and the manager's pod {pod}, of another \
                 family: its connections go on to the pods"
            ));
        }
        Ok(addresses)
    }
}
