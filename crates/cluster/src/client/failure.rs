//! What went wrong with one call to the API server, in the terms a person acts on.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use kube::client::{AuthError, RustlsTlsError};
use kube::core::Status;
use kube::runtime::watcher;
use thiserror::Error;

use super::Forbidden;

/// How long one call to the API server may take before it counts as unreachable.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The kinds of failure of a call to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiFailure {
    /// No answer came from the API server.
    Unreachable(Unreachable),
    /// The API server doesn't accept the credentials (401).
    Unauthorized {
        /// What the API server said.
        message: String,
    },
    /// The credential plugin or token file of the kubeconfig gave no credentials.
    Credentials {
        /// What went wrong, with the plugin's own words where it wrote any.
        message: String,
    },
    /// The cluster's authorizer refuses the request (403).
    Forbidden(Box<Forbidden>),
    /// A quota, a policy or an admission webhook refuses the object (403 and others).
    Denied {
        /// What the API server said.
        message: String,
    },
    /// There is no such object, or no such kind of object (404).
    NotFound {
        /// What the API server said.
        message: String,
    },
    /// There is such an object already (409).
    AlreadyExists {
        /// What the API server said.
        message: String,
    },
    /// Somebody else changed the object or owns the field (409).
    Conflict {
        /// What the API server said.
        message: String,
    },
    /// The API server doesn't accept the object's content (400, 422).
    Invalid {
        /// What the API server said.
        message: String,
    },
    /// The resource version is too old to watch from (410).
    Expired,
    /// The API server failed or is too busy (429, 5xx).
    Server {
        /// The HTTP status code.
        code: u16,
        /// What the API server said.
        message: String,
    },
    /// None of the others.
    Other {
        /// The error's own text.
        message: String,
    },
}

/// Why no answer came, with the system's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// The kind.
    pub reason: UnreachableReason,
    /// The innermost error's text.
    pub detail: String,
}

/// Why no answer came from the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreachableReason {
    /// Nothing listens on the port.
    Refused,
    /// No answer within the deadline.
    TimedOut,
    /// The host's name couldn't be resolved.
    NameNotResolved,
    /// The system has no route to the address.
    NoRoute,
    /// The certificate or the TLS handshake is at fault.
    Tls,
    /// The connection broke, or something else.
    Broken,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.reason {
            UnreachableReason::Refused => "the connection was refused",
            UnreachableReason::TimedOut => "no answer in time",
            UnreachableReason::NameNotResolved => "its host name can't be resolved",
            UnreachableReason::NoRoute => "there is no route to it",
            UnreachableReason::Tls => "the TLS handshake failed",
            UnreachableReason::Broken => "the connection broke",
        };
        write!(f, "{what} ({})", self.detail)
    }
}

impl Unreachable {
    /// Returns what to try next, as a sentence without its full stop.
    pub fn advice(&self) -> &'static str {
        match self.reason {
            UnreachableReason::Refused => "Check that the cluster runs and that the port is right",
            UnreachableReason::TimedOut | UnreachableReason::NoRoute => {
                "Check the network, the VPN or the proxy that leads to the cluster"
            }
            UnreachableReason::NameNotResolved => {
                "Check the host name in the kubeconfig and the machine's DNS or VPN"
            }
            UnreachableReason::Tls => {
                "Check certificate-authority and tls-server-name in the kubeconfig, and the clock"
            }
            UnreachableReason::Broken => "Try again",
        }
    }
}

impl fmt::Display for ApiFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => {
                write!(
                    f,
                    "the API server can't be reached: {why}. {}",
                    why.advice()
                )
            }
            Self::Unauthorized { message } => write!(
                f,
                "the API server doesn't accept the credentials ({message}). Log in to the cluster again"
            ),
            Self::Credentials { message } => write!(f, "no credentials: {message}"),
            Self::Forbidden(forbidden) if forbidden.is_anonymous() => write!(
                f,
                "{forbidden}: the API server saw no credentials. Check the user in the kubeconfig"
            ),
            Self::Forbidden(forbidden) => {
                write!(
                    f,
                    "{forbidden}. Ask the cluster's administrator for that right"
                )
            }
            Self::Denied { message } => write!(f, "the cluster refuses it: {message}"),
            Self::NotFound { message }
            | Self::AlreadyExists { message }
            | Self::Conflict { message }
            | Self::Other { message } => f.write_str(message),
            Self::Invalid { message } => write!(f, "the API server finds it invalid: {message}"),
            Self::Expired => f.write_str("the resource version is too old"),
            Self::Server { code, message } => {
                write!(f, "the API server failed with {code}: {message}. Try again")
            }
        }
    }
}

/// A call to the API server that failed: which step, and why.
#[derive(Debug, Error)]
#[error("can't {doing}: {failure}")]
pub struct ApiError {
    /// The step, as it completes the sentence "can't ...".
    pub doing: String,
    /// The kind of failure.
    pub failure: ApiFailure,
    /// The client's error; `None` when the deadline passed, or when it might hold secrets.
    #[source]
    pub source: Option<Box<kube::Error>>,
}

impl ApiError {
    /// Makes an error of the client's error and the step it happened in.
    pub fn new(doing: impl Into<String>, source: kube::Error) -> Self {
        let failure = classify(&source);
        // A failed plugin's error quotes its environment, in which there may be secrets.
        let is_secret = matches!(failure, ApiFailure::Credentials { .. });
        let source = (!is_secret).then(|| Box::new(source));
        Self {
            doing: doing.into(),
            failure,
            source,
        }
    }

