//! Why installing, removing or finding the manager fails.

use std::error::Error as StdError;
use std::fmt::Write as _;

use thiserror::Error;

use super::names::ObjectRef;
use super::trouble::Trouble;
use crate::access::{Missing, summarize};
use crate::client::ApiError;

/// Why an installation failed. Each text says what failed, why, and what to try next.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The user lacks rights; nothing was changed.
    #[error("can't install: you may not {}. Ask the cluster's administrator for these rights, or to install", summarize(.0))]
    MissingRights(Vec<Missing>),
    /// An object of that name belongs to another tool.
    #[error("can't install: {object} is there already and {}. Remove or upgrade it with what made it, or choose another namespace", managed(managed_by.as_deref()))]
    Foreign {
        /// The object.
        object: ObjectRef,
        /// Its `managed-by` label.
        managed_by: Option<String>,
    },
    /// An earlier namespace of that name takes too long to go.
    #[error(
        "can't install: the namespace {namespace:?} is still being deleted after {seconds} s. `kubectl get namespace {namespace} -o yaml` shows what holds it"
    )]
    NamespaceTerminating {
        /// The namespace.
        namespace: String,
        /// How long was waited, in seconds.
        seconds: u64,
    },
    /// The manager doesn't start, for a reason that won't pass.
    #[error("the traffic manager doesn't start: {trouble}{}", log_lines(log))]
    NotStarting {
        /// Why.
        trouble: Trouble,
        /// The last lines of the program's log, oldest first, if it crashed.
        log: Vec<String>,
    },
    /// The manager didn't become available in time.
    #[error("the traffic manager isn't available after {seconds} s: {trouble}")]
    TimedOut {
        /// How long was waited, in seconds.
        seconds: u64,
        /// What it was busy with or stuck at.
        trouble: Trouble,
    },
    /// A call to the API server failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Why a removal failed.
#[derive(Debug, Error)]
pub enum UninstallError {
    /// The user lacks rights; nothing was changed.
    #[error("can't uninstall: you may not {}. Ask the cluster's administrator for these rights, or to uninstall", summarize(.0))]
    MissingRights(Vec<Missing>),
    /// The intercepted Services couldn't be restored; nothing was removed.
    #[error("nothing was removed, since the intercepted Services couldn't be restored first: {0}")]
    Restore(#[source] Box<dyn StdError + Send + Sync>),
    /// The manager was installed with another tool.
    #[error("can't uninstall: {object} {}. Remove it with what made it", managed(managed_by.as_deref()))]
    Foreign {
        /// The object.
        object: ObjectRef,
        /// Its `managed-by` label.
        managed_by: Option<String>,
    },
    /// An object doesn't go.
    #[error(
        "{object} is still there after {seconds} s. `kubectl get -o yaml` on it shows which finalizers hold it"
    )]
    NotGone {
        /// The object.
        object: ObjectRef,
        /// How long was waited, in seconds.
        seconds: u64,
    },
    /// A call to the API server failed.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Why there is no manager to connect to.
#[derive(Debug, Error)]
pub enum ManagerError {
    /// There is none in the namespace.
    #[error(
        "there is no traffic manager in namespace {namespace:?}. Install it with `kdev install`, or name its namespace with --manager-namespace"
    )]
    NotInstalled {
        /// The namespace looked in.
        namespace: String,
    },
    /// It doesn't start.
    #[error("the traffic manager isn't ready: {0}")]
    NotReady(Trouble),
    /// It is starting.
    #[error("the traffic manager isn't ready yet: waiting for {what}. Try again in a moment")]
    Starting {
        /// What is awaited; completes the phrase "waiting for ...".
        what: String,
    },
    /// A call to the API server failed; among them: the user may not list pods there.
    #[error(transparent)]
    Api(#[from] ApiError),
}

fn managed(by: Option<&str>) -> String {
    match by {
        Some(tool) => format!("is managed by {tool}"),
        None => "wasn't made by kdev".to_owned(),
    }
}

fn log_lines(log: &[String]) -> String {
    if log.is_empty() {
        return String::new();
    }
    let mut text = String::from("\nThe end of its log:");
    for line in log {
        // Writing to a String can't fail.
        let _ = write!(text, "\n  {line}");
    }
    text
}
