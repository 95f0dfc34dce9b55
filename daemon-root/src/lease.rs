//! A lease on the machine's network: device, routes, resolver and stack, there as long as the stream
//! of the user's daemon is.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use kdev_common::carrier::TOKEN_LENGTH;
use kdev_common::causes::with_causes;
use kdev_common::socket::Peer;
use kdev_common::wake::Wake;
use kdev_common::{paths, person};
use kdev_host::device::{Device, DeviceConfig};
use kdev_host::resolver::{Applied, RESOLV_CONF, ResolvConf, ResolverError, ResolverGuard, Watch};
use kdev_host::routes::{DesiredRoutes, RouteState, Routes};
use kdev_identity::{Connector, Fingerprint, Identity};
use kdev_names::{DnsHandle, DnsServer, Policy};
use kdev_proto::v1::network_event::Kind as Event;
use kdev_proto::v1::network_request::Kind as Request;
use kdev_proto::v1::{
    CarriersChanged, ErrorKind, NetworkApplied, NetworkEvent, NetworkOpened, NetworkRequest,
    NetworkSettings, RouteStatus, State,
};
use kdev_proto::{Failure, PartCell};
use tokio::sync::mpsc;
use tokio::task::block_in_place;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

use crate::carrier_socket::{Taker, Token};
use crate::carriers::Carriers;
use crate::daemon::Daemon;
use crate::dns::OverCarriers;
use crate::lease_view::Lease;
use crate::shards::{self, Shared};

/// How long a lease waits for one that is being given back.
const HANDOVER: Duration = Duration::from_secs(10);
/// Least time between two answers to others who write the resolver's file: who also writes it again
/// and again must not keep the machine busy.
const CONTESTED: Duration = Duration::from_secs(1);
/// Port of the DNS server on the device's address.
const DNS_PORT: u16 = 53;
/// Addresses that the device may have, from the range for benchmarks (RFC 2544), which no network
/// routes; more than one, as other tools take from it as well.
const DEVICE_ADDRESSES: [Ipv4Addr; 3] = [
    Ipv4Addr::new(198, 18, 53, 1),
    Ipv4Addr::new(198, 19, 53, 1),
    Ipv4Addr::new(198, 18, 153, 1),
];
/// The device's address for IPv6, from a unique local prefix (RFC 4193) of kdev's own.
const DEVICE_ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd6b, 0x6465, 0x7600, 0, 0, 0, 0, 1);

type Events = mpsc::Sender<Result<NetworkEvent, Status>>;

/// What a lease is asked for.
#[derive(Debug)]
pub struct Wanted {
    /// The session's id.
    pub session: String,
    /// How long its TCP flows may be without a carrier.
    pub resume_limit: Duration,
}

/// Holds the machine's network for a session until its stream ends; everything is then as it was.
///
/// # Errors
///
/// When another session holds it, or the machine refuses what was asked.
pub async fn run(
    daemon: &Daemon,
    holder: Peer,
    wanted: Wanted,
    requests: Streaming<NetworkRequest>,
    events: &Events,
    cancelled: CancellationToken,
) -> Result<(), Failure> {
    // One that has just broken off is still being given back.
    let Ok(_held) = tokio::time::timeout(HANDOVER, daemon.network.lock()).await else {
        return Err(taken(daemon.lease.uid()));
    };
    let mut held = Held::take(daemon, holder, wanted).await?;
    tracing::info!(device = held.lease.device, "lease begins");
    let served = tokio::select! {
        () = cancelled.cancelled() => Ok(()),
        served = held.serve(requests, events) => served,
    };
    daemon.lease.end();
    daemon.takers.set(None);
    held.give_back().await;
    tracing::info!("lease ended");
    served
}

/// The network is another session's, of the user `uid` if that is known.
fn taken(uid: Option<u32>) -> Failure {
    let whose = uid.map_or_else(|| "another user".to_owned(), person::user);
    Failure::new(
        ErrorKind::Conflict,
        "this machine's network can't be taken",
        format!("another session holds it, of {whose}"),
        "whose session it is ends it with `kdev quit`",
    )
}

