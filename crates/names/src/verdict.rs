//! Whose answer it is when the machine's own name servers and the cluster are asked at once.

use std::time::Duration;

/// What one side said so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// Nothing yet.
    Pending,
    /// The name exists: NOERROR, with or without data of the type asked; a top-level domain without
    /// any address doesn't.
    Exists,
    /// Any other answer.
    Negative,
    /// No answer, for good.
    Failed,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Give the outside's answer.
    Outside,
    /// Give the cluster's answer.
    Cluster,
    /// Neither answered.
    Failure,
    /// Wait for more.
    Wait,
    /// Wait for the outside, but not after this much time since the question.
    WaitUntil(Duration),
}

/// Decides: the name is the outside's when it exists there, else the cluster's when it exists there.
/// An outside that keeps silent longer than `patience` loses to a cluster that knows the name.
pub(crate) fn decide(
    outside: Said,
    cluster: Said,
    elapsed: Duration,
    patience: Duration,
) -> Verdict {
    match (outside, cluster) {
        (Said::Exists, _) => Verdict::Outside,
        (Said::Pending, Said::Exists) if elapsed < patience => Verdict::WaitUntil(patience),
        (_, Said::Exists) => Verdict::Cluster,
        (Said::Pending, _) | (_, Said::Pending) => Verdict::Wait,
        (Said::Negative, _) => Verdict::Outside,
        (Said::Failed, _) => Verdict::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(1500);

    #[test]
    fn every_pair_has_its_verdict() {
        use Said::{Exists, Failed, Negative, Pending};
        let early = Duration::ZERO;
        let late = PATIENCE;
        let cases = [
            (Exists, Pending, early, Verdict::Outside),
            (Exists, Exists, early, Verdict::Outside),
            (Exists, Negative, late, Verdict::Outside),
            (Exists, Failed, early, Verdict::Outside),
            (Pending, Exists, early, Verdict::WaitUntil(PATIENCE)),
            (Pending, Exists, late, Verdict::Cluster),
            (Negative, Exists, early, Verdict::Cluster),
            (Failed, Exists, early, Verdict::Cluster),
            (Pending, Pending, early, Verdict::Wait),
            (Pending, Pending, late, Verdict::Wait),
            (Pending, Negative, late, Verdict::Wait),
            (Pending, Failed, late, Verdict::Wait),
            (Negative, Pending, late, Verdict::Wait),
            (Failed, Pending, late, Verdict::Wait),
            (Negative, Negative, early, Verdict::Outside),
            (Negative, Failed, early, Verdict::Outside),
            (Failed, Negative, early, Verdict::Failure),
            (Failed, Failed, early, Verdict::Failure),
        ];
        for (outside, cluster, elapsed, verdict) in cases {
            assert_eq!(
                decide(outside, cluster, elapsed, PATIENCE),
                verdict,
                "outside {outside:?}, cluster {cluster:?} after {elapsed:?}"
            );
        }
    }
}
