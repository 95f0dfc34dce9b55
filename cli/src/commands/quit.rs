//! `kdev quit`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kdev_common::{paths, socket};
use kdev_proto::Failure;
use kdev_proto::v1::{
    ErrorKind, QuitRequest, RootStatus, RootStatusRequest, ShutdownRequest, StatusRequest,
};

use tonic::Code;

use super::follow;
use crate::daemons::{self, Root};
use crate::holder::Holder;
use crate::output;
use crate::process::runs;

/// How long what belongs to the session may take to go.
const GONE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);
/// Stands in a resolver file that is kdev's.
const RESOLVER_MARK: &str = "# Written by kdev";

/// The root daemon before anything was ended.
enum Before {
    /// It doesn't run.
    Absent,
    /// It serves another user, and takes no commands of this one.
    Others {
        /// Whom, as a sentence.
        whom: String,
    },
    /// It takes commands.
    Ours(Root, Box<RootStatus>),
}

/// Ends the session and the daemons that were started for it, then looks whether anything is left.
///
/// # Errors
///
/// What couldn't be undone, or is left, or somebody else's session that all is there for.
pub async fn quit() -> Result<(), Failure> {
    let before = before().await;
    // Whatever becomes of it, the machine gets its network back: that is the root daemon's to give.
    let ended = end_user().await;
    let (mut client, before) = match before {
        Ok(Before::Ours(client, before)) => (Some(client), *before),
        Ok(Before::Absent) => (None, RootStatus::default()),
        Ok(Before::Others { whom }) => {
            ended?;
            return Err(not_ours(&whom));
        }
        Err(failure) => {
            ended?;
            return Err(failure);
        }
    };
    if let Some(holder) = Holder::living(&before) {
        // One that was told to end and didn't is no reason to keep the machine's network.
        let is_own = ended.is_err() && holder.is_of_this_user();
        if !is_own {
            ended?;
            return Err(holder.in_the_way("kdev-rootd isn't yours to end now"));
        }
    }
    let stays = match &mut client {
        Some(client) => {
            let asked = client.shutdown(ShutdownRequest {});
            !daemons::answer("kdev-rootd", asked).await??.ending
        }
        None => false,
    };
    if !stays {
        let next = format!("its log in {} says why", paths::ROOT_LOG_DIR);
        let left = Left::daemon("kdev-rootd", next);
        gone(left, async || !runs(before.pid)).await?;
    }
    prove(before, stays).await?;
    ended
}

async fn before() -> Result<Before, Failure> {
    let mut client = match daemons::running_root().await {
        Ok(Some(client)) => client,
        Ok(None) => return Ok(Before::Absent),
        Err(failure) if failure.kind == ErrorKind::NotPermitted => {
            let whom = daemons::serves_another();
            return Ok(Before::Others { whom });
        }
        Err(failure) => return Err(failure),
    };
    let asked = client.get_status(RootStatusRequest {});
    match daemons::answer("kdev-rootd", asked).await? {
        Ok(status) => Ok(Before::Ours(client, Box::new(status))),
        Err(status) if status.code() == Code::PermissionDenied => Ok(Before::Others {
            whom: Failure::from(status).why,
        }),
        // It ended just now, or is of another version: it can be told to end all the same.
        Err(_) => Ok(Before::Ours(client, Box::default())),
    }
}

fn not_ours(whom: &str) -> Failure {
    Failure::new(
        ErrorKind::NotPermitted,
        "kdev-rootd isn't yours to end",
        format!("{whom}; nothing of your own is left"),
        "leave it to them",
    )
}

/// Ends this user's daemon, and the session with it.
async fn end_user() -> Result<(), Failure> {
    let Some(mut user) = daemons::running_user().await? else {
        output::progress("the user's daemon doesn't run");
        return Ok(());
    };
    let asked = user.get_status(StatusRequest {});
    let pid = daemons::answer("kdev-userd", asked)
        .await?
        .map_or(0, |status| status.pid);
    let ended = follow(user.quit(QuitRequest {}).await).await;
    let next = format!("{}; `kill -9 {pid}` ends it", daemons::user_log());
    gone(Left::daemon("kdev-userd", next), async || !runs(pid)).await?;
    ended
}

/// Looks at the machine itself, not at what the daemons say of it.
async fn prove(before: RootStatus, stays: bool) -> Result<(), Failure> {
    let mut seen = Vec::new();
    if !before.device.is_empty() {
        let device = PathBuf::from("/sys/class/net").join(&before.device);
        let next = format!("the log in {} says why", paths::ROOT_LOG_DIR);
        let left = Left::network(format!("device {}", before.device), next);
        gone(left, async || !device.exists()).await?;
        seen.push(format!("device {} and its routes are gone", before.device));
    }
    // Whatever was killed before it could put the file back: the next start does.
    let mend = "run `kdev connect`, then `kdev quit`: kdev-rootd puts the file back when it starts";
    let own = gone(Left::network("kdev's /etc/resolv.conf", mend), async || {
        let file = tokio::fs::read_to_string("/etc/resolv.conf")
            .await
            .unwrap_or_default();
        !file.lines().any(|line| line.starts_with(RESOLVER_MARK))
    });
    own.await?;
    seen.push("the resolver's file is the machine's own".to_owned());
    seen.push(daemons_left(stays).await);
    output::result(&format!("looked: {}", seen.join("; ")));
    Ok(())
}

/// Which daemons still listen, of those that this user could call.
async fn daemons_left(root_stays: bool) -> String {
    let mut left = Vec::new();
    if root_stays {
        left.push("kdev-rootd stays, as it is a system service");
    } else if listens(&paths::root_socket()).await {
        left.push("a kdev-rootd runs that was started meanwhile");
    }
    if let Some(socket) = daemons::user_socket()
        && listens(&socket).await
    {
        left.push("your kdev-userd runs still, or again");
    }
    if left.is_empty() {
        return "no daemon runs that serves you".to_owned();
    }
    left.join("; ")
}

/// Whether somebody has the socket, though he may not take calls of this user, or of anybody.
async fn listens(path: &Path) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    match socket::connect(path).await {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), NotFound | ConnectionRefused),
    }
}

/// What has to go, and what is to be said when it doesn't.
struct Left {
    what: String,
    kind: ErrorKind,
    next: String,
}

impl Left {
    fn daemon(name: &str, next: String) -> Self {
        Self {
            what: name.to_owned(),
            kind: ErrorKind::Daemon,
            next,
        }
    }

    fn network(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            kind: ErrorKind::Network,
            next: next.into(),
        }
    }
}

async fn gone(left: Left, mut check: impl AsyncFnMut() -> bool) -> Result<(), Failure> {
    let wait = async {
        while !check().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(GONE, wait).await.map_err(|_| {
        Failure::new(
            left.kind,
            "quitting left something behind",
            format!("{} is still there after {} s", left.what, GONE.as_secs()),
            left.next,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_listened_on_only_while_somebody_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert!(!listens(&path).await);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(listens(&path).await);
        drop(listener);
        assert!(!listens(&path).await);
    }
}
