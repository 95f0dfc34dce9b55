//! The commands: each asks the daemons and shows what they say.

mod connect;
mod intercept;
mod list;
mod manager;
mod quit;
mod status;
mod version;

use std::path::PathBuf;

use kdev_proto::Failure;
use kdev_proto::v1::{Cluster, Progress};
use tonic::{Response, Status, Streaming};

use crate::args::{Args, ClusterArgs, Command};
use crate::output;

/// Runs what was typed; the exit code, which is a program's where kdev ran one.
///
/// # Errors
///
/// The failure that the command ends with.
pub async fn run(args: Args) -> Result<u8, Failure> {
    match args.command {
        Command::Install(args) => manager::install(args).await,
        Command::Uninstall(args) => manager::uninstall(args).await,
        Command::Connect(args) => connect::connect(args).await,
        Command::Status(args) => status::status(args.output).await,
        Command::List(args) => list::list(args).await,
        Command::Intercept(args) => return intercept::intercept(args).await,
        Command::Wiretap(args) => return intercept::wiretap(args).await,
        Command::Replace(args) => return intercept::replace(args).await,
        Command::Preview(args) => return intercept::preview(args).await,
        Command::Recover(args) => manager::recover(args).await,
        Command::Leave(args) => intercept::leave(args).await,
        Command::Quit => quit::quit().await,
        Command::Version(args) => version::version(args.output).await,
    }
    .map(|()| 0)
}

/// Shows the lines of a call as they come, and its result last.
///
/// # Errors
///
/// The failure that the call ends with.
pub async fn follow(call: Result<Response<Streaming<Progress>>, Status>) -> Result<(), Failure> {
    until_done(&mut call?.into_inner()).await.map(drop)
}

/// Shows lines as they come until one says what has come of it; returns that one. Others may follow.
///
/// # Errors
///
/// See [`follow`].
pub async fn until_done(lines: &mut Streaming<Progress>) -> Result<Progress, Failure> {
    while let Some(progress) = lines.message().await? {
        if progress.done {
            output::result(&progress.line);
            return Ok(progress);
        }
        output::progress(&progress.line);
    }
    Err(Failure::internal(
        "the daemon's answer broke off",
        "it ended without a result",
    ))
}

/// Which cluster the arguments and the environment mean. Nothing is left to the daemon, which has
/// another working directory, and the environment of whoever started it.
///
/// # Errors
///
/// When the working directory is gone.
pub fn cluster(args: &ClusterArgs, manager_namespace: &str) -> Result<Cluster, Failure> {
    let files = match &args.kubeconfig {
        Some(file) => vec![file.clone()],
        None => kubeconfig_files(),
    };
    let absolute = |file| {
        std::path::absolute(file)
            .map(|path| path.to_string_lossy().into_owned())
            .map_err(|error| Failure::internal("the kubeconfig's path can't be told", error))
    };
    Ok(Cluster {
        kubeconfig: files.into_iter().map(absolute).collect::<Result<_, _>>()?,
        context: args.context.clone().unwrap_or_default(),
        manager_namespace: manager_namespace.to_owned(),
        chosen: args.kubeconfig.is_some() || args.context.is_some(),
        // What isn't text can't be carried over gRPC, and no plugin needs it.
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
    })
}

/// `$KUBECONFIG`, else `~/.kube/config`, as kubectl does it.
fn kubeconfig_files() -> Vec<PathBuf> {
    let listed: Vec<PathBuf> = std::env::var_os("KUBECONFIG")
        .map(|list| std::env::split_paths(&list).collect())
        .unwrap_or_default();
    let named: Vec<PathBuf> = listed
        .into_iter()
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if !named.is_empty() {
        return named;
    }
    std::env::home_dir()
        .map(|home| home.join(".kube").join("config"))
        .into_iter()
        .collect()
}
