//! One client's datagrams: to the machine as long as somebody has claimed the port, else to a pod.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kdev_flow::carry::Stream;
use kdev_flow::datagram::{self, IDLE};
use kdev_flow::datagram_queue::Outlet;
use kdev_flow::frame;
use kdev_flow::ledger::Violation;
use kdev_flow::outgoing::Outgoing;
use kdev_flow::rpc::read::Broken;
use kdev_proto::v1::FlowFrame;
use kdev_proto::v1::flow_frame::Kind;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::Port;
use crate::router::claimants::Claimant;
use crate::router::machine::{NotTaken, Purpose, Taken};
use crate::router::pods::Pods;
use crate::waiting::Incoming;

/// Before a machine that has refused datagrams is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Largest datagram that is kept until it is answered, for the pods if the machine turns out to take none.
const KEPT: usize = 2 << 10;
/// How long answers may be under way when their intercept is over.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// See the module.
pub struct Flow {
    port: Arc<Port>,
    client: SocketAddr,
    datagrams: Outlet,
    /// The pod that got the last ones.
    pod: Option<Pod>,
}

/// A pod, and a socket that only it answers.
struct Pod {
    address: SocketAddr,
    socket: UdpSocket,
}

/// How a way of a flow's ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The next datagram may go another way.
    Again,
    /// Nobody has said anything for long.
    Over,
}

/// What becomes of a machine's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    ToClient,
    Dropped,
}

impl Flow {
    /// A flow of `client`'s datagrams.
    pub fn new(port: Arc<Port>, client: SocketAddr, datagrams: Outlet) -> Self {
        Self {
            port,
            client,
            datagrams,
            pod: None,
        }
    }

    /// Carries them until there are none for long. Whose they are is decided anew whenever that may have changed:
    /// unlike a connection, a datagram goes where the Service leads when it comes.
    pub async fn run(mut self) {
        while self.any_waits().await {
            let current = self.port.way.claimants.current();
            let turn = match current.of_everything() {
                Some(claimant) => self.ask_machine(claimant).await,
                None => self.ask_pod(None).await,
            };
            if turn == Turn::Over {
                return;
            }
        }
    }

    /// Carries copies of them to the machine of `tap`, and drops its answers.
    pub async fn run_copies(mut self, tap: &Claimant) {
        while self.any_waits().await {
            let taken = tokio::select! {
                () = tap.left.cancelled() => return,
                taken = tap.ask(Purpose::Datagrams(self.client)) => taken,
            };
            let turn = match taken {
                Ok(taken) => self.exchange(taken, tap, Answers::Dropped).await,
                Err(why) => self.drop_for(tap, why).await,
            };
            if turn == Turn::Over || tap.left.is_cancelled() {
                return;
            }
        }
    }

    /// Waits for the next datagram; false when none comes for long.
    async fn any_waits(&mut self) -> bool {
        tokio::time::timeout(IDLE, self.datagrams.waits())
            .await
            .is_ok()
    }

    async fn ask_machine(&mut self, claimant: &Arc<Claimant>) -> Turn {
        let taken = tokio::select! {
            biased;
            () = claimant.left.cancelled() => return Turn::Again,
            taken = claimant.ask(Purpose::Datagrams(self.client)) => taken,
        };
        match taken {
            Ok(taken) => self.exchange(taken, claimant, Answers::ToClient).await,
            // It was asked just before the intercept ended.
            Err(_) if claimant.left.is_cancelled() => Turn::Again,
            Err(why) if claimant.passes(why) => self.ask_pod(Some(claimant)).await,
            Err(why) => self.drop_for(claimant, why).await,
        }
    }

    /// Drops what comes for a moment: who sends much to a machine that takes nothing isn't to ask it each time.
    async fn drop_for(&mut self, claimant: &Claimant, why: NotTaken) -> Turn {
        let (service, owner) = (&self.port.way.service, &claimant.claim.owner);
        let mut dropped = 0_u64;
        let drop_all = async {
            loop {
                self.datagrams.next().await;
                dropped += 1;
            }
        };
        tokio::select! {
            () = claimant.left.cancelled() => {}
            _ = tokio::time::timeout(ASK_AGAIN, drop_all) => {}
        }
        tracing::debug!(%service, owner, client = %self.client, dropped, %why, "datagrams can't go to the machine and are dropped");
        Turn::Again
    }

