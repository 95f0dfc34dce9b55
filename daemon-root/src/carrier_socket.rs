//! The socket on which carriers arrive: a preamble, then bytes for the manager.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kdev_common::carrier::{Preamble, TOKEN_LENGTH};
use kdev_common::socket::{LocalListener, LocalStream};
use kdev_identity::Connector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::carriers::{Carriers, Route};

/// What a carrier shows first: whoever shows it was told it on the lease's stream.
pub type Token = [u8; TOKEN_LENGTH];

/// How long a connection may take to show its token.
const PREAMBLE: Duration = Duration::from_secs(5);

/// The lease that takes carriers now.
#[derive(Debug, Clone)]
pub struct Taker {
    /// What its carriers show.
    pub token: Token,
    /// The user whose carriers it takes.
    pub uid: u32,
    /// Where they go.
    pub carriers: Arc<Carriers>,
    /// Speaks with this daemon's key.
    pub connector: Connector,
    /// When they end.
    pub cancelled: CancellationToken,
    /// Where they run.
    pub tasks: TaskTracker,
}

/// Who takes carriers, if anyone.
#[derive(Debug, Clone, Default)]
pub struct Takers(Arc<Mutex<Option<Taker>>>);

impl Takers {
    /// From now on, `taker` takes them.
    pub fn set(&self, taker: Option<Taker>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = taker;
    }

    fn get(&self) -> Option<Taker> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Accepts carriers until cancelled.
pub async fn serve(
    listener: LocalListener,
    takers: Takers,
    tasks: TaskTracker,
    cancelled: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = cancelled.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                tasks.spawn(take(stream, takers.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a carrier wasn't accepted");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn take(mut stream: LocalStream, takers: Takers) {
    let preamble = tokio::time::timeout(PREAMBLE, Preamble::read(&mut stream));
    let Ok(Ok(preamble)) = preamble.await else {
        return;
    };
    let uid = stream.peer().uid;
    let Some(taker) = takers
        .get()
        .filter(|one| one.token == preamble.token && (one.uid == uid || uid == 0))
    else {
        tracing::warn!(uid, "a carrier without a lease was refused");
        return;
    };
    let Taker {
        carriers,
        connector,
        cancelled,
        tasks,
        ..
    } = taker;
    // Among the lease's tasks: it has ended only when they have.
    let route = Route {
        connector,
        manager: preamble.manager.into(),
        kind: preamble.kind,
    };
    tasks.spawn(async move { carriers.run(preamble.id, stream, route, cancelled).await });
}
