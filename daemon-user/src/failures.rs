//! What went wrong in the libraries below, as a person reads it.
//!
//! Their texts are whole sentences: what failed and why, then what to do. Here they get the kind that
//! decides the exit code.

use std::fmt::Display;

use kdev_cluster::access::{Missing, summarize};
use kdev_cluster::client::{ApiError, ApiFailure, ConnectError};
use kdev_cluster::install::{InstallError, ManagerError, UninstallError};
use kdev_cluster::portforward;
use kdev_cluster::recover::RecoverError;
use kdev_cluster::redirect::{ClaimError, ReconcileError, RestoreError, ServiceName};
use kdev_cluster::replace::ReplaceError;
use kdev_cluster::vouch::{ManagerKeyError, VouchError};
use kdev_common::socket::CallError;
use kdev_proto::Failure;
use kdev_proto::v1::ErrorKind;

/// Takes a text apart: its last sentence is the next step.
fn told(kind: ErrorKind, what: impl Into<String>, error: &dyn Display) -> Failure {
    let text = error.to_string();
    let (why, next) = text.rsplit_once(". ").unwrap_or((&text, ""));
    Failure::new(kind, what, why, next)
}

fn kind_of(failure: &ApiFailure) -> ErrorKind {
    match failure {
        ApiFailure::Unreachable(_) | ApiFailure::Server { .. } => ErrorKind::ApiServer,
        ApiFailure::Unauthorized { .. } | ApiFailure::Credentials { .. } => ErrorKind::Kubeconfig,
        ApiFailure::Forbidden(_) | ApiFailure::Denied { .. } => ErrorKind::Forbidden,
        ApiFailure::NotFound { .. } => ErrorKind::NotFound,
        ApiFailure::AlreadyExists { .. } | ApiFailure::Conflict { .. } => ErrorKind::Conflict,
        ApiFailure::Invalid { .. } => ErrorKind::Usage,
        ApiFailure::Expired | ApiFailure::Other { .. } => ErrorKind::ApiServer,
    }
}

/// Rights that connecting needs and that are missing.
pub fn rights(missing: &[Missing]) -> Failure {
    Failure::new(
        ErrorKind::Forbidden,
        "can't connect",
        format!("you may not {}", summarize(missing)),
        "ask the cluster's administrator for these rights",
    )
}

/// A cluster that can't be connected to.
pub fn cluster(error: &ConnectError) -> Failure {
    let kind = match error {
        ConnectError::Unreachable { .. } | ConnectError::NotKubernetes { .. } => {
            ErrorKind::ApiServer
        }
        _ => ErrorKind::Kubeconfig,
    };
    told(kind, "can't reach the cluster", error)
}

/// A call to the API server that failed.
pub fn api(what: &str, error: &ApiError) -> Failure {
    told(kind_of(&error.failure), what, error)
}

/// A manager that can't be found.
pub fn manager(namespace: &str, error: &ManagerError) -> Failure {
    let kind = match error {
        ManagerError::Api(error) => kind_of(&error.failure),
        _ => ErrorKind::Manager,
    };
    told(
        kind,
        format!("no traffic manager to connect to in namespace {namespace}"),
        error,
    )
}

/// A manager whose key isn't known.
pub fn manager_key(error: &ManagerKeyError) -> Failure {
    let kind = match error {
        ManagerKeyError::Api(error) => kind_of(&error.failure),
        // One of before it had a key.
        ManagerKeyError::None { .. } => ErrorKind::Version,
        ManagerKeyError::Unreadable { .. } => ErrorKind::Manager,
    };
    told(kind, "can't tell who the traffic manager is", error)
}

/// A session's Lease that can't be written.
pub fn vouch(error: &VouchError) -> Failure {
    let kind = match error {
        VouchError::Forbidden { .. } => ErrorKind::Forbidden,
        VouchError::Api(error) => kind_of(&error.failure),
    };
    told(kind, "the session can't be vouched for", error)
}

/// A port-forward that can't be opened.
pub fn port_forward(error: &portforward::OpenError) -> Failure {
    let kind = match error {
        portforward::OpenError::Forbidden { .. } => ErrorKind::Forbidden,
        portforward::OpenError::Api(error) => kind_of(&error.failure),
        _ => ErrorKind::Manager,
    };
    told(kind, "can't open a way to the traffic manager", error)
}

