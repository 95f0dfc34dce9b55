//! Why a connection to a cluster can't be made, for the person who asked for it.

use std::io;
use std::path::PathBuf;

use kube::config::InClusterError;
use thiserror::Error;

use super::{Unreachable, UnreachableReason};

/// What can fail between a kubeconfig and an API server that answers.
///
/// Each text says what failed, why, and what to try next; it is complete without the sources.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// None of the kubeconfig files exists.
    #[error(
        "no kubeconfig: {} doesn't exist. Name one with --kubeconfig or in KUBECONFIG",
        list_paths(paths)
    )]
    KubeconfigMissing {
        /// The files looked for.
        paths: Vec<PathBuf>,
    },
    /// The kubeconfig files hold no context.
    #[error(
        "no kubeconfig: there is no context in {}. Name another file with --kubeconfig or in KUBECONFIG",
        list_read(paths)
    )]
    KubeconfigEmpty {
        /// The files that were read.
        paths: Vec<PathBuf>,
    },
    /// A kubeconfig file can't be read.
    #[error("can't read the kubeconfig {}: {source}. Check the file's owner and mode", path.display())]
    KubeconfigUnreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A kubeconfig file's content makes no sense. The parser's error isn't kept: it quotes the
    /// file, in which there may be secrets.
    #[error("can't understand the kubeconfig {}: {}. `kubectl config view` shows what kubectl makes of it", path.display(), reason)]
    KubeconfigInvalid {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
    /// The kubeconfig has no current context, and none was named.
    #[error(
        "the kubeconfig has no current context. Name one with --context: {}",
        list(available)
    )]
    NoCurrentContext {
        /// The contexts that there are.
        available: Vec<String>,
    },
    /// There is no context of that name.
    #[error(
        "the kubeconfig has no context {wanted:?}. It has: {}",
        list(available)
    )]
    ContextMissing {
        /// The name asked for.
        wanted: String,
        /// The contexts that there are.
        available: Vec<String>,
    },
    /// The context names a cluster or user that isn't there.
    #[error(
        "the context {context:?} names the {what} {missing:?}, which the kubeconfig doesn't have. Correct it with `kubectl config set-context`"
    )]
    ContextBroken {
        /// The context.
        context: String,
        /// "cluster" or "user".
        what: &'static str,
        /// The name that leads nowhere.
        missing: String,
    },
    /// A part of the context can't be used: its URL, certificates, or proxy.
    #[error("can't use the context {context:?}: {what}. Correct the kubeconfig")]
    ContextUnusable {
        /// The context.
        context: String,
        /// What is wrong with it.
        what: String,
    },
    /// The proxy's URL makes no sense.
    #[error(
        "can't use the proxy {url:?} to reach the cluster: {source}. Correct proxy-url in the kubeconfig or HTTPS_PROXY"
    )]
    ProxyInvalid {
        /// The proxy's URL.
        url: String,
        /// What is wrong with it.
        source: http::uri::InvalidUri,
    },
    /// The credential plugin must talk with a person, and a daemon has none.
    #[error(
        "the credential plugin {command:?} needs a terminal (interactiveMode: Always). Use a user or a plugin mode that works without one"
    )]
    PluginNeedsTerminal {
        /// The plugin's command.
        command: String,
    },
    /// The credential plugin isn't there.
    #[error(
        "can't get credentials for user {user:?}: the credential plugin {command:?} isn't there. {}",
        install(hint.as_deref())
    )]
    PluginMissing {
        /// The user, as the kubeconfig names them.
        user: String,
        /// The plugin's command.
        command: String,
        /// The kubeconfig's words on where to get it.
        hint: Option<String>,
    },
    /// The credential plugin failed. The client's error isn't kept: it quotes the plugin's
    /// environment, in which there may be secrets.
    #[error(
        "can't get credentials for user {user:?}: {message}. Log in again, or run {command:?} by hand to see more"
    )]
    PluginFailed {
        /// The user, as the kubeconfig names them.
        user: String,
        /// The plugin's command.
        command: String,
        /// What went wrong, with the plugin's stderr.
        message: String,
    },
    /// The credential plugin doesn't come to an end.
    #[error(
        "can't get credentials for user {user:?}: {command:?} gave no answer within {seconds} s{}. {} by hand: it may wait for an answer",
        runs_on(*process),
        end_and_run(*process)
    )]
    PluginTimedOut {
        /// The user, as the kubeconfig names them.
        user: String,
        /// The plugin's command.
        command: String,
        /// Its process, where that is known.
        process: Option<u32>,
        /// How long was waited, in seconds.
        seconds: u64,
    },
    /// The credentials or certificates of the context can't be used. The client's error isn't
    /// kept: it may quote a private key.
    #[error("can't use the credentials of context {context:?}: {message}. Correct the kubeconfig")]
    CredentialsUnusable {
        /// The context.
        context: String,
        /// What is wrong with them.
        message: String,
    },
    /// The process isn't in a pod, or the pod has no service-account token.
    #[error(
        "can't use the pod's service account: {0}. Run in a pod with automountServiceAccountToken"
    )]
    NotInCluster(#[source] InClusterError),
    /// The API server gave no answer.
    #[error("can't reach the API server {url}{}: {why}. {}", through(proxy.as_deref()), advice(why, proxy.as_deref()))]
    Unreachable {
        /// The API server's URL.
        url: String,
        /// The URL of the proxy that leads there, without credentials.
        proxy: Option<String>,
        /// Why.
        why: Unreachable,
        /// The client's error; `None` when the deadline passed.
        source: Option<Box<kube::Error>>,
    },
    /// The API server doesn't accept the credentials (401).
    #[error(
        "the API server {url} doesn't accept the credentials of user {user:?} ({message}). Log in to the cluster again"
    )]
    Unauthorized {
        /// The API server's URL.
        url: String,
        /// The user, as the kubeconfig names them.
        user: String,
        /// What the API server said.
        message: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// The API server answered something else than its version.
    #[error(
        "the server {url}{} doesn't answer like a Kubernetes API server: {message}. Check the server's URL in the kubeconfig{}",
        through(proxy.as_deref()),
        if proxy.is_some() { ", and the proxy" } else { "" }
    )]
    NotKubernetes {
        /// The API server's URL.
        url: String,
        /// The URL of the proxy that leads there, without credentials.
        proxy: Option<String>,
        /// What it answered.
        message: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
}

