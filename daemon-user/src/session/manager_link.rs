//! The session's own connection to the manager: control stream, heartbeats, and the channel over which
//! connections from the cluster come.

mod task;

use std::sync::Arc;
use std::time::Duration;

use kdev_common::carrier::CarrierKind;
use kdev_common::channel::Channel;
use kdev_common::outage::Outage;
use kdev_flow::Carrier;
use kdev_proto::Failure;
use kdev_proto::v1::session_request::Kind as Request;
use kdev_proto::v1::{ClusterNetwork, InterceptState, Part, State, Version};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::backoff::Nudge;
use super::direct::Direct;
use super::manager_access::ManagerAccess;
use super::pings::Pings;
use super::voucher::Voucher;
use task::Task;

/// Requests that wait to be sent.
const QUEUE: usize = 64;

/// What the link is now.
#[derive(Debug, Clone)]
pub struct Link {
    /// How it is doing.
    pub part: Part,
    /// Set while it works.
    pub channel: Option<Channel>,
    /// The manager's version, since it was first reached.
    pub version: Option<Version>,
    /// Why it doesn't work, when it doesn't.
    pub failure: Option<Failure>,
    /// Grows with each connection.
    pub generation: u64,
    /// Round trip of the last heartbeat on this connection, once there was one.
    pub round_trip: Option<Duration>,
    /// The last ping that was answered, on whichever connection.
    pub answered: u64,
    /// Over what it leads.
    pub kind: CarrierKind,
    /// Set when the session was ended in the cluster: it doesn't come back.
    pub over: bool,
    /// Closes the connection.
    pub carrier: Carrier,
    /// Whether the manager redirects UDP ports.
    pub redirects_udp: bool,
}

/// What the link needs.
#[derive(Debug, Clone)]
pub struct Means {
    /// The ways to the manager.
    pub access: ManagerAccess,
    /// The direct one.
    pub direct: Direct,
    /// Sees to it that the manager knows this daemon's key.
    pub voucher: Arc<Voucher>,
    /// "user@machine".
    pub owner: String,
    /// How long TCP flows may be without a carrier.
    pub resume_limit: Duration,
}

/// A handle to the link's task.
#[derive(Debug, Clone)]
pub struct ManagerLink {
    /// What the link is.
    pub link: watch::Receiver<Link>,
    /// What the manager last said of the cluster's network.
    pub network: watch::Receiver<Option<ClusterNetwork>>,
    requests: mpsc::Sender<Request>,
    pings: Pings,
    asked: Arc<Notify>,
}

/// Who hears of what becomes of intercepts.
pub trait InterceptEvents: Send + Sync + 'static {
    /// The manager reports on an intercept.
    fn handle_state(&self, state: InterceptState);
    /// What to ask again of a manager that was just connected to.
    fn held(&self) -> Vec<Request>;
}

impl ManagerLink {
    /// Starts the link; the future is its task, which ends when `cancelled`. What the manager says of the
    /// cluster's network goes to `network_sender`.
    pub fn new(
        means: Means,
        intercepts: Arc<dyn InterceptEvents>,
        network_sender: watch::Sender<Option<ClusterNetwork>>,
        nudge: Nudge,
        cancelled: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (link_sender, link) = watch::channel(Link {
            part: Part::new(State::Pending, "connecting"),
            channel: None,
            version: None,
            failure: None,
            generation: 0,
            round_trip: None,
            answered: 0,
            kind: CarrierKind::PortForward,
            over: false,
            carrier: Carrier::default(),
            redirects_udp: false,
        });
        let network = network_sender.subscribe();
        let (requests, receiver) = mpsc::channel(QUEUE);
        let (pings, asked) = (Pings::new(), Arc::new(Notify::new()));
        let task = Task {
            means,
            link: link_sender,
            network: network_sender,
            requests: receiver,
            intercepts,
            pings,
            asked: Arc::clone(&asked),
            outage: Outage::default(),
        };
        (
            Self {
                link,
                network,
                requests,
                pings,
                asked,
            },
            task.run(nudge, cancelled),
        )
    }

    /// Sends a request to the manager; false when there is no connection to send it on. What must
    /// not be lost is among [`InterceptEvents::held`] and sent again on the next connection.
    pub fn request(&self, request: Request) -> bool {
        self.link.borrow().channel.is_some() && self.requests.try_send(request).is_ok()
    }

    /// Asks the manager now, and waits for its answer no longer than `patience`; false when it is
    /// connected and doesn't answer. Where it isn't, the link says so itself.
    pub async fn answers(&self, patience: Duration) -> bool {
        let asked = self.pings.number();
        self.asked.notify_one();
        let mut link = self.link.clone();
        let answered = link.wait_for(|link| link.channel.is_none() || link.answered >= asked);
        tokio::time::timeout(patience, answered).await.is_ok()
    }

    /// Waits until the link works.
    ///
    /// # Errors
    ///
    /// The first failure, as long as it doesn't.
    pub async fn first(&self) -> Result<Link, Failure> {
        let mut link = self.link.clone();
        let settled = link
            .wait_for(|link| link.channel.is_some() || link.failure.is_some())
            .await
            .map_err(|_| Failure::internal("the link to the manager ended", "its task is gone"))?;
        match (&settled.channel, &settled.failure) {
            (None, Some(failure)) => Err(failure.clone()),
            _ => Ok(settled.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody waits for so long.
    const LONG: Duration = Duration::from_secs(30);
    /// What is certainly over by then.
    const SHORT: Duration = Duration::from_millis(20);

    /// A link that takes itself for connected.
    async fn connected() -> (ManagerLink, watch::Sender<Link>, Arc<Notify>) {
        let (near, _far) = tokio::io::duplex(1 << 10);
        let (link_sender, link) = watch::channel(Link {
            part: Part::new(State::Ok, "pod kdev/manager"),
            channel: Some(Channel::over(near).await.unwrap()),
            version: None,
            failure: None,
            generation: 1,
            round_trip: None,
            answered: 0,
            kind: CarrierKind::Direct,
            over: false,
            carrier: Carrier::default(),
            redirects_udp: true,
        });
        let asked = Arc::new(Notify::new());
        let link = ManagerLink {
            link,
            network: watch::Sender::new(None).subscribe(),
            requests: mpsc::channel(1).0,
            pings: Pings::new(),
            asked: Arc::clone(&asked),
        };
        (link, link_sender, asked)
    }

    #[tokio::test]
    async fn a_connection_over_which_nothing_comes_doesnt_answer_whatever_it_answered_before() {
        let (link, sender, _asked) = connected().await;
        assert!(!link.answers(SHORT).await);
        sender.send_modify(|link| (link.answered, link.round_trip) = (1, Some(SHORT)));
        assert!(!link.answers(SHORT).await);
    }

    #[tokio::test]
    async fn who_asks_has_a_ping_sent_and_hears_of_its_answer() {
        let (link, sender, asked) = connected().await;
        let pings = link.pings;
        let answer = async {
            asked.notified().await;
            sender.send_modify(|link| link.answered = pings.number());
        };
        let (answers, ()) = tokio::join!(link.answers(LONG), answer);
        assert!(answers);
    }

    #[tokio::test]
    async fn who_asks_while_there_is_no_connection_neednt_wait() {
        let (link, sender, _asked) = connected().await;
        sender.send_modify(|link| link.channel = None);
        assert!(link.answers(LONG).await);
    }
}
