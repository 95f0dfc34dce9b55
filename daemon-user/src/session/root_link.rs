//! The session's lease on the machine's network: a stream to the root daemon.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kdev_cluster::client::ClusterClient;
use kdev_common::carrier::TOKEN_LENGTH;
use kdev_common::outage::Outage;
use kdev_common::{paths, socket};
use kdev_identity::Fingerprint;
use kdev_proto::v1::network_event::Kind as Event;
use kdev_proto::v1::network_request::Kind as Request;
use kdev_proto::v1::root_daemon_client::RootDaemonClient;
use kdev_proto::v1::{
    CarrierStatus, ClusterNetwork, ErrorKind, NetworkApplied, NetworkEvent, NetworkOpen,
    NetworkOpened, NetworkRequest, NetworkSettings, Part, State, VersionRequest,
};
use kdev_proto::{Failure, check_version, version_of};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::backoff::{Backoff, Nudge};
use super::direct::Found;
use crate::failures;

/// How often the API server's name is resolved again: behind it addresses change.
const RESOLVE: Duration = Duration::from_secs(30);
/// How long the root daemon may take to give everything back.
const GIVEN_BACK: Duration = Duration::from_secs(8);
const QUEUE: usize = 8;

/// What the link is now.
#[derive(Debug, Clone)]
pub struct Link {
    /// How it is doing.
    pub part: Part,
    /// Name of the device, while there is one.
    pub device: String,
    /// What the root daemon answered to the last settings.
    pub applied: Option<NetworkApplied>,
    /// The carriers, as the root daemon sees them.
    pub carriers: Vec<CarrierStatus>,
    /// Why it doesn't work, when it doesn't.
    pub failure: Option<Failure>,
}

/// A handle to the link's task.
#[derive(Debug, Clone)]
pub struct RootLink {
    /// What the link is.
    pub link: watch::Receiver<Link>,
    /// What carriers have to show; changes with each lease.
    pub shown: watch::Receiver<Option<Shown>>,
}

/// What the root daemon told when it gave a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What its carriers have to show.
    pub token: [u8; TOKEN_LENGTH],
    /// Hash of the key with which it speaks over them.
    pub key: Fingerprint,
}

/// The parts of a session that the link needs.
#[derive(Debug)]
pub struct Needs {
    /// The session's id.
    pub session: String,
    /// The namespace that short names mean.
    pub namespace: String,
    /// How long TCP flows may be without a carrier.
    pub resume_limit: Duration,
    /// The cluster.
    pub cluster: Arc<ClusterClient>,
    /// What the manager says of the cluster's network.
    pub network: watch::Receiver<Option<ClusterNetwork>>,
    /// Which addresses must keep their old way.
    pub direct: watch::Receiver<Found>,
}

/// A lease's stream: what the root daemon says, and what it is asked.
type Opened = (Streaming<NetworkEvent>, mpsc::Sender<NetworkRequest>);

struct Task {
    needs: Needs,
    link: watch::Sender<Link>,
    shown: watch::Sender<Option<Shown>>,
    outage: Outage,
    /// Of the API server's name.
    unresolved: Outage,
}

impl RootLink {
    /// Makes the link; the future is its task, which ends when `cancelled`.
    pub fn new(
        needs: Needs,
        nudge: Nudge,
        cancelled: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (link_sender, link) = watch::channel(Link {
            part: Part::new(State::Pending, "waiting for the root daemon"),
            device: String::new(),
            applied: None,
            carriers: Vec::new(),
            failure: None,
        });
        let (shown_sender, shown) = watch::channel(None);
        let task = Task {
            needs,
            link: link_sender,
            shown: shown_sender,
            outage: Outage::default(),
            unresolved: Outage::default(),
        };
        (Self { link, shown }, task.run(nudge, cancelled))
    }

    /// Waits until the settings are applied and a carrier carries.
    ///
    /// # Errors
    ///
    /// The first failure, as long as they aren't.
    pub async fn first(&self) -> Result<Link, Failure> {
        let mut link = self.link.clone();
        let ok = i32::from(State::Ok);
        let settled = link
            .wait_for(|link| {
                let carries = link
                    .carriers
                    .iter()
                    .any(|one| one.part.as_ref().is_some_and(|part| part.state == ok));
                link.failure.is_some() || (link.applied.is_some() && carries)
            })
            .await
            .map_err(|_| {
                Failure::internal("the link to the root daemon ended", "its task is gone")
            })?;
        match &settled.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(settled.clone()),
        }
    }
}