fn install(hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("Install it; its author says: {hint}"),
        None => "Install it into a directory of PATH, or correct its command in the kubeconfig"
            .to_owned(),
    }
}

fn runs_on(process: Option<u32>) -> String {
    process.map_or_else(String::new, |process| {
        format!(", and runs on as process {process}")
    })
}

fn end_and_run(process: Option<u32>) -> String {
    match process {
        Some(process) => format!("End it with `kill {process}`, and run it"),
        None => "Run it".to_owned(),
    }
}

fn through(proxy: Option<&str>) -> String {
    proxy.map_or_else(String::new, |proxy| format!(" through the proxy {proxy}"))
}

/// What to try next. Where a proxy is dialled, the connection that failed is the one to it, or one that it made.
fn advice(why: &Unreachable, proxy: Option<&str>) -> String {
    if proxy.is_none() {
        return why.advice().to_owned();
    }
    let first = match why.reason {
        UnreachableReason::Refused | UnreachableReason::NameNotResolved => {
            "Check that the proxy runs and that its host and port are right"
        }
        _ => why.advice(),
    };
    format!(
        "{first}; the proxy is that of proxy-url in the kubeconfig or of HTTPS_PROXY, to which NO_PROXY makes exceptions"
    )
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "(none)".to_owned()
    } else {
        names.join(", ")
    }
}

fn list_paths(paths: &[PathBuf]) -> String {
    match paths {
        [] => "~/.kube/config".to_owned(),
        paths => shown(paths).join(" or "),
    }
}

fn list_read(paths: &[PathBuf]) -> String {
    shown(paths).join(", nor in ")
}

fn shown(paths: &[PathBuf]) -> Vec<String> {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect()
}
