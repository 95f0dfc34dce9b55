//! Where the requests of one connection go.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use kdev_cluster::redirect::Mode;
use kdev_flow::pipe::{Pipe, carry_pipe, pipe};
use kdev_router::{DialError, First, Limit, Limits, Tapped, Ways};
use kdev_rules::Head;
use tokio::net::TcpStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::claimants::{Claimant, Claimants};
use super::machine::{NotTaken, Words};
use super::notices::{Notice, Notices};
use super::pods::Pods;

/// A connection to a pod, or to a machine.
pub type Upstream = Either<TcpStream, Pipe>;

/// See the module.
pub struct Requests {
    /// Whose they may be.
    pub claimants: Arc<Claimants>,
    /// Where all others go.
    pub pods: Pods,
    /// Who makes them.
    pub client: SocketAddr,
    /// How much of everything they may have.
    pub limits: Limits,
    /// Who tells of them.
    pub notices: Arc<Notices>,
    /// Where what carries them to machines runs.
    pub tasks: TaskTracker,
    /// Cancelled when the manager ends.
    pub ending: CancellationToken,
}

/// Somebody's requests, told apart by their claim as it was made: one that is made again under its old id is another one.
#[derive(Clone)]
pub struct Whose(Arc<Claimant>);

impl PartialEq for Whose {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Whose {}

impl std::hash::Hash for Whose {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl Requests {
    /// Asks a machine to take a connection.
    async fn to_machine(
        &self,
        claimant: &Claimant,
        first: First<'_>,
    ) -> Result<Upstream, NotTaken> {
        let most = first.bytes.len().min(Words::MOST);
        let words = Words {
            bytes: Bytes::copy_from_slice(&first.bytes[..most]),
            once: !first.repeatable,
        };
        let taken = claimant.take(self.client, ready(words)).await?;
        let (stream, near) = pipe(taken.stream.said.len());
        self.tasks
            .spawn(carry_pipe(near, taken.stream, taken.registered));
        Ok(Either::Right(stream))
    }

    async fn to_pods(&self) -> Result<Upstream, DialError> {
        let dialled = self.pods.dial(self.client.ip()).await;
        dialled
            .map(Either::Left)
            .map_err(|error| DialError::new(format!("kdev: {error}\n")))
    }
}

impl Ways for Requests {
    type Stream = Upstream;
    type Key = Whose;

    fn route(&self, head: &Head<'_>) -> Option<Whose> {
        let current = self.claimants.current();
        current.of_request(head).cloned().map(Whose)
    }

    async fn ending(&self) {
        self.ending.cancelled().await;
    }

    fn handle_limit(&self, limit: Limit) {
        self.notices.tell(Notice::Limit(limit));
    }

    fn not_http2(&self, Whose(claimant): &Whose) -> DialError {
        self.notices.tell(Notice::NotHttp2);
        let owner = &claimant.claim.owner;
        DialError::new(format!(
            "kdev: this request is intercepted by {owner}, and the program there doesn't speak HTTP/2, in which it \
             was made. {owner} can let the program speak it without TLS (h2c), or leave such requests to the pods \
             by their conditions.\n"
        ))
    }

    fn copies(&self, head: Option<&Head<'_>>) -> Vec<Whose> {
        let current = self.claimants.current();
        current.copies(head).cloned().map(Whose).collect()
    }

    fn spawn_copy(self: &Arc<Self>, copy: Tapped, to: Whose) {
        let (ways, limits) = (Arc::clone(self), self.limits.clone());
        self.tasks.spawn(async move {
            let left = to.0.left.clone();
            tokio::select! {
                () = left.cancelled() => {}
                served = copy.serve(Arc::clone(&ways), to, &limits) => if let Err(error) = served {
                    tracing::debug!(%error, "a copy broke off");
                    ways.notices.tell(Notice::CopyBroke);
                }
            }
        });
    }

    fn spawn(&self, to: &Whose, task: impl Future<Output = ()> + Send + 'static) {
        let left = to.0.left.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = left.cancelled() => {}
                () = task => {}
            }
        });
    }

    async fn dial(&self, to: Option<&Whose>, first: First<'_>) -> Result<Upstream, DialError> {
        let current = self.claimants.current();
        let claimant = match to {
            Some(Whose(claimant)) => claimant,
            // What isn't HTTP is theirs who have everything.
            None => match current.of_everything() {
                Some(claimant) => claimant,
                None => return self.to_pods().await,
            },
        };
        let is_copy = claimant.claim.mode == Mode::Wiretap;
        let is_over = || claimant.left.is_cancelled() && !is_copy;
        match self.to_machine(claimant, first).await {
            Ok(stream) => Ok(stream),
            // It has left since the request was looked at.
            Err(why) if is_over() && why.is_unheard() => self.to_pods().await,
            // Whose everything is, also what isn't HTTP.
            Err(why) if claimant.passes(why) && to.is_none() => self.to_pods().await,
            Err(why) if claimant.passes(why) && !is_copy => {
                Err(unavailable(claimant, why).pass_to_pods())
            }
            Err(why) => Err(unavailable(claimant, why)),
        }
    }
}

/// Answers every request of a connection with the reason why its machine doesn't.
pub struct Unavailable(DialError);

impl Unavailable {
    /// Says why the machine of `claimant` doesn't answer.
    pub fn new(claimant: &Claimant, why: NotTaken) -> Self {
        Self(unavailable(claimant, why))
    }
}

impl Ways for Unavailable {
    type Stream = TcpStream;
    type Key = ();

    fn route(&self, _: &Head<'_>) -> Option<()> {
        Some(())
    }

    async fn dial(&self, _: Option<&()>, _: First<'_>) -> Result<TcpStream, DialError> {
        Err(self.0.clone())
    }
}

fn unavailable(claimant: &Claimant, why: NotTaken) -> DialError {
    let owner = &claimant.claim.owner;
    DialError::new(format!(
        "kdev: this request is intercepted by {owner}, and {why}. {owner} can start the program, or \
         give the Service back with `kdev leave`.\n"
    ))
}
