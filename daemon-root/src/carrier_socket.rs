//! The socket on which carriers arrive: a token, a number, then bytes for the manager.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kdev_common::socket::{LocalListener, LocalStream};
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::carriers::Carriers;

/// Bytes of a token.
pub const TOKEN_LENGTH: usize = 32;
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
    let preamble = async {
        let mut token = [0; TOKEN_LENGTH];
        stream.read_exact(&mut token).await?;
        Ok::<_, std::io::Error>((token, stream.read_u32().await?))
    };
    let Ok(Ok((token, id))) = tokio::time::timeout(PREAMBLE, preamble).await else {
        return;
    };
    let uid = stream.peer().uid;
    let Some(taker) = takers
        .get()
        .filter(|one| one.token == token && (one.uid == uid || uid == 0))
    else {
        tracing::warn!(uid, "a carrier without a lease was refused");
        return;
    };
    let Taker {
        carriers,
        cancelled,
        tasks,
        ..
    } = taker;
    // Among the lease's tasks: it has ended only when they have.
    tasks.spawn(async move { carriers.run(id, stream, cancelled).await });
}
