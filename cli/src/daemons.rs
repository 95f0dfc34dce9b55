//! Finding the daemons, and starting those that don't run.

mod start;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kdev_common::channel::Channel;
use kdev_common::paths::{self, UserDirs};
use kdev_common::person;
use kdev_common::socket::{self, CallError};
use kdev_proto::v1::root_daemon_client::RootDaemonClient;
use kdev_proto::v1::user_daemon_client::UserDaemonClient;
use kdev_proto::v1::{ErrorKind, RootStatusRequest, Version, VersionRequest};
use kdev_proto::{Failure, check_version};
use nix::unistd::Uid;
use tonic::{Response, Status};

use crate::holder::Holder;

/// How long a daemon may take to answer a question about itself.
const ANSWER: Duration = Duration::from_secs(8);
/// How long a daemon that was killed may take to be gone.
const GOING: Duration = Duration::from_secs(3);
/// Between two looks at whether it listens: a Unix socket can't be waited for.
const LOOK: Duration = Duration::from_millis(10);

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

/// The socket of the user's daemon; `None` for a user without a home.
pub fn user_socket() -> Option<PathBuf> {
    UserDirs::find().map(|dirs| dirs.socket())
}

/// Where the user's daemon has its log, as a sentence.
pub fn user_log() -> String {
    match UserDirs::find() {
        Some(UserDirs { run, state }) => format!(
            "its log is in {}, or in {} where it can't be there",
            state.display(),
            run.display()
        ),
        None => "without a home directory it has no log".to_owned(),
    }
}

/// That the root daemon serves another user, with the name of the one for whom it was started.
pub fn serves_another() -> String {
    let owner = std::fs::metadata(paths::root_socket()).map(|socket| socket.uid());
    match owner {
        // A service's socket is root's, whomever it serves.
        Ok(0) | Err(_) => "it serves another user".to_owned(),
        Ok(uid) => format!("it serves another user, {}", person::user(uid)),
    }
}

fn call_failure(name: &str, error: &CallError) -> Failure {
    let kind = if error.not_permitted() {
        ErrorKind::NotPermitted
    } else {
        ErrorKind::Daemon
    };
    let next = if !error.not_permitted() {
        "run the command again; the daemon's log may say more".to_owned()
    } else if name == "kdev-userd" {
        "its socket is where XDG_RUNTIME_DIR says, or HOME: set them to directories of your own"
            .to_owned()
    } else {
        format!(
            "{}, who may run `kdev quit`; or its group doesn't have you (yet): look with `ls -l /run/kdev` and `id`",
            serves_another()
        )
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
                "{} and run the command again: nothing is left behind",
                killing(name)
            ),
        )),
    }
}

/// How to kill a daemon: of those of the users' only this user's own, as root may kill them all.
fn killing(name: &str) -> String {
    match name {
        "kdev-userd" => format!("end it with `pkill -9 -u {} {name}`", Uid::effective()),
        _ => format!("end it with `pkill -9 {name}`"),
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
        None => start::user().await?,
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

/// Makes sure that the root daemon runs, and says how it was started; true when it had to be.
///
/// # Errors
///
/// When it can't be started, belongs to another user, has another user's session, or is of another version.
pub async fn ensure_root() -> Result<bool, Failure> {
    let (mut client, started) = match running_root().await? {
        Some(client) => (client, false),
        None => (start::root().await?, true),
    };
    let version: Version = answer("kdev-rootd", client.get_version(VersionRequest {})).await??;
    check_version(&version)?;
    let status = answer("kdev-rootd", client.get_status(RootStatusRequest {})).await??;
    // A session of this user's own is mended, or named, by the daemon that has it.
    if let Some(holder) = Holder::living(&status).filter(|holder| !holder.is_of_this_user()) {
        return Err(holder.in_the_way("can't connect"));
    }
    Ok(started)
}
