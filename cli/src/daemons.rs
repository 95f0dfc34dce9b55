//! Finding the daemons, and starting those that don't run.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kdev_common::channel::Channel;
use kdev_common::detach;
use kdev_common::logging::FILTER_VARIABLE;
use kdev_common::paths::{self, UserDirs};
use kdev_common::socket::{self, CallError};
use kdev_proto::v1::root_daemon_client::RootDaemonClient;
use kdev_proto::v1::user_daemon_client::UserDaemonClient;
use kdev_proto::v1::{ErrorKind, Version, VersionRequest};
use kdev_proto::{Failure, check_version};
use nix::unistd::Uid;
use tokio::process::Command;
use tonic::{Response, Status};

use crate::output;

/// How long a daemon may take to start.
const START: Duration = Duration::from_secs(10);
/// How long a daemon may take to answer a question about itself.
const ANSWER: Duration = Duration::from_secs(8);
/// How long a daemon that was killed may take to be gone.
const GOING: Duration = Duration::from_secs(3);
/// Between two looks at whether it listens: a Unix socket can't be waited for.
const LOOK: Duration = Duration::from_millis(10);
const SERVICE: &str = "kdev-rootd.service";
/// How `kdev-rootd launch` begins what it says on standard error.
const OF_THE_DAEMON: &str = "kdev-rootd: ";

/// A channel to the user's daemon.
pub type User = UserDaemonClient<Channel>;
/// A channel to the root daemon.
pub type Root = RootDaemonClient<Channel>;

fn user_dirs() -> Result<UserDirs, Failure> {
    UserDirs::find().ok_or_else(|| {
        Failure::new(
            ErrorKind::Daemon,
            "the user's daemon can't be found",
            "this user has no home directory",
            "set HOME",
        )
    })
}

fn call_failure(name: &str, error: &CallError) -> Failure {
    let kind = if error.not_permitted() {
        ErrorKind::NotPermitted
    } else {
        ErrorKind::Daemon
    };
    let next = if error.not_permitted() {
        "it serves another user, who may run `kdev quit`; or its group doesn't have you (yet): look \
         with `ls -l /run/kdev` and `id`"
    } else {
        "run the command again; the daemon's log may say more"
    };
    let why = std::error::Error::source(error).map_or_else(String::new, |why| format!(": {why}"));
    Failure::new(
        kind,
        format!("{name} can't be called"),
        format!("{error}{why}"),
        next,
    )
}

/// Opens a channel to a daemon if it runs. One that was just killed may still take a connection and
/// then drop it: that is tried again until it is gone or its successor answers.
async fn running(name: &str, path: &Path) -> Result<Option<Channel>, Failure> {
    let deadline = tokio::time::Instant::now() + GOING;
    loop {
        match socket::call(path).await {
            Ok(channel) => return Ok(Some(channel)),
            Err(error) if error.nobody_listens() => return Ok(None),
            Err(CallError::Handshake { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(LOOK).await;
            }
            Err(error) => return Err(call_failure(name, &error)),
        }
    }
}

/// Waits for the answer to a question that every daemon answers at once.
///
/// # Errors
///
/// When it doesn't, as one that was stopped.
pub async fn answer<T>(
    name: &str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Result<T, Status>, Failure> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(answer) => Ok(answer.map(Response::into_inner)),
        Err(_) => Err(Failure::new(
            ErrorKind::Daemon,
            format!("{name} doesn't answer"),
            format!("it runs, but said nothing for {} s", ANSWER.as_secs()),
            format!(
                "end it with `pkill -9 {name}` and run the command again: nothing is left behind"
            ),
        )),
    }
}

/// Calls the user's daemon if it runs.
///
/// # Errors
///
/// When it runs but can't be called.
pub async fn running_user() -> Result<Option<User>, Failure> {
    let deadline = tokio::time::Instant::now() + GOING;
    loop {
        let Some(channel) = running("kdev-userd", &user_dirs()?.socket()).await? else {
            return Ok(None);
        };
        let mut client = UserDaemonClient::new(channel);
        match answer("kdev-userd", client.get_version(VersionRequest {})).await? {
            Err(status) if went_away(&status) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(LOOK).await;
            }
            _ => return Ok(Some(client)),
        }
    }
}

/// Calls the root daemon if it runs.
///
/// # Errors
///
/// When it runs but can't be called, as it is another user's.
pub async fn running_root() -> Result<Option<Root>, Failure> {
    let deadline = tokio::time::Instant::now() + GOING;
    loop {
        let Some(channel) = running("kdev-rootd", &paths::root_socket()).await? else {
            return Ok(None);
        };
        let mut client = RootDaemonClient::new(channel);
        match answer("kdev-rootd", client.get_version(VersionRequest {})).await? {
            Err(status) if went_away(&status) && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(LOOK).await;
            }
            _ => return Ok(Some(client)),
        }
    }
}

/// Whether a call broke in the transport; what a daemon itself refuses has details.
fn went_away(status: &Status) -> bool {
    status.details().is_empty()
}

/// Calls the user's daemon, starting it where it doesn't run.
///
/// # Errors
///
/// When it can't be started, or is of another version.
pub async fn user() -> Result<User, Failure> {
    let mut client = match running_user().await? {
        Some(client) => client,
        None => start_user().await?,
    };
    let versions = answer("kdev-userd", client.get_version(VersionRequest {})).await??;
    check_version(&versions.userd.unwrap_or_default())?;
    Ok(client)
}

