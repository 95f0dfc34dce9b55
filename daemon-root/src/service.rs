//! The root daemon's gRPC interface: who may call, and each method in a few lines.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kdev_common::person;
use kdev_common::socket::Peer;
use kdev_flow::carry::RESUME_LIMIT;
use kdev_proto::v1::network_request::Kind;
use kdev_proto::v1::root_daemon_server::RootDaemon;
use kdev_proto::v1::{
    ErrorKind, NetworkEvent, NetworkRequest, RootStatus, RootStatusRequest, ShutdownRequest,
    ShutdownResponse, Version, VersionRequest,
};
use kdev_proto::{Failure, check_version, version_of};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::daemon::Daemon;
use crate::lease::{self, Wanted};

/// Events that wait for the user's daemon.
const QUEUE: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Service {
    daemon: Arc<Daemon>,
}

impl Service {
    /// Serves calls on `daemon`.
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Self { daemon }
    }

    /// Who calls; refuses whoever isn't root or the owner. The socket's mode keeps others out already;
    /// this holds also where a group may open it.
    fn caller<T>(&self, request: &Request<T>) -> Result<Peer, Failure> {
        let peer = request.extensions().get::<Peer>().copied();
        let Some(peer) = peer else {
            return Err(Failure::internal(
                "the caller's user is unknown",
                "no peer credentials",
            ));
        };
        let others = |owner: &u32| peer.uid != 0 && *owner != peer.uid;
        let Some(owner) = self.daemon.owner().filter(others) else {
            return Ok(peer);
        };
        Err(Failure::new(
            ErrorKind::NotPermitted,
            "kdev-rootd doesn't take your commands",
            format!("it serves another user now: {}", person::user(owner)),
            "wait until they have run `kdev quit`",
        ))
    }
}

#[tonic::async_trait]
impl RootDaemon for Service {
    type NetworkStream = Pin<Box<dyn Stream<Item = Result<NetworkEvent, Status>> + Send>>;

    async fn get_version(&self, _: Request<VersionRequest>) -> Result<Response<Version>, Status> {
        Ok(Response::new(version_of("kdev-rootd")))
    }

    async fn get_status(
        &self,
        request: Request<RootStatusRequest>,
    ) -> Result<Response<RootStatus>, Status> {
        self.caller(&request)?;
        let mut status = RootStatus {
            version: Some(version_of("kdev-rootd")),
            started_ms: self.daemon.started_ms,
            pid: std::process::id(),
            started_by: self.daemon.started_by.to_string(),
            ..RootStatus::default()
        };
        if let Some(lease) = self.daemon.lease.get() {
            lease.carriers.look().await;
        }
        self.daemon.lease.describe(&mut status);
        Ok(Response::new(status))
    }

    async fn network(
        &self,
        request: Request<Streaming<NetworkRequest>>,
    ) -> Result<Response<Self::NetworkStream>, Status> {
        let holder = self.caller(&request)?;
        let mut requests = request.into_inner();
        let Some(Kind::Open(open)) = requests.message().await?.and_then(|first| first.kind) else {
            return Err(
                Failure::internal("the lease wasn't opened", "its first message must").into(),
            );
        };
        check_version(&open.version.unwrap_or_default())?;
        let resume_limit = match open.resume_limit_seconds {
            0 => RESUME_LIMIT,
            seconds => Duration::from_secs(seconds.into()),
        };
        let wanted = Wanted {
            session: open.session,
            resume_limit,
        };
        let (events, receiver) = mpsc::channel(QUEUE);
        let daemon = Arc::clone(&self.daemon);
        let cancelled = daemon.ending.clone();
        self.daemon.tasks.spawn(async move {
            if let Err(failure) =
                lease::run(&daemon, holder, wanted, requests, &events, cancelled).await
            {
                tracing::warn!(%failure, "the lease ended");
                let _ = events.send(Err(failure.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        self.caller(&request)?;
        let ending = self.daemon.ends_on_request();
        if ending {
            self.daemon.ending.cancel();
        }
        Ok(Response::new(ShutdownResponse { ending }))
    }
}