/// An installation that failed.
pub fn install(error: &InstallError) -> Failure {
    let kind = match error {
        InstallError::MissingRights(_) => ErrorKind::Forbidden,
        InstallError::Foreign { .. } => ErrorKind::Conflict,
        InstallError::NamespaceTerminating { .. } | InstallError::TimedOut { .. } => {
            ErrorKind::Timeout
        }
        InstallError::NotStarting { .. } => ErrorKind::Manager,
        InstallError::Api(error) => kind_of(&error.failure),
    };
    told(kind, "the traffic manager isn't installed", error)
}

/// A removal that failed.
pub fn uninstall(error: &UninstallError) -> Failure {
    let kind = match error {
        UninstallError::MissingRights(_) => ErrorKind::Forbidden,
        UninstallError::Foreign { .. } => ErrorKind::Conflict,
        UninstallError::NotGone { .. } => ErrorKind::Timeout,
        UninstallError::Restore(error) => error
            .downcast_ref::<RecoverError>()
            .map_or(ErrorKind::Timeout, kind_of_recover),
        UninstallError::Api(error) => kind_of(&error.failure),
    };
    told(kind, "the traffic manager isn't removed", error)
}

/// A Service that can't be released.
pub fn release(service: &ServiceName, error: &ClaimError) -> Failure {
    Failure {
        what: format!("can't leave {service}"),
        next: "try again, or end the session: the traffic manager restores the Service by itself \
               once it and the API server work"
            .to_owned(),
        ..claim(service, error)
    }
}

/// A Service that can't be claimed.
pub fn claim(service: &ServiceName, error: &ClaimError) -> Failure {
    let kind = match error {
        ClaimError::ServiceNotFound { .. } | ClaimError::PortNotFound { .. } => ErrorKind::NotFound,
        ClaimError::Taken { .. }
        | ClaimError::Shared { .. }
        | ClaimError::Resting { .. }
        | ClaimError::Exists { .. }
        | ClaimError::OtherManager { .. }
        | ClaimError::Conflict { .. } => ErrorKind::Conflict,
        ClaimError::PortTwice { .. }
        | ClaimError::NotInterceptable { .. }
        | ClaimError::ExternalName { .. }
        | ClaimError::Unreadable { .. } => ErrorKind::Usage,
        ClaimError::Forbidden { .. } => ErrorKind::Forbidden,
        ClaimError::Api(error) => kind_of(&error.failure),
    };
    told(kind, format!("can't intercept {service}"), error)
}

/// Pods that are to stand in for a local program, where there are none.
pub fn nobody_to_pass_to(service: &str) -> Failure {
    Failure::new(
        ErrorKind::Usage,
        format!("can't pass what comes for {service} to its pods"),
        "only beside `kdev intercept` are there pods that answer while nothing listens on the local port: \
         `kdev replace` scales them to zero, `kdev preview` has none, and `kdev wiretap` leaves them everything",
        "leave --if-down out, or use `kdev intercept`",
    )
}

/// A preview that was asked for as if its Service were there.
pub fn preview_of_what_is_there(service: &str) -> Failure {
    Failure::new(
        ErrorKind::Usage,
        format!("can't make service {service}"),
        "its ports have to be said all at once",
        "use `kdev preview`",
    )
}

/// Part of a preview, which was to go without the rest.
pub fn part_of_preview(service: &ServiceName) -> Failure {
    Failure::new(
        ErrorKind::Usage,
        format!("can't leave one port of {service}"),
        "the Service was made for all of its ports, and goes with them",
        format!("leave --port out: `kdev leave {}`", service.name),
    )
}

/// A manager of before UDP ports could be intercepted.
pub fn manager_without_udp(service: &ServiceName) -> Failure {
    Failure::new(
        ErrorKind::Version,
        format!("can't intercept {service}"),
        "the port is UDP, and the traffic manager is of a release that redirects TCP ports only",
        "upgrade the manager: `kdev install`",
    )
}

/// Workloads that can't be scaled.
pub fn replace(service: &ServiceName, error: &ReplaceError) -> Failure {
    let kind = match error {
        ReplaceError::ServiceNotFound { .. } => ErrorKind::NotFound,
        ReplaceError::NoWorkload { .. } | ReplaceError::NotScalable { .. } => ErrorKind::Usage,
        ReplaceError::Autoscaled { .. } | ReplaceError::Taken { .. } => ErrorKind::Conflict,
        ReplaceError::Forbidden { .. } => ErrorKind::Forbidden,
        ReplaceError::Api(error) => kind_of(&error.failure),
    };
    told(kind, format!("can't replace {service}"), error)
}