/// The resolver's file while it is kdev's, and who puts it back when this process is killed. In the
/// order of their end: the file first.
struct Resolver {
    file: ResolvConf,
    watch: Watch,
    _guard: ResolverGuard,
    taken: bool,
}

impl Resolver {
    fn new() -> Result<Self, ResolverError> {
        let file = ResolvConf::new(RESOLV_CONF, paths::ROOT_STATE_DIR);
        let watch = file.watch()?;
        // Not by its path, where there may be another version by now.
        let guard = ResolverGuard::spawn(Path::new("/proc/self/exe"), &[OsStr::new("guard")])?;
        Ok(Self {
            file,
            watch,
            _guard: guard,
            taken: false,
        })
    }

    /// Lets the file name `server`; `None` when it does already.
    fn apply(&mut self, server: IpAddr) -> Result<Option<Applied>, ResolverError> {
        if self.taken {
            return self.file.reapply();
        }
        let applied = self.file.apply(server)?;
        self.taken = true;
        Ok(Some(applied))
    }
}

/// What has to be given back.
struct Held {
    lease: Arc<Lease>,
    queues: Vec<Arc<Device>>,
    routes: Routes,
    resolver: Resolver,
    upstreams: Vec<SocketAddr>,
    dns: DnsHandle,
    token: Token,
    /// Hash of the key with which carriers are spoken over.
    key: Fingerprint,
    tasks: TaskTracker,
    cancelled: CancellationToken,
    /// Cancelled when a shard or the DNS server has ended, by a panic too: without them the device
    /// and the resolver's file lead nowhere.
    broken: CancellationToken,
}

impl Held {
    async fn take(daemon: &Daemon, holder: Peer, wanted: Wanted) -> Result<Self, Failure> {
        let identity = Identity::generate().map_err(|error| network(&error))?;
        let address = device_address();
        let addresses = vec![
            IpNet::from(IpAddr::V4(address)),
            IpAddr::V6(DEVICE_ADDRESS_V6).into(),
        ];
        let config = DeviceConfig {
            addresses,
            ..DeviceConfig::default()
        };
        let queues = Device::open_queues(&config, shards::queues())
            .await
            .map_err(|error| network(&error).with_next(error.next_step()))?;
        let queues: Vec<_> = queues.into_iter().map(Arc::new).collect();
        let [device, ..] = &queues[..] else {
            return Err(network(&std::io::Error::other("a device without a queue")));
        };
        let routes =
            Routes::new(device).map_err(|error| network(&error).with_next(error.next_step()))?;
        // Files that have to be on the disk, and a process: others go on meanwhile.
        let resolver = block_in_place(Resolver::new)
            .map_err(|error| network(&error).with_next(error.next_step()))?;
        let server = DnsServer::bind(address.into(), DNS_PORT, kdev_names::Limits::default())
            .await
            .map_err(|error| network(&error))?;
        let lease = Arc::new(Lease {
            uid: holder.uid,
            pid: holder.pid.and_then(|pid| pid.try_into().ok()).unwrap_or(0),
            session: wanted.session,
            device: device.name().to_owned(),
            carriers: Arc::new(Carriers::new(wanted.resume_limit)),
            flows: Arc::default(),
            dns: PartCell::new(State::Pending, "not set yet"),
            resolver: server.handle(),
            routing: PartCell::new(State::Pending, "no routes yet"),
            routes: Mutex::default(),
        });
        let (tasks, cancelled) = (TaskTracker::new(), CancellationToken::new());
        let dns = server.handle();
        let (carriers, ended) = (Arc::clone(&lease.carriers), cancelled.clone());
        let broken = CancellationToken::new();
        let watched = Arc::clone(&lease);
        let breaks = broken.clone().drop_guard();
        tasks.spawn(async move {
            let _breaks = breaks;
            if let Err(error) = server.run(OverCarriers(carriers), ended).await {
                tracing::warn!(%error, "the DNS server ended");
                watched.dns.set(State::Down, error.to_string());
            }
        });
        let shared = Shared {
            carriers: Arc::clone(&lease.carriers),
            tasks: tasks.clone(),
            cancelled: cancelled.clone(),
            flows: Arc::clone(&lease.flows),
        };
        for shard in shards::shards(&queues, &shared) {
            let watched = Arc::clone(&lease);
            let breaks = broken.clone().drop_guard();
            tasks.spawn(async move {
                let _breaks = breaks;
                if let Err(error) = shard.run().await {
                    tracing::warn!(%error, "the device failed");
                    watched
                        .routing
                        .set(State::Down, format!("the device failed: {error}"));
                }
            });
        }
        let token: Token = rand::random::<[u8; TOKEN_LENGTH]>();
        daemon.takers.set(Some(Taker {
            token,
            uid: holder.uid,
            carriers: Arc::clone(&lease.carriers),
            connector: Connector::new(identity.clone()),
            cancelled: cancelled.clone(),
            tasks: tasks.clone(),
        }));
        daemon.lease.begin(Arc::clone(&lease));
        Ok(Self {
            lease,
            queues,
            routes,
            resolver,
            upstreams: Vec::new(),
            dns,
            token,
            key: identity.fingerprint(),
            tasks,
            cancelled,
            broken,
        })
    }

