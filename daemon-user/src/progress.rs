//! Lines that a command shows while it waits.

use std::future::Future;
use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use kdev_proto::Failure;
use kdev_proto::v1::Progress;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Lines that may wait for a slow terminal.
const QUEUE: usize = 64;

/// What a method that shows progress answers with.
pub type Lines = Pin<Box<dyn Stream<Item = Result<Progress, Status>> + Send>>;

/// Where a command's lines go.
#[derive(Debug, Clone)]
pub struct Sink(mpsc::Sender<Result<Progress, Status>>);

impl Sink {
    /// Waits until nobody reads any more: the command was interrupted. Cancel safe.
    pub async fn closed(&self) {
        self.0.closed().await;
    }

    /// Shows a line; one that nobody reads any more is lost.
    pub async fn line(&self, line: impl Into<String>) {
        let _ = self
            .0
            .send(Ok(Progress {
                line: line.into(),
                ..Progress::default()
            }))
            .await;
    }

    /// Says what has come of it, though the call goes on.
    pub async fn done(&self, last: Last) {
        let _ = self.0.send(Ok(last.into())).await;
    }
}

/// What a command ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// What has come of it.
    pub line: String,
    /// The intercept that has; empty where none has.
    pub intercept: String,
}

impl From<String> for Last {
    fn from(line: String) -> Self {
        Self {
            line,
            intercept: String::new(),
        }
    }
}

impl From<Last> for Progress {
    fn from(Last { line, intercept }: Last) -> Self {
        Self {
            line,
            done: true,
            intercept,
        }
    }
}

/// Runs `work` on a thread of its own and answers with its lines, its result last.
///
/// The work goes on when the caller leaves, unless it asks: a command that was interrupted half way
/// must not leave half a change behind, and the work undoes by itself what it can't finish. A thread, as commands are
/// few and long, and their futures borrow what needn't be shared between threads.
pub fn lines<F, W, L>(work: W) -> Lines
where
    W: FnOnce(Sink) -> F + Send + 'static,
    F: Future<Output = Result<L, Failure>>,
    L: Into<Last>,
{
    let (sender, receiver) = mpsc::channel(QUEUE);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            let last = match work(Sink(sender.clone())).await {
                Ok(last) => Ok(last.into().into()),
                Err(failure) => {
                    tracing::info!(%failure, "a command failed");
                    Err(failure.into())
                }
            };
            let _ = sender.send(last).await;
        });
    });
    ReceiverStream::new(receiver).boxed()
}