/// Calls the user's daemon, which must run already.
///
/// # Errors
///
/// [`ErrorKind::NotConnected`] when it doesn't.
pub async fn connected_user() -> Result<User, Failure> {
    match running_user().await? {
        Some(_) => user().await,
        None => Err(Failure::new(
            ErrorKind::NotConnected,
            "this machine isn't connected",
            "the user's daemon doesn't run",
            "run `kdev connect` first",
        )),
    }
}

async fn start_user() -> Result<User, Failure> {
    let program = program("kdev-userd")?;
    // A daemon that ended is left as a zombie only until this command exits.
    let _child =
        detach::spawn(&program, &[], None).map_err(|error| start_failure("kdev-userd", &error))?;
    let dirs = user_dirs()?;
    wait_for(&dirs.socket(), "kdev-userd", &dirs.state).await?;
    running_user()
        .await?
        .ok_or_else(|| gone("kdev-userd", &dirs.state))
}

/// Makes sure that the root daemon runs, and says how it was started; true when it had to be.
///
/// # Errors
///
/// When it can't be started, belongs to another user, or is of another version.
pub async fn ensure_root() -> Result<bool, Failure> {
    let (mut client, started) = match running_root().await? {
        Some(client) => (client, false),
        None => (start_root().await?, true),
    };
    let version: Version = answer("kdev-rootd", client.get_version(VersionRequest {})).await??;
    check_version(&version)?;
    Ok(started)
}

async fn start_root() -> Result<Root, Failure> {
    if let Some(unit) = service_unit() {
        output::progress(&format!(
            "starting the root daemon as the service {SERVICE} ({unit})"
        ));
        run("systemctl", &[OsStr::new("start"), OsStr::new(SERVICE)])
            .await
            .map_err(|failure| {
                failure.with_next(format!(
                    "have it started once for good: `sudo systemctl enable --now {SERVICE}`"
                ))
            })?;
    } else {
        let program = program("kdev-rootd")?;
        let uid = Uid::current().to_string();
        let mut launch = vec![
            OsStr::new("launch"),
            OsStr::new("--owner"),
            OsStr::new(&uid),
        ];
        // sudo keeps the environment to itself.
        let filter = std::env::var_os(FILTER_VARIABLE);
        if let Some(filter) = &filter {
            launch.extend([OsStr::new("--log"), filter]);
        }
        if Uid::effective().is_root() {
            output::progress("starting the root daemon, as this is root");
            run(program.as_os_str(), &launch).await?;
        } else {
            output::progress(&format!(
                "starting the root daemon with sudo: {} launch --owner {uid}",
                program.display()
            ));
            let mut args = Vec::new();
            if !std::io::stdin().is_terminal() {
                // Nobody can type a password: fail instead of waiting for one.
                args.push(OsStr::new("-n"));
            }
            args.extend([OsStr::new("--"), program.as_os_str()]);
            args.extend(launch);
            run("sudo", &args).await.map_err(|failure| {
                // What the daemon itself said comes after its name; everything else is sudo's.
                if failure.why.contains(OF_THE_DAEMON) {
                    return failure;
                }
                Failure {
                    kind: ErrorKind::NotPermitted,
                    next: "run `kdev connect` in a terminal where sudo can ask for your password, \
                           or have the service kdev-rootd installed once (see the README)"
                        .to_owned(),
                    ..failure
                }
            })?;
        }
    }
    wait_for(
        &paths::root_socket(),
        "kdev-rootd",
        Path::new(paths::ROOT_LOG_DIR),
    )
    .await?;
    running_root()
        .await?
        .ok_or_else(|| gone("kdev-rootd", Path::new(paths::ROOT_LOG_DIR)))
}

/// The service's unit file, where systemd runs and knows it.
fn service_unit() -> Option<String> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    [
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ]
    .map(|dir| PathBuf::from(dir).join(SERVICE))
    .into_iter()
    .find(|path| path.is_file())
    .map(|path| path.display().to_string())
}

fn program(name: &str) -> Result<PathBuf, Failure> {
    detach::sibling(name).map_err(|error| start_failure(name, &error))
}

async fn run(program: impl AsRef<OsStr>, args: &[&OsStr]) -> Result<(), Failure> {
    let name = program.as_ref().to_string_lossy().into_owned();
    let done = Command::new(program.as_ref())
        .args(args)
        .stdin(Stdio::inherit())
        // Standard output is the command's result, which other programs read.
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .await
        .map_err(|error| start_failure(&name, &error))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(Failure::new(
        ErrorKind::Daemon,
        "the root daemon can't be started",
        format!("{name}: {}: {}", done.status, said.trim()),
        format!("its log is in {}", paths::ROOT_LOG_DIR),
    ))
}

async fn wait_for(socket: &Path, name: &str, log: &Path) -> Result<(), Failure> {
    let listens = async {
        while socket::call(socket)
            .await
            .is_err_and(|error| error.nobody_listens())
        {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(START, listens)
        .await
        .map_err(|_| gone(name, log))
}

fn gone(name: &str, log: &Path) -> Failure {
    Failure::new(
        ErrorKind::Daemon,
        format!("{name} was started but doesn't answer"),
        format!("nothing listens after {} s", START.as_secs()),
        format!("its log is in {}", log.display()),
    )
}

fn start_failure(name: &str, error: &std::io::Error) -> Failure {
    Failure::new(
        ErrorKind::Daemon,
        format!("{name} can't be started"),
        error.to_string(),
        "kdev, kdev-userd and kdev-rootd have to be installed in one directory",
    )
}
