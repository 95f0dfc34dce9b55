//! `kdev quit`.

use std::path::PathBuf;
use std::time::Duration;

use kdev_common::paths;
use kdev_proto::Failure;
use kdev_proto::v1::{
    ErrorKind, QuitRequest, RootStatus, RootStatusRequest, ShutdownRequest, StatusRequest,
};

use tonic::Code;

use super::follow;
use crate::{daemons, output};

/// How long what belongs to the session may take to go.
const GONE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);
/// Stands in a resolver file that is kdev's.
const RESOLVER_MARK: &str = "# Written by kdev";

/// Ends the session and the daemons that were started for it, then looks whether anything is left.
///
/// # Errors
///
/// What couldn't be undone, or is left.
pub async fn quit() -> Result<(), Failure> {
    let (mut root, mut others) = match daemons::running_root().await {
        Ok(root) => (root, false),
        Err(failure) => (None, failure.kind == ErrorKind::NotPermitted),
    };
    let mut before = None;
    if let Some(client) = &mut root {
        let asked = client.get_status(RootStatusRequest {});
        match daemons::answer("kdev-rootd", asked).await? {
            Ok(status) => before = Some(status),
            Err(status) => others = status.code() == Code::PermissionDenied,
        }
    }
    let mut ended = Ok(());
    match daemons::running_user().await? {
        Some(mut user) => {
            let asked = user.get_status(StatusRequest {});
            let pid = daemons::answer("kdev-userd", asked)
                .await?
                .map_or(0, |status| status.pid);
            ended = follow(user.quit(QuitRequest {}).await).await;
            gone("kdev-userd", async || !runs(pid)).await?;
        }
        None => output::progress("the user's daemon doesn't run"),
    }
    if others {
        ended?;
        return Err(Failure::new(
            ErrorKind::NotPermitted,
            "kdev-rootd isn't yours to end",
            "it serves another user; nothing of your own is left",
            "leave it to them",
        ));
    }
    let stays = match root {
        Some(mut client) => {
            !client
                .shutdown(ShutdownRequest {})
                .await?
                .into_inner()
                .ending
        }
        None => false,
    };
    let before = before.unwrap_or_default();
    if !stays {
        gone("kdev-rootd", async || !runs(before.pid)).await?;
    }
    prove(before, stays).await?;
    ended
}

/// Looks at the machine itself, not at what the daemons say of it.
async fn prove(before: RootStatus, stays: bool) -> Result<(), Failure> {
    let mut seen = Vec::new();
    if !before.device.is_empty() {
        let device = PathBuf::from("/sys/class/net").join(&before.device);
        gone(&format!("device {}", before.device), async || {
            !device.exists()
        })
        .await?;
        seen.push(format!("device {} and its routes are gone", before.device));
    }
    let own = gone("kdev's /etc/resolv.conf", async || {
        let file = tokio::fs::read_to_string("/etc/resolv.conf")
            .await
            .unwrap_or_default();
        !file.lines().any(|line| line.starts_with(RESOLVER_MARK))
    });
    // Whatever was killed before it could put the file back: the next start does.
    let mend = "run `kdev connect`, then `kdev quit`: kdev-rootd puts the file back when it starts";
    own.await.map_err(|failure| failure.with_next(mend))?;
    seen.push("the resolver's file is the machine's own".to_owned());
    seen.push(if stays {
        "kdev-rootd stays, as it is a system service".to_owned()
    } else {
        "no daemon runs".to_owned()
    });
    output::result(&format!("looked: {}", seen.join("; ")));
    Ok(())
}

/// Whether there is such a process; one that nobody has waited for yet has ended all the same.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // "PID (NAME) STATE …", where the name may hold anything.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

async fn gone(what: &str, mut check: impl AsyncFnMut() -> bool) -> Result<(), Failure> {
    let wait = async {
        while !check().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(GONE, wait).await.map_err(|_| {
        Failure::new(
            ErrorKind::Network,
            "quitting left something behind",
            format!("{what} is still there after {} s", GONE.as_secs()),
            format!("the log in {} says why", paths::ROOT_LOG_DIR),
        )
    })
}
