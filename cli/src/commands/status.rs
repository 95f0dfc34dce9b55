//! `kdev status`.

use kdev_proto::Failure;
use kdev_proto::v1::{ErrorKind, Part, RootStatusRequest, State, Status, StatusRequest};

use crate::args::Format;
use crate::{daemons, output};

/// Shows how every part is doing; asks the root daemon itself when the user's doesn't run.
///
/// # Errors
///
/// [`ErrorKind::NotConnected`] after showing it, when there is no session.
pub async fn status(format: Format) -> Result<(), Failure> {
    let status = match daemons::running_user().await? {
        Some(mut user) => user.get_status(StatusRequest {}).await?.into_inner(),
        None => without_user().await,
    };
    output::status::show(&status, format)?;
    if status.session.is_some() {
        return Ok(());
    }
    Err(Failure::new(
        ErrorKind::NotConnected,
        "this machine isn't connected",
        "there is no session",
        "run `kdev connect`",
    ))
}

async fn without_user() -> Status {
    let down = |detail: String| Part {
        state: State::Down.into(),
        since_ms: 0,
        detail,
    };
    let (rootd, root) = match daemons::running_root().await {
        Ok(Some(mut client)) => match client.get_status(RootStatusRequest {}).await {
            Ok(status) => {
                let status = status.into_inner();
                let part = Part {
                    state: State::Ok.into(),
                    since_ms: status.started_ms,
                    detail: format!("pid {}, started by {}", status.pid, status.started_by),
                };
                (part, Some(status))
            }
            Err(error) => (down(error.message().to_owned()), None),
        },
        Ok(None) => (down("not running".to_owned()), None),
        Err(failure) => (down(failure.to_string()), None),
    };
    Status {
        userd: Some(down("not running".to_owned())),
        rootd: Some(rootd),
        root,
        ..Status::default()
    }
}