impl Task {
    async fn run(mut self, nudge: Nudge, cancelled: CancellationToken) {
        let mut backoff = Backoff::new(nudge);
        loop {
            let Some(failure) = self.hold(&mut backoff, &cancelled).await else {
                return;
            };
            if self.outage.handle_lost(Instant::now()) {
                tracing::info!(reason = %failure.why, "no lease on the machine's network");
            } else {
                tracing::debug!(reason = %failure.why, "still no lease on the machine's network");
            }
            self.shown.send_replace(None);
            self.link.send_modify(|link| {
                link.part = link.part.then(State::Down, failure.to_string());
                link.device.clear();
                link.applied = None;
                link.carriers.clear();
                link.failure = Some(failure);
            });
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = backoff.wait() => {}
            }
        }
    }

    /// Holds the lease until it ends and says why, or gives it back when `cancelled`.
    async fn hold(
        &mut self,
        backoff: &mut Backoff,
        cancelled: &CancellationToken,
    ) -> Option<Failure> {
        let (mut events, requests) = match self.opened(cancelled).await? {
            Ok(opened) => opened,
            Err(failure) => return Some(failure),
        };
        tokio::select! {
            biased;
            () = cancelled.cancelled() => {}
            Err(failure) = self.follow(&mut events, &requests, backoff) => return Some(failure),
        }
        // The root daemon undoes everything when the requests end, and ends its events when it has.
        drop(requests);
        let given_back = async { while let Ok(Some(_)) = events.message().await {} };
        if tokio::time::timeout(GIVEN_BACK, given_back).await.is_err() {
            tracing::warn!("the root daemon takes long to give the machine's network back");
        }
        None
    }

    /// Opens a lease. What was asked for is waited for even when `cancelled`, as the root daemon may
    /// have begun, and has to be told to give it back; `None` when it doesn't answer in that time.
    async fn opened(&self, cancelled: &CancellationToken) -> Option<Result<Opened, Failure>> {
        let open = self.open();
        tokio::pin!(open);
        tokio::select! {
            biased;
            opened = &mut open => Some(opened),
            () = cancelled.cancelled() => tokio::time::timeout(GIVEN_BACK, open).await.ok(),
        }
    }

    async fn open(&self) -> Result<Opened, Failure> {
        let channel = socket::call(&paths::root_socket())
            .await
            .map_err(|error| failures::root_daemon(&error))?;
        let mut client = RootDaemonClient::new(channel);
        check_version(&client.get_version(VersionRequest {}).await?.into_inner())?;
        let (requests, receiver) = mpsc::channel(QUEUE);
        let version = Some(version_of("kdev-userd"));
        let open = NetworkOpen {
            session: self.needs.session.clone(),
            version,
            resume_limit_seconds: u32::try_from(self.needs.resume_limit.as_secs())
                .unwrap_or(u32::MAX),
        };
        send(&requests, Request::Open(open)).await?;
        let events = client
            .network(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        Ok((events, requests))
    }

    async fn follow(
        &mut self,
        events: &mut Streaming<NetworkEvent>,
        requests: &mpsc::Sender<NetworkRequest>,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, Failure> {
        let mut resolve = tokio::time::interval(RESOLVE);
        let mut sent = None;
        self.needs.network.mark_changed();
        loop {
            tokio::select! {
                event = events.message() => match event? {
                    Some(event) => {
                        // A lease that was given and couldn't be used is no reason for haste.
                        if matches!(event.kind, Some(Event::Applied(_))) {
                            backoff.reset();
                            if let Some(away) = self.outage.handle_back(Instant::now()) {
                                tracing::info!(?away, "the lease on the machine's network is back");
                            }
                        }
                        self.handle(event.kind);
                    }
                    None => return Err(ended(&"the root daemon ended it")),
                },
                changed = self.needs.network.changed() => {
                    changed.map_err(|_| ended(&"the session ends"))?;
                    self.send_settings(&mut sent, requests).await?;
                }
                changed = self.needs.direct.changed() => {
                    changed.map_err(|_| ended(&"the session ends"))?;
                    self.send_settings(&mut sent, requests).await?;
                }
                _ = resolve.tick() => self.send_settings(&mut sent, requests).await?,
            }
        }
    }

    async fn send_settings(
        &mut self,
        sent: &mut Option<NetworkSettings>,
        requests: &mpsc::Sender<NetworkRequest>,
    ) -> Result<(), Failure> {
        let Some(network) = self.needs.network.borrow().clone() else {
            return Ok(());
        };
        let mut exempt: BTreeSet<IpAddr> = match self.needs.cluster.api_server_addresses().await {
            Ok(addresses) => {
                if let Some(away) = self.unresolved.handle_back(Instant::now()) {
                    tracing::info!(?away, "the API server's name is resolved again");
                }
                addresses.iter().map(std::net::SocketAddr::ip).collect()
            }
            Err(error) => {
                if self.unresolved.handle_lost(Instant::now()) {
                    tracing::info!(%error, "the API server's name isn't resolved now");
                } else {
                    tracing::debug!(%error, "the API server's name still isn't resolved");
                }
                BTreeSet::new()
            }
        };
        exempt.extend(&self.needs.direct.borrow().exempt);
        let mut settings = settings(&network, &self.needs.namespace, exempt, sent.as_ref());
        settings.outside_names = self.needs.cluster.api_server_hosts();
        if sent.as_ref() != Some(&settings) {
            send(requests, Request::Settings(settings.clone())).await?;
            *sent = Some(settings);
        }
        Ok(())
    }

    fn handle(&self, event: Option<Event>) {
        match event {
            Some(Event::Opened(opened)) => {
                let shown = shown(&opened);
                if shown.is_none() {
                    tracing::warn!("the root daemon's lease can't be used: no token or no key");
                }
                self.shown.send_replace(shown);
                self.link.send_modify(|link| {
                    link.part = link
                        .part
                        .then(State::Ok, format!("device {}", opened.device));
                    link.device = opened.device;
                    link.failure = None;
                });
            }
            Some(Event::Applied(applied)) => {
                self.link.send_modify(|link| link.applied = Some(applied));
            }
            Some(Event::Carriers(changed)) => {
                self.link
                    .send_modify(|link| link.carriers = changed.carriers);
            }
            None => {}
        }
    }
}

fn shown(opened: &NetworkOpened) -> Option<Shown> {
    let key: [u8; Fingerprint::LENGTH] = opened.key[..].try_into().ok()?;
    Some(Shown {
        token: opened.carrier_token[..].try_into().ok()?,
        key: key.into(),
    })
}

async fn send(requests: &mpsc::Sender<NetworkRequest>, kind: Request) -> Result<(), Failure> {
    let request = NetworkRequest { kind: Some(kind) };
    requests
        .send(request)
        .await
        .map_err(|_| ended(&"the stream is closed"))
}

/// What the root daemon is asked for. An exemption once made stays: connections that use it live on.
fn settings(
    network: &ClusterNetwork,
    namespace: &str,
    mut exempt: BTreeSet<IpAddr>,
    before: Option<&NetworkSettings>,
) -> NetworkSettings {
    let before = before.map_or(&[][..], |before| &before.exempt);
    exempt.extend(
        before
            .iter()
            .filter_map(|address| address.parse::<IpAddr>().ok()),
    );
    NetworkSettings {
        prefixes: network
            .service_cidrs
            .iter()
            .chain(&network.pod_cidrs)
            .cloned()
            .collect(),
        exempt: exempt.iter().map(ToString::to_string).collect(),
        domain: network.domain.clone(),
        namespace: namespace.to_owned(),
        namespaces: network.namespaces.clone(),
        outside_names: Vec::new(),
    }
}

fn ended(why: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        ErrorKind::Daemon,
        "the root daemon gave the machine's network back",
        why.to_string(),
        "run `kdev connect` again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_the_api_server_once_had_stays_exempt() {
        let network = ClusterNetwork {
            domain: "d".to_owned(),
            ..ClusterNetwork::default()
        };
        let first = settings(
            &network,
            "n",
            BTreeSet::from(["10.0.0.1".parse().unwrap()]),
            None,
        );
        let second = settings(
            &network,
            "n",
            BTreeSet::from(["10.0.0.2".parse().unwrap()]),
            Some(&first),
        );
        assert_eq!(second.exempt, ["10.0.0.1", "10.0.0.2"]);
    }
}
