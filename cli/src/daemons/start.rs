//! Starting the daemons that don't run.

use std::ffi::OsStr;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use kdev_common::logging::FILTER_VARIABLE;
use kdev_common::{detach, paths, socket};
use kdev_proto::Failure;
use kdev_proto::v1::ErrorKind;
use nix::unistd::Uid;
use tokio::process::Command;

use super::{LOOK, Root, User, running_root, running_user, user_dirs, user_log};
use crate::output;

/// How long a daemon may take to start.
const START: Duration = Duration::from_secs(10);
/// Bytes of what a daemon says before it ends.
const SAID: u64 = 16 << 10;
const SERVICE: &str = "kdev-rootd.service";
/// How `kdev-rootd launch` begins what it says on standard error.
const OF_THE_DAEMON: &str = "kdev-rootd: ";

/// Starts the user's daemon.
///
/// # Errors
///
/// Why it doesn't serve, in its own words if it has ended.
pub async fn user() -> Result<User, Failure> {
    let program = program("kdev-userd")?;
    let socket = user_dirs()?.socket();
    // A daemon that ended is left as a zombie only until this command exits.
    let mut child = detach::spawn(&program, &[], None, Stdio::piped())
        .map_err(|error| start_failure("kdev-userd", &error))?;
    tokio::select! {
        biased;
        () = listens(&socket) => {}
        failure = failed(&mut child) => return Err(failure),
        () = tokio::time::sleep(START) => return Err(silent("kdev-userd", user_log())),
    }
    running_user()
        .await?
        .ok_or_else(|| silent("kdev-userd", user_log()))
}

/// Starts the root daemon.
///
/// # Errors
///
/// Why it doesn't serve.
pub async fn root() -> Result<Root, Failure> {
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
    let log = || format!("its log is in {}", paths::ROOT_LOG_DIR);
    tokio::time::timeout(START, listens(&paths::root_socket()))
        .await
        .map_err(|_| silent("kdev-rootd", log()))?;
    running_root()
        .await?
        .ok_or_else(|| silent("kdev-rootd", log()))
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

/// Waits until a daemon listens.
async fn listens(socket: &Path) {
    while socket::call(socket)
        .await
        .is_err_and(|error| error.nobody_listens())
    {
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until a daemon that can't go on has ended. One that ends well has found that another one serves.
async fn failed(child: &mut Child) -> Failure {
    loop {
        match child.try_wait() {
            Ok(Some(status)) if !status.success() => return ended(child, status),
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

/// What a daemon has said that ended before it served.
fn ended(child: &mut Child, status: ExitStatus) -> Failure {
    let mut said = String::new();
    if let Some(error) = &mut child.stderr {
        // Whatever can be read: there is no more to be had.
        let _ = error.take(SAID).read_to_string(&mut said);
    }
    let said = match said.trim() {
        "" => status.to_string(),
        said => said.to_owned(),
    };
    Failure::new(
        ErrorKind::Daemon,
        "kdev-userd can't run",
        said,
        format!(
            "its files are where HOME and XDG_RUNTIME_DIR say, which you have to be able to write to; {}",
            user_log()
        ),
    )
}

fn silent(name: &str, log: String) -> Failure {
    Failure::new(
        ErrorKind::Daemon,
        format!("{name} was started but doesn't answer"),
        format!("nothing listens after {} s", START.as_secs()),
        log,
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
