//! The task that looks after one Service.

use std::sync::Arc;
use std::time::Duration;

use futures::future;
use kube::Client;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Assignment;
use super::contest::Contest;
use crate::backoff::ApiBackoff;
use crate::redirect::notices::Notices;
use crate::redirect::reconcile::{Limits, Outcome, ReconcileError, reconcile};
use crate::redirect::{Goal, ServiceName, Writer};

/// The shortest time between two looks at a Service whose pods change all the time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// What a worker tells.
pub(super) struct Report {
    pub(super) service: ServiceName,
    pub(super) assignment: Arc<Assignment>,
    pub(super) news: News,
}

pub(super) enum News {
    Reached(Outcome),
    Contested {
        by: Writer,
        again_in: Duration,
    },
    /// The selector is written back again and again.
    GivenUp {
        by: Writer,
    },
    Failed {
        error: Arc<ReconcileError>,
        again_in: Duration,
    },
}

/// One Service's worker.
pub(super) struct Worker {
    pub(super) client: Client,
    pub(super) service: ServiceName,
    pub(super) assignment: watch::Receiver<Arc<Assignment>>,
    /// The Service has changed.
    pub(super) poke: Arc<Notify>,
    pub(super) reports: mpsc::Sender<Report>,
}

impl Worker {
    /// Works until the assignments end. It may be dropped at any point.
    pub(super) async fn run(mut self) {
        let mut contest = Contest::default();
        let mut told = None;
        let mut was_redirected = false;
        let mut delays = ApiBackoff::new();
        let mut changes: Option<Notices> = None;
        loop {
            let assignment = self.assignment.borrow_and_update().clone();
            if !matches!(assignment.desired.goal, Goal::Redirect(_)) {
                // From here on a selector that is there may be one that was put back from here.
                was_redirected = false;
            }
            let may_clear = !was_redirected || contest.is_due(Instant::now());
            let limits = Limits {
                may_clear,
                ..Limits::default()
            };
            let result = tokio::select! {
                result = reconcile(&self.client, &self.service, &assignment.desired, limits) => result,
                changed = self.assignment.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            let now = Instant::now();
            let mut look_at = None;
            let news = match result {
                Ok(Outcome::WrittenBack { by }) => {
                    if may_clear {
                        // It was cleared, and is back already.
                        contest.handle_cleared();
                        was_redirected = true;
                    }
                    match contest.handle_written_back(now) {
                        Some(due) if due <= now => continue,
                        Some(due) => {
                            look_at = Some(due);
                            let again_in = due - now;
                            // Looking again during the pause is no news.
                            let is_news = told.replace(due) != Some(due);
                            is_news.then_some(News::Contested { by, again_in })
                        }
                        None => Some(News::GivenUp { by }),
                    }
                }
                Ok(outcome) => {
                    delays = ApiBackoff::new();
                    contest.handle_cleared();
                    was_redirected = matches!(outcome, Outcome::Redirected { .. });
                    self.follow(&mut changes, &outcome);
                    Some(News::Reached(outcome))
                }
                Err(error) => {
                    let again_in = delays.delay();
                    look_at = Some(now + again_in);
                    let error = Arc::new(error);
                    Some(News::Failed { error, again_in })
                }
            };
            if let Some(news) = news {
                let service = self.service.clone();
                let report = Report {
                    service,
                    assignment,
                    news,
                };
                if self.reports.send(report).await.is_err() {
                    return;
                }
            }
            if !self.wait(look_at, &mut changes).await {
                return;
            }
        }
    }

    /// Waits for a reason to look again; false when the assignments have ended.
    async fn wait(&mut self, look_at: Option<Instant>, changes: &mut Option<Notices>) -> bool {
        let pause = sleep_until(Instant::now() + SHORTEST_PAUSE);
        tokio::select! {
            changed = self.assignment.changed() => return changed.is_ok(),
            () = self.poke.notified() => {}
            () = Notices::next(changes) => {}
            () = at(look_at) => {}
        }
        // What changes once often changes again at once: one look is enough for all of it.
        tokio::select! {
            changed = self.assignment.changed() => return changed.is_ok(),
            () = pause => {}
        }
        if let Some(changes) = changes {
            changes.take_all();
        }
        true
    }

    /// Watches the pods and slices as long as own slices must follow them.
    fn follow(&self, changes: &mut Option<Notices>, outcome: &Outcome) {
        let (Outcome::Redirected { selector, .. } | Outcome::Held { selector }) = outcome else {
            *changes = None;
            return;
        };
        if changes
            .as_ref()
            .is_none_or(|changes| !changes.are_of(selector))
        {
            *changes = Some(Notices::watch(&self.client, &self.service, selector));
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => future::pending().await,
    }
}