/// What can't be put back.
pub fn recover(error: &RecoverError) -> Failure {
    told(kind_of_recover(error), "not everything is as it was", error)
}

fn kind_of_recover(error: &RecoverError) -> ErrorKind {
    match error {
        RecoverError::Service(error) => kind_of_restore(error),
        RecoverError::Workload(ReplaceError::Api(error)) => kind_of(&error.failure),
        RecoverError::Workload(ReplaceError::Forbidden { .. }) => ErrorKind::Forbidden,
        RecoverError::Workload(_) => ErrorKind::Timeout,
    }
}

/// What time doesn't mend is told apart from what isn't done yet.
fn kind_of_restore(error: &RestoreError) -> ErrorKind {
    match error {
        RestoreError::Api(error)
        | RestoreError::Reconcile(
            ReconcileError::Api(error) | ReconcileError::OnlySelector { source: error, .. },
        ) => kind_of(&error.failure),
        RestoreError::StillRedirected { .. } | RestoreError::Reconcile(_) => ErrorKind::Timeout,
    }
}

/// Looks into all namespaces that the user may not take.
pub fn unseen(looks: &str) -> Failure {
    Failure::new(
        ErrorKind::Forbidden,
        "what else there may be isn't seen",
        format!("you may not {looks} in all namespaces"),
        "name a namespace that you may look into: -n NAMESPACE",
    )
}

/// A Service that isn't restored.
pub fn restore(service: &ServiceName, error: &RestoreError) -> Failure {
    told(
        kind_of_restore(error),
        format!("{service} isn't restored"),
        error,
    )
}

/// A root daemon that can't be called.
pub fn root_daemon(error: &CallError) -> Failure {
    let (kind, why, next) = if error.nobody_listens() {
        (
            ErrorKind::Daemon,
            "not running".to_owned(),
            "run `kdev connect`, which starts it",
        )
    } else if error.not_permitted() {
        (
            ErrorKind::NotPermitted,
            "it was started for another user".to_owned(),
            "wait until they have run `kdev quit`",
        )
    } else {
        (ErrorKind::Daemon, error.to_string(), "look into its log")
    };
    Failure::new(kind, "the root daemon can't be called", why, next)
}

/// A command that needs a session.
pub fn not_connected() -> Failure {
    Failure::new(
        ErrorKind::NotConnected,
        "this machine isn't connected",
        "there is no session",
        "run `kdev connect` first",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdev_cluster::client::Forbidden;

    const RIGHTS: u8 = 7;
    const TIMEOUT: u8 = 15;

    fn refused() -> ApiError {
        ApiError {
            doing: "write the selector of service shop/web".to_owned(),
            failure: ApiFailure::Forbidden(Box::new(Forbidden {
                user: "dave".to_owned(),
                verb: "patch".to_owned(),
                resource: "services".to_owned(),
                group: String::new(),
                namespace: Some("shop".to_owned()),
            })),
            source: None,
        }
    }

    #[test]
    fn a_right_that_is_missing_while_restoring_is_told_as_one() {
        let web = ServiceName::new("shop", "web");
        let in_part = || ReconcileError::OnlySelector {
            service: web.clone(),
            source: refused(),
        };
        let errors = || -> [RestoreError; 3] {
            [
                refused().into(),
                ReconcileError::Api(refused()).into(),
                in_part().into(),
            ]
        };
        for error in errors() {
            let failure = restore(&web, &error);
            assert_eq!(failure.exit_code(), RIGHTS, "{failure}");
            let right = r#"user "dave" may not patch services in namespace "shop""#;
            assert!(failure.why.contains(right), "{failure}");
        }
        for error in errors().map(RecoverError::from) {
            assert_eq!(recover(&error).exit_code(), RIGHTS, "{error}");
            let removal = UninstallError::Restore(error.into());
            assert_eq!(uninstall(&removal).exit_code(), RIGHTS, "{removal}");
        }
    }

    #[test]
    fn what_isnt_restored_yet_took_too_long() {
        let service = ServiceName::new("shop", "web");
        let still = RestoreError::StillRedirected {
            service: service.clone(),
            seconds: 30,
        };
        assert_eq!(restore(&service, &still).exit_code(), TIMEOUT);
        let silent = ReconcileError::ControllerSilent {
            service: service.clone(),
            seconds: 30,
        };
        assert_eq!(restore(&service, &silent.into()).exit_code(), TIMEOUT);
    }
}
