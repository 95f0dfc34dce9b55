//! The calls that are under way, and their end with the daemon: nobody who is told that it ends waits for them.

use std::future::Future;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use kdev_proto::Failure;
use kdev_proto::v1::ErrorKind;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::progress::Lines;

/// How long calls have for last words of their own once the daemon ends.
const GRACE: Duration = Duration::from_secs(1);
/// After this time connections are left alone, too: a client that was stopped reads no answer.
const LAST: Duration = Duration::from_secs(2);

/// All calls of a daemon. A clone is the same.
#[derive(Debug, Clone)]
pub struct UnderWay {
    ending: CancellationToken,
    calls: TaskTracker,
}

impl UnderWay {
    /// None yet, of a daemon whose end is that of `ending`.
    pub fn new(ending: CancellationToken) -> Self {
        Self {
            ending,
            calls: TaskTracker::new(),
        }
    }

    /// A call that is under way until what this returns is dropped.
    pub fn begin(&self) -> TaskTrackerToken {
        self.calls.token()
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.calls.is_empty()
    }

    /// The answer of `work`, unless the daemon ends before it.
    ///
    /// # Errors
    ///
    /// The failure of `work`, or that the daemon ends.
    pub async fn answer<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let _call = self.begin();
        tokio::select! {
            biased;
            done = work => done,
            () = self.ended_for(GRACE) => Err(broken_off()),
        }
    }

    /// The lines of a call, until the daemon ends before them.
    pub fn lines(&self, lines: Lines) -> Lines {
        let own = self.clone();
        let ended = Box::pin(async move { own.ended_for(GRACE).await });
        stream::unfold(Some((lines, ended)), |calls| async move {
            let (mut lines, mut ended) = calls?;
            tokio::select! {
                biased;
                line = lines.next() => Some((line?, Some((lines, ended)))),
                () = &mut ended => Some((Err(broken_off().into()), None)),
            }
        })
        .boxed()
    }

    /// Waits until every call has had its time to end, and its caller some to hear of it.
    pub async fn overdue(&self) {
        self.ended_for(LAST).await;
    }

    async fn ended_for(&self, time: Duration) {
        self.ending.cancelled().await;
        tokio::time::sleep(time).await;
    }
}

fn broken_off() -> Failure {
    Failure::new(
        ErrorKind::Daemon,
        "the command was broken off",
        "the user's daemon is ending, as `kdev quit` or a signal told it to",
        "run it again once the daemon has ended",
    )
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use kdev_proto::v1::Progress;
    use tokio::time::timeout;

    use super::*;
    use crate::progress::lines;

    /// More than a test takes by a clock that is stopped.
    const LONG: Duration = Duration::from_secs(3600);

    fn under_way() -> (CancellationToken, UnderWay) {
        let ending = CancellationToken::new();
        (ending.clone(), UnderWay::new(ending))
    }

    fn line(text: &str) -> Result<Progress, tonic::Status> {
        Ok(Progress {
            line: text.to_owned(),
            ..Progress::default()
        })
    }

    fn is_broken_off(status: tonic::Status) -> bool {
        let failure = Failure::from(status);
        failure.kind == ErrorKind::Daemon && failure.why.contains("ending")
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_is_told_of_the_end_and_keeps_nobody_waiting() {
        let (ending, calls) = under_way();
        let first = stream::iter([line("first")]).chain(stream::pending());
        let mut hangs = calls.lines(first.boxed());
        assert_eq!(hangs.next().await.unwrap().unwrap().line, "first");
        assert!(timeout(LONG, hangs.next()).await.is_err(), "goes on");
        ending.cancel();
        assert!(is_broken_off(hangs.next().await.unwrap().unwrap_err()));
        assert!(hangs.next().await.is_none());
        let answer = calls.answer(pending::<Result<(), Failure>>()).await;
        assert!(is_broken_off(answer.unwrap_err().into()));
        calls.overdue().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_ends_by_itself_has_its_own_last_words() {
        let (ending, calls) = under_way();
        ending.cancel();
        let quits = calls.lines(lines(async |_| {
            Ok::<_, Failure>("session ended".to_owned())
        }));
        let said: Vec<_> = quits.collect().await;
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].as_ref().unwrap().line, "session ended");
        assert_eq!(calls.answer(async { Ok(1) }).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_call_is_under_way_until_it_is_over() {
        let (_ending, calls) = under_way();
        assert!(calls.is_none());
        let call = calls.begin();
        assert!(!calls.is_none());
        drop(call);
        assert!(calls.is_none());
    }
}
