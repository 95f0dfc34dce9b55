//! How long trouble is watched before it is believed. Pure.

use tokio::time::Instant;

use super::trouble::{Reason, Trouble};
use super::verdict::Verdict;

/// Remembers since when the same reason has kept the manager from starting.
#[derive(Debug, Default)]
pub(super) struct Patience {
    since: Option<(Reason, Instant)>,
    last: Option<Trouble>,
}

impl Patience {
    /// Takes the verdict as it is `now`; returns the trouble if it has lasted long enough to be
    /// final.
    pub(super) fn handle_verdict(&mut self, verdict: &Verdict, now: Instant) -> Option<Trouble> {
        let Verdict::Stuck(trouble) = verdict else {
            self.since = None;
            return None;
        };
        if self
            .since
            .is_none_or(|(reason, _)| reason != trouble.reason)
        {
            self.since = Some((trouble.reason, now));
        }
        self.last = Some(trouble.clone());
        let is_final = self.poll_timeout().is_some_and(|at| at <= now);
        is_final.then(|| trouble.clone())
    }

    /// Returns whether a verdict is the present trouble over again.
    pub(super) fn knows(&self, verdict: &Verdict) -> bool {
        matches!(
            (verdict, self.since),
            (Verdict::Stuck(trouble), Some((reason, _))) if trouble.reason == reason
        )
    }

    /// Returns when the present trouble becomes final, if it does without further events.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let (reason, since) = self.since?;
        Some(since + reason.grace()?)
    }

    /// Returns the last trouble seen, whether or not it has passed.
    pub(super) fn into_last(self) -> Option<Trouble> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::names::ObjectRef;
    use super::*;

    fn stuck(reason: Reason, message: &str) -> Verdict {
        Verdict::Stuck(Trouble {
            reason,
            message: message.to_owned(),
            object: ObjectRef::new("Pod", None, "p"),
        })
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn trouble_is_final_after_its_grace() {
        let start = Instant::now();
        let mut patience = Patience::default();
        let quota = stuck(Reason::Quota, "q");
        let grace = Reason::Quota.grace().unwrap();
        assert_eq!(patience.handle_verdict(&quota, start), None);
        assert_eq!(patience.poll_timeout(), Some(start + grace));
        assert_eq!(patience.handle_verdict(&quota, start + grace / 2), None);
        assert!(patience.handle_verdict(&quota, start + grace).is_some());
    }

    #[test]
    fn the_same_reason_in_other_words_goes_on_counting() {
        let start = Instant::now();
        let grace = Reason::ImagePull.grace().unwrap();
        let mut patience = Patience::default();
        patience.handle_verdict(&stuck(Reason::ImagePull, "ErrImagePull"), start);
        let last = patience.handle_verdict(&stuck(Reason::ImagePull, "Back-off"), start + grace);
        assert_eq!(last.unwrap().message, "Back-off");
    }

    #[test]
    fn trouble_that_passes_or_becomes_another_starts_anew() {
        let start = Instant::now();
        let grace = Reason::Crash.grace().unwrap();
        let crash = stuck(Reason::Crash, "exit code 1");
        let mut patience = Patience::default();
        patience.handle_verdict(&crash, start);
        let going_on = Verdict::Progressing {
            what: "x".to_owned(),
        };
        patience.handle_verdict(&going_on, start + seconds(1));
        assert_eq!(patience.poll_timeout(), None);
        assert_eq!(patience.handle_verdict(&crash, start + grace), None);
        patience.handle_verdict(&stuck(Reason::ImagePull, "no"), start + grace + seconds(1));
        assert_eq!(patience.handle_verdict(&crash, start + grace * 2), None);
    }

    #[test]
    fn trouble_that_may_pass_by_itself_never_becomes_final_but_is_remembered() {
        let start = Instant::now();
        let mut patience = Patience::default();
        let not_ready = stuck(Reason::NotReady, "503");
        assert_eq!(patience.handle_verdict(&not_ready, start), None);
        assert_eq!(patience.poll_timeout(), None);
        assert_eq!(
            patience.handle_verdict(&not_ready, start + seconds(3600)),
            None
        );
        assert_eq!(patience.into_last().unwrap().message, "503");
    }
}