    /// Carries between the client and a machine.
    async fn exchange(&mut self, taken: Taken, claimant: &Claimant, answers: Answers) -> Turn {
        let Stream {
            outgoing,
            mut incoming,
            carrier,
            ..
        } = taken.stream;
        let mut silent_at = Instant::now() + IDLE;
        let mut unanswered = None;
        loop {
            // Only what has a place on the carrier is taken: what waits may still become the oldest.
            let up = async {
                let place = outgoing.reserve().await.ok()?;
                let datagram = self.datagrams.next().await;
                place.send(frame::data(datagram.clone()));
                Some(datagram)
            };
            tokio::select! {
                () = tokio::time::sleep_until(silent_at) => return Turn::Over,
                () = claimant.left.cancelled() => {
                    if answers == Answers::ToClient {
                        let last = last_answers(Arc::clone(&self.port), self.client, outgoing, incoming);
                        self.port.way.tasks.spawn(last);
                    }
                    return Turn::Again;
                }
                sent = up => match sent {
                    Some(datagram) => {
                        silent_at = Instant::now() + IDLE;
                        let is_kept = claimant.claim.pass_if_down && datagram.len() <= KEPT;
                        unanswered = is_kept.then_some(datagram);
                    }
                    // Its carrier broke; the next datagram opens another flow.
                    None => return Turn::Again,
                },
                said = incoming.next() => match said {
                    Some(Ok(FlowFrame { kind: Some(Kind::Data(answer)) })) => {
                        silent_at = Instant::now() + IDLE;
                        unanswered = None;
                        if answers == Answers::ToClient {
                            self.port.answer(&answer, self.client).await;
                        }
                    }
                    Some(Ok(FlowFrame { kind: Some(Kind::Failed(failed)) })) => {
                        let service = &self.port.way.service;
                        tracing::debug!(%service, client = %self.client, failed.detail, "a machine takes no more datagrams");
                        // Its program has ended, and the kernel says so only of what was sent to it.
                        if let Some(datagram) = unanswered {
                            self.datagrams.put_back(datagram);
                        }
                        return Turn::Again;
                    }
                    Some(Ok(FlowFrame { kind: Some(Kind::End(_)) })) | None => return Turn::Again,
                    Some(Ok(_)) => {
                        carrier.close_for(&Violation::Misplaced);
                        return Turn::Again;
                    }
                    Some(Err(broken)) => {
                        if let Broken::NoFrame(what) = broken {
                            carrier.close_for(&what);
                        }
                        return Turn::Again;
                    }
                },
            }
        }
    }

    /// Carries between the client and a pod: as long as nobody has claimed the port, or for a moment where the
    /// machine of `refused` takes nothing.
    async fn ask_pod(&mut self, refused: Option<&Arc<Claimant>>) -> Turn {
        let again_at = refused.map(|_| Instant::now() + ASK_AGAIN);
        let mut silent_at = Instant::now() + IDLE;
        loop {
            let Some(pod) = ready_pod(&mut self.pod, &self.port.way.pods, self.client).await else {
                return self.drop_without_pod();
            };
            tokio::select! {
                () = tokio::time::sleep_until(silent_at) => return Turn::Over,
                () = self.datagrams.waits() => {
                    let goes_on = match (refused, again_at) {
                        (Some(one), Some(at)) => Instant::now() < at && !one.left.is_cancelled(),
                        _ => self.port.way.claimants.current().of_everything().is_none(),
                    };
                    if !goes_on {
                        return Turn::Again;
                    }
                    silent_at = Instant::now() + IDLE;
                    if let Some(datagram) = self.datagrams.try_next()
                        && let Err(error) = pod.socket.send(&datagram).await
                    {
                        tracing::debug!(pod = %pod.address, %error, "a datagram didn't go to a pod");
                    }
                }
                answer = datagram::receive(&pod.socket) => match answer {
                    Ok(answer) => {
                        silent_at = Instant::now() + IDLE;
                        self.port.answer(&answer, self.client).await;
                    }
                    Err(error) => {
                        tracing::debug!(pod = %pod.address, %error, "a pod refuses datagrams");
                        self.pod = None;
                        return Turn::Again;
                    }
                },
            }
        }
    }

    /// There is nobody to hear them.
    fn drop_without_pod(&mut self) -> Turn {
        let mut dropped = 0_u64;
        while self.datagrams.try_next().is_some() {
            dropped += 1;
        }
        let service = &self.port.way.service;
        tracing::debug!(%service, client = %self.client, dropped, "no pod is ready: datagrams are dropped");
        Turn::Again
    }
}

/// Hands on the answers that were under way when an intercept ended.
async fn last_answers(
    port: Arc<Port>,
    client: SocketAddr,
    // Its end would be the end of the machine's side as well.
    _outgoing: Outgoing,
    mut incoming: Incoming,
) {
    let answers = async {
        while let Some(Ok(FlowFrame {
            kind: Some(Kind::Data(answer)),
        })) = incoming.next().await
        {
            port.answer(&answer, client).await;
        }
    };
    let _ = tokio::time::timeout(LAST_ANSWERS, answers).await;
}

/// The pod that got a client's last datagrams as long as it is ready, or another one.
async fn ready_pod<'a>(
    last: &'a mut Option<Pod>,
    pods: &Pods,
    client: SocketAddr,
) -> Option<&'a Pod> {
    if last.as_ref().is_none_or(|pod| !pods.has(pod.address)) {
        *last = None;
        let address = pods.one(client.ip()).await?;
        match datagram::connected(address).await {
            Ok(socket) => *last = Some(Pod { address, socket }),
            Err(error) => tracing::debug!(pod = %address, %error, "no way to a pod"),
        }
    }
    last.as_ref()
}
