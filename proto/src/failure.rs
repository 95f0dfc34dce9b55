//! The error that a person reads, and its way through a gRPC status.

use std::fmt;

use prost::Message as _;
use tonic::{Code, Status};

use crate::v1::{ErrorDetail, ErrorKind};

/// A failure as a person should read it: what failed, why, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: ErrorKind,
    /// What failed.
    pub what: String,
    /// Why it failed.
    pub why: String,
    /// What to do about it.
    pub next: String,
}

impl Failure {
    /// Makes a failure from its three sentences.
    pub fn new(
        kind: ErrorKind,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            what: what.into(),
            why: why.into(),
            next: next.into(),
        }
    }

    /// Makes a failure that only a defect explains.
    pub fn internal(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::Unspecified,
            what,
            why.to_string(),
            "see the daemons' logs (`kdev status` names them)",
        )
    }

    /// The same failure with another next step.
    #[must_use]
    pub fn with_next(self, next: impl Into<String>) -> Self {
        Self {
            next: next.into(),
            ..self
        }
    }

    /// The exit code of a command that ended with this failure; the README has the table.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Unspecified => 1,
            ErrorKind::Usage => 2,
            ErrorKind::Daemon => 3,
            ErrorKind::NotPermitted => 4,
            ErrorKind::Kubeconfig => 5,
            ErrorKind::ApiServer => 6,
            ErrorKind::Forbidden => 7,
            ErrorKind::Manager => 8,
            ErrorKind::Version => 9,
            ErrorKind::NotFound => 10,
            ErrorKind::Conflict => 11,
            ErrorKind::LocalPort => 12,
            ErrorKind::Probe => 13,
            ErrorKind::NotConnected => 14,
            ErrorKind::Timeout => 15,
            ErrorKind::Network => 16,
        }
    }

    fn code(&self) -> Code {
        match self.kind {
            ErrorKind::Unspecified => Code::Internal,
            ErrorKind::Usage => Code::InvalidArgument,
            ErrorKind::NotPermitted | ErrorKind::Forbidden => Code::PermissionDenied,
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::Conflict => Code::AlreadyExists,
            ErrorKind::Timeout => Code::DeadlineExceeded,
            ErrorKind::Daemon | ErrorKind::ApiServer | ErrorKind::Manager => Code::Unavailable,
            ErrorKind::Kubeconfig
            | ErrorKind::Version
            | ErrorKind::LocalPort
            | ErrorKind::Probe
            | ErrorKind::NotConnected
            | ErrorKind::Network => Code::FailedPrecondition,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let detail = ErrorDetail {
            kind: failure.kind.into(),
            what: failure.what.clone(),
            why: failure.why.clone(),
            next: failure.next.clone(),
        };
        Self::with_details(
            failure.code(),
            failure.to_string(),
            detail.encode_to_vec().into(),
        )
    }
}

/// What the transport says of a call that it lost means little to who reads it.
fn why(status: &Status) -> String {
    match status.code() {
        Code::Unknown | Code::Internal | Code::Unavailable | Code::Cancelled => format!(
            "it ended, or was ended, before it had answered ({})",
            status.message()
        ),
        _ => status.message().to_owned(),
    }
}

/// A status without details comes from the transport, so it speaks of a process that went away.
impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        match ErrorDetail::decode(status.details()) {
            Ok(detail) if !status.details().is_empty() => {
                Self::new(detail.kind(), detail.what, detail.why, detail.next)
            }
            _ => Self::new(
                ErrorKind::Daemon,
                "the call to a daemon broke off",
                why(&status),
                "run the command again; `kdev status` says what runs",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_crosses_a_status_unchanged() {
        let failure = Failure::new(ErrorKind::Conflict, "a", "b", "c");
        assert_eq!(Failure::from(Status::from(failure.clone())), failure);
    }

    #[test]
    fn a_bare_status_is_a_daemon_that_went_away() {
        let failure = Failure::from(Status::unavailable("broken pipe"));
        assert_eq!(failure.kind, ErrorKind::Daemon);
        assert!(failure.why.contains("ended"), "{}", failure.why);
        assert!(failure.why.contains("broken pipe"), "{}", failure.why);
    }

    #[test]
    fn every_kind_has_an_exit_code_of_its_own() {
        let codes: std::collections::BTreeSet<u8> = (0..)
            .map_while(|n| ErrorKind::try_from(n).ok())
            .map(|kind| Failure::new(kind, "", "", "").exit_code())
            .collect();
        assert_eq!(codes, (1..=16).collect());
    }
}