    /// Serves the stream until it ends.
    async fn serve(
        &mut self,
        mut requests: Streaming<NetworkRequest>,
        events: &Events,
    ) -> Result<(), Failure> {
        let opened = NetworkOpened {
            carrier_token: Bytes::copy_from_slice(&self.token),
            device: self.lease.device.clone(),
            key: Bytes::copy_from_slice(self.key.as_bytes()),
        };
        let mut carriers = self.lease.carriers.changes();
        let mut wake = Wake::default();
        let mut machine = kdev_host::link::changes().map_err(|error| network(&error))?;
        let (mut last, mut quiet_until) = (None, Instant::now());
        if !send(events, Event::Opened(opened)).await {
            return Ok(());
        }
        loop {
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(NetworkRequest { kind: Some(Request::Settings(settings)) })) => {
                        let applied = self.apply(&settings).await?;
                        last = Some(settings);
                        if !send(events, Event::Applied(applied)).await {
                            return Ok(());
                        }
                    }
                    Ok(Some(_)) => {}
                    // The user's daemon ended the session, or is gone.
                    Ok(None) | Err(_) => return Ok(()),
                },
                _ = carriers.changed() => {
                    let changed = CarriersChanged { carriers: self.lease.carriers.status() };
                    if !send(events, Event::Carriers(changed)).await {
                        return Ok(());
                    }
                }
                asleep = wake.woke() => {
                    tracing::info!(?asleep, "the machine woke");
                    self.lease.carriers.doubt_all();
                }
                // Another network, another lease from DHCP: conflicts, gateways, name servers change.
                changed = machine.changed() => if let Some(settings) = &last {
                    changed.map_err(|error| network(&error))?;
                    self.lease.carriers.doubt_all();
                    let applied = self.apply(settings).await?;
                    if !send(events, Event::Applied(applied)).await {
                        return Ok(());
                    }
                },
                changed = async {
                    tokio::time::sleep_until(quiet_until).await;
                    self.resolver.watch.changed().await
                } => {
                    changed.map_err(|error| network(&error).with_next(error.next_step()))?;
                    quiet_until = Instant::now() + CONTESTED;
                    if let Some(settings) = &last {
                        self.apply(settings).await?;
                    }
                }
                () = self.broken.cancelled() => return Err(self.why_broken()),
                () = events.closed() => return Ok(()),
            }
        }
    }

    fn why_broken(&self) -> Failure {
        let parts = [self.lease.dns.get(), self.lease.routing.get()];
        let down = parts.into_iter().find(|part| part.state() == State::Down);
        let why = down.map_or_else(
            || "a part of kdev-rootd ended by a defect".to_owned(),
            |part| part.detail,
        );
        network(&std::io::Error::other(why))
    }

    async fn apply(&mut self, settings: &NetworkSettings) -> Result<NetworkApplied, Failure> {
        let prefixes: Vec<IpNet> = parsed(&settings.prefixes)?;
        let mut exempt: Vec<IpAddr> = parsed(&settings.exempt)?;
        let namespaces = &settings.namespaces;
        let policy = Policy::new(
            &settings.domain,
            &settings.namespace,
            namespaces,
            prefixes.iter().copied(),
        )
        .map_err(|error| network(&error))?
        .with_outside(&settings.outside_names);
        self.dns.set_policy(Some(policy));
        self.apply_resolver();
        // The machine's own name servers must stay reachable by their old way, whatever the prefixes.
        exempt.extend(self.upstreams.iter().map(SocketAddr::ip));
        let exempt = exempt.into_iter().map(IpNet::from).collect();
        let desired = DesiredRoutes { prefixes, exempt };
        let report = self
            .routes
            .apply(&desired)
            .await
            .map_err(|error| network(&error).with_next(error.next_step()))?;
        let routes: Vec<RouteStatus> = report
            .routes
            .iter()
            .map(|route| RouteStatus {
                prefix: route.prefix.to_string(),
                installed: route.installed.iter().map(ToString::to_string).collect(),
                conflict: remarks(route),
            })
            .collect();
        let missing = routes
            .iter()
            .filter(|route| route.installed.is_empty())
            .count();
        let state = if missing == 0 {
            State::Ok
        } else {
            State::Degraded
        };
        self.lease
            .routing
            .set(state, format!("{} prefixes", routes.len() - missing));
        self.lease
            .routes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&routes);
        Ok(NetworkApplied {
            routes,
            dns: Some(self.lease.dns.get()),
        })
    }
}

