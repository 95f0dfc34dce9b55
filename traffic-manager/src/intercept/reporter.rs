//! What a session is told of its intercept.

use std::sync::Arc;
use std::time::Duration;

use kdev_proto::v1::InterceptState;
use kdev_proto::v1::intercept_state::Phase;
use tokio::sync::mpsc;

use super::News;
use crate::sessions::Session;

/// Reports to the session, and remembers the last report.
pub(super) struct Reporter {
    /// Whoever asked last.
    pub(super) session: Arc<Session>,
    /// What it heard.
    pub(super) last: InterceptState,
}

impl Reporter {
    /// Tells how the intercept stands now.
    pub(super) fn report(&mut self, phase: Phase, reason: impl Into<String>, probe: Duration) {
        self.last.phase = phase.into();
        self.last.reason = reason.into();
        self.last.probe_us = u64::try_from(probe.as_micros()).unwrap_or(u64::MAX);
        self.repeat();
    }

    fn repeat(&self) {
        self.session.report(self.last.clone());
    }

    /// Keeps what is to be told until the intercept isn't known any more.
    pub(super) fn farewell(mut self, phase: Phase, reason: impl Into<String>) -> Farewell {
        self.last.phase = phase.into();
        self.last.reason = reason.into();
        Farewell(self)
    }

    /// Tells a session that asks how it stands.
    pub(super) fn repeat_to(&mut self, session: Arc<Session>) {
        self.session = session;
        self.repeat();
    }
}

/// What a session hears once an intercept isn't known any more, as it may ask for it anew at once.
pub struct Farewell(Reporter);

impl Farewell {
    /// Says it to whichever session asked last.
    pub fn say(mut self, news: &mut mpsc::Receiver<News>) {
        while let Ok(one) = news.try_recv() {
            if let News::AskedAgain(session) = one {
                self.0.session = session;
            }
        }
        self.0.repeat();
    }
}
