//! What is held for as long as its caller is there: what a command has intercepted for a program goes with that
//! command, whatever became of it.

use std::sync::Arc;
use std::time::Duration;

use kdev_proto::Failure;
use kdev_proto::v1::{ErrorKind, LeaveRequest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::leaving;
use crate::progress::{Last, Sink};
use crate::session::Session;

/// Before leaving is tried again, as where the API server is away.
const AGAIN: Duration = Duration::from_secs(5);

/// Most calls that are held at once: each keeps a thread of those that serve all commands.
const CALLERS: usize = 64;

/// The places of those that are held. A clone is the same.
#[derive(Debug, Clone)]
pub struct Callers(Arc<Semaphore>);

impl Default for Callers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CALLERS)))
    }
}

impl Callers {
    /// Takes a place for a call if it is to be `held`.
    ///
    /// # Errors
    ///
    /// When all are taken.
    pub fn place(&self, held: bool) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        if !held {
            return Ok(None);
        }
        let place = Arc::clone(&self.0).try_acquire_owned();
        place.map(Some).map_err(|_| {
            Failure::new(
                ErrorKind::Conflict,
                "can't intercept for a program",
                format!("{CALLERS} commands with programs of theirs run already"),
                "end one of them, or intercept without `-- COMMAND` and start the program yourself",
            )
        })
    }
}

/// Says that it works, and holds it until its caller is gone, somebody leaves it, it is given up, the session is over or the
/// daemon is `ending`. `leave` names the Service; without it nothing waits.
///
/// # Errors
///
/// None of its own.
pub async fn hold(
    session: &Session,
    ending: &CancellationToken,
    leave: Option<LeaveRequest>,
    last: Last,
    sink: &Sink,
) -> Result<Last, Failure> {
    let Some(leave) = leave else {
        return Ok(last);
    };
    let leave = LeaveRequest {
        id: last.intercept.clone(),
        ..leave
    };
    sink.done(last).await;
    let over = async {
        tokio::select! {
            () = session.over() => "the session is over",
            () = ending.cancelled() => "kdev's daemon ends",
        }
    };
    tokio::pin!(over);
    let left = tokio::select! {
        // What ends a session leaves what it has first.
        biased;
        () = session.intercepts.none_of(&leave.id) => ("it was left".to_owned(), true),
        why = &mut over => (why.to_owned(), true),
        why = session.intercepts.lost_of(&leave.id) => (why, false),
        () = sink.closed() => ("its command is gone".to_owned(), false),
    };
    let why = match left {
        (why, true) => why,
        // Nobody else would leave it.
        (why, false) => tokio::select! {
            () = leave_all(session, &leave, sink) => why,
            why = over => why.to_owned(),
        },
    };
    let service = &leave.service;
    Ok(format!("{service} isn't intercepted for this command any more: {why}").into())
}

/// Leaves what a caller had that is gone.
async fn leave_all(session: &Session, leave: &LeaveRequest, sink: &Sink) {
    while session.intercepts.holds_any(&leave.id) {
        tracing::info!(
            service = leave.service,
            "what a command has intercepted is left, as the command or the intercept is over"
        );
        let Err(error) = leaving::leave(session, leave.clone(), sink).await else {
            return;
        };
        tracing::warn!(service = leave.service, %error, "not left yet");
        tokio::time::sleep(AGAIN).await;
    }
}