    /// Returns whether the object isn't there.
    pub fn is_not_found(&self) -> bool {
        matches!(self.failure, ApiFailure::NotFound { .. })
    }
}

/// Awaits one call to the API server for at most [`CALL_TIMEOUT`].
///
/// `doing` names the step and completes the sentence "can't ...".
pub async fn call<T>(
    doing: impl Into<String>,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(ApiError::new(doing, source)),
        Err(_) => Err(ApiError {
            doing: doing.into(),
            failure: timed_out(CALL_TIMEOUT),
            source: None,
        }),
    }
}

/// Returns the failure of a call that got no answer within `deadline`.
pub fn timed_out(deadline: Duration) -> ApiFailure {
    ApiFailure::Unreachable(Unreachable {
        reason: UnreachableReason::TimedOut,
        detail: format!("waited {} s", deadline.as_secs()),
    })
}

/// Says what a client's error means.
pub fn classify(error: &kube::Error) -> ApiFailure {
    if let kube::Error::Api(status) = error {
        return classify_status(status);
    }
    let mut innermost = String::new();
    let mut resolving = false;
    let mut reason = None;
    for cause in causes(error) {
        innermost = cause.to_string();
        if let Some(auth) = cause.downcast_ref::<AuthError>() {
            return ApiFailure::Credentials {
                message: credentials_message(auth),
            };
        }
        resolving |= innermost.starts_with("dns error");
        if cause.is::<rustls::Error>() {
            reason = Some(UnreachableReason::Tls);
        } else if let Some(io) = cause.downcast_ref::<io::Error>() {
            reason = reason_of(io.kind()).or(reason);
        } else if let Some(http) = cause.downcast_ref::<hyper::Error>() {
            let broke = http.is_incomplete_message() || http.is_closed() || http.is_canceled();
            reason = reason.or(broke.then_some(UnreachableReason::Broken));
        }
    }
    if resolving {
        reason = Some(UnreachableReason::NameNotResolved);
    }
    match reason {
        Some(reason) => ApiFailure::Unreachable(Unreachable {
            reason,
            detail: innermost,
        }),
        None => ApiFailure::Other {
            message: plain_message(error),
        },
    }
}

/// Returns an error's text, unless that would quote a private key.
fn plain_message(error: &kube::Error) -> String {
    match error {
        kube::Error::RustlsTls(RustlsTlsError::InvalidIdentityPem(_)) => {
            "the client certificate or key isn't PEM".to_owned()
        }
        error => error.to_string(),
    }
}

/// Says what a watch's error means.
pub fn classify_watch(error: &watcher::Error) -> ApiFailure {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => classify(error),
        watcher::Error::WatchError(status) => classify_status(status),
        watcher::Error::NoResourceVersion => ApiFailure::Other {
            message: error.to_string(),
        },
    }
}

fn classify_status(status: &Status) -> ApiFailure {
    let message = if status.message.is_empty() {
        &status.reason
    } else {
        &status.message
    };
    let message = message.trim().trim_end_matches('.').to_owned();
    match (status.reason.as_str(), status.code) {
        ("Unauthorized", _) | (_, 401) => ApiFailure::Unauthorized { message },
        ("Forbidden", _) | (_, 403) => match Forbidden::parse(&message) {
            Some(forbidden) => ApiFailure::Forbidden(Box::new(forbidden)),
            None => ApiFailure::Denied { message },
        },
        // A webhook may answer with any code; the API server's own words are fixed.
        _ if message.starts_with("admission webhook ") => ApiFailure::Denied { message },
        ("NotFound", _) | (_, 404) => ApiFailure::NotFound { message },
        ("AlreadyExists", _) => ApiFailure::AlreadyExists { message },
        ("Conflict", _) | (_, 409) => ApiFailure::Conflict { message },
        ("Expired" | "Gone", _) | (_, 410) => ApiFailure::Expired,
        ("Invalid" | "BadRequest", _) | (_, 400 | 422) => ApiFailure::Invalid { message },
        (_, code @ (429 | 500..)) => ApiFailure::Server { code, message },
        _ => ApiFailure::Other { message },
    }
}

/// Returns what a credential plugin or token file failed with.
///
/// The command line that the client's error carries is left out: it begins with the plugin's
/// environment, where secrets may be.
pub(super) fn credentials_message(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecStart(source) => {
            format!("the credential plugin can't be started: {source}")
        }
        AuthError::AuthExecRun { out, .. } => {
            let stderr = String::from_utf8_lossy(&out.stderr);
            match stderr.trim() {
                "" => format!("the credential plugin failed ({})", out.status),
                said => format!("the credential plugin failed ({}): {said}", out.status),
            }
        }
        AuthError::AuthExecParse(source) => {
            format!("the credential plugin's answer can't be read: {source}")
        }
        AuthError::ExecPluginFailed => "the credential plugin's answer has no status".to_owned(),
        other => other.to_string(),
    }
}

fn reason_of(kind: io::ErrorKind) -> Option<UnreachableReason> {
    match kind {
        io::ErrorKind::ConnectionRefused => Some(UnreachableReason::Refused),
        io::ErrorKind::TimedOut => Some(UnreachableReason::TimedOut),
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => Some(UnreachableReason::NoRoute),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(UnreachableReason::Broken),
        _ => None,
    }
}

/// Iterates over an error and its causes, outermost first.
///
/// `io::Error::source` skips the error that it wraps, which is the one that matters for TLS.
fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