impl Held {
    /// Lets the resolver's file name the DNS server. Done again when somebody else wrote the file
    /// meanwhile: whom they named is then asked for everything else.
    fn apply_resolver(&mut self) {
        let address = self.dns.local_addr();
        match block_in_place(|| self.resolver.apply(address.ip())) {
            Ok(applied) => {
                if let Some(Applied { former, .. }) = applied {
                    self.upstreams = former.servers;
                    self.dns.set_upstreams(self.upstreams.iter().copied());
                }
                let names: Vec<String> = self.upstreams.iter().map(ToString::to_string).collect();
                let detail = format!("{address}; everything else goes to {}", names.join(", "));
                self.lease.dns.set(State::Ok, detail);
            }
            Err(error) => {
                let why = format!("{}; {}", with_causes(&error), error.next_step());
                tracing::warn!(why, "the resolver isn't set");
                self.lease.dns.set(State::Down, why);
            }
        }
    }
}

impl Held {
    /// Gives everything back, the resolver first, as names are of no use without the rest.
    async fn give_back(self) {
        let Self {
            queues,
            routes,
            mut resolver,
            dns,
            tasks,
            cancelled,
            ..
        } = self;
        block_in_place(|| {
            if let Err(error) = resolver.file.restore() {
                tracing::error!(%error, "the resolver's file isn't restored");
            }
            drop(resolver);
        });
        dns.set_policy(None);
        cancelled.cancel();
        tasks.close();
        tasks.wait().await;
        // The kernel takes the device and its routes with the last descriptor.
        drop((routes, queues));
    }
}

/// An address that this machine doesn't have yet; with all of them taken the first one, whose
/// refusal then says why.
fn device_address() -> Ipv4Addr {
    let [first, ..] = DEVICE_ADDRESSES;
    let is_free = |address: &Ipv4Addr| std::net::UdpSocket::bind((*address, 0)).is_err();
    DEVICE_ADDRESSES.into_iter().find(is_free).unwrap_or(first)
}

/// What a person should know of a prefix's routes.
fn remarks(route: &RouteState) -> String {
    let conflicts = route.conflicts.iter().map(ToString::to_string);
    let problem = route.problem.iter().map(ToString::to_string);
    conflicts.chain(problem).collect::<Vec<_>>().join("; ")
}

fn parsed<T: FromStr<Err: Display>>(texts: &[String]) -> Result<Vec<T>, Failure> {
    texts
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|error| network(&std::io::Error::other(format!("\"{text}\": {error}"))))
        })
        .collect()
}

/// False when the user's daemon is gone.
async fn send(events: &Events, event: Event) -> bool {
    events
        .send(Ok(NetworkEvent { kind: Some(event) }))
        .await
        .is_ok()
}

fn network(error: &dyn Error) -> Failure {
    Failure::new(
        ErrorKind::Network,
        "this machine's network can't be set up",
        with_causes(error),
        format!(
            "kdev-rootd's log in {} has the details",
            paths::ROOT_LOG_DIR
        ),
    )
}
