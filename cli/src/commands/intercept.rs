//! `kdev intercept`, its sisters, and `kdev leave`.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use kdev_common::{loopback, tied};
use kdev_proto::Failure;
use kdev_proto::v1::{
    ErrorKind, InterceptMode, InterceptPort, InterceptRequest, LeaveRequest, PreviewRequest,
    Progress,
};
use kdev_rules::Rule;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tonic::Streaming;

use super::{follow, until_done};
use crate::args::{
    InterceptArgs, LeaveArgs, PreviewArgs, ReplaceArgs, TakeArgs, WhichArgs, WiretapArgs,
};
use crate::daemons::{self, User};
use crate::mark::Mark;
use crate::output;
use crate::ports::{Ports, Protocol};

/// How long a program that kdev started may take until it listens.
const LISTENS: Duration = Duration::from_secs(60);
/// After so long it is said what is waited for.
const NOTICE: Duration = Duration::from_secs(3);
/// Between two looks at whether it does: another process's socket can't be waited for.
const LOOK: Duration = Duration::from_millis(50);

/// What is to come here, and how.
struct Wanted {
    take: TakeArgs,
    /// The JSON of the rule; empty for every connection.
    rule: String,
    mode: InterceptMode,
    take_over: bool,
    pass_if_down: bool,
    /// What is to be said once it works.
    hint: Option<String>,
}

/// What this call has made.
struct Made {
    /// The id of all of it.
    id: String,
    /// Of the call, which goes on where there is a program: what was made for it is there as long as somebody reads them.
    /// `None` once nothing more comes.
    lines: Option<Streaming<Progress>>,
}

/// What became of what was made, without this command.
enum Over {
    /// The daemon doesn't have it any more.
    Left,
    /// The daemon is gone.
    Lost,
}

impl Made {
    /// Waits until it is over, and says why. Cancel safe.
    async fn over(&mut self) -> Over {
        let Some(lines) = &mut self.lines else {
            return std::future::pending().await;
        };
        loop {
            match lines.message().await {
                Ok(Some(progress)) => {
                    output::progress(&progress.line);
                    if progress.done {
                        self.lines = None;
                        return Over::Left;
                    }
                }
                // It isn't held, so that it is left at the end.
                Ok(None) => {
                    self.lines = None;
                    return std::future::pending().await;
                }
                Err(_) => {
                    self.lines = None;
                    output::progress(
                        "note: kdev's daemon is gone, and nothing comes here any more",
                    );
                    return Over::Lost;
                }
            }
        }
    }
}

/// Intercepts a service; the exit code is that of the program, if there is one.
///
/// # Errors
///
/// What is in the way; nothing that this call has intercepted is then left so.
pub async fn intercept(args: InterceptArgs) -> Result<u8, Failure> {
    let (rule, hint) = rule(&args.take, &args.which)?;
    run(Wanted {
        take: args.take,
        rule,
        mode: InterceptMode::Unspecified,
        take_over: args.take_over,
        pass_if_down: args.if_down == "pass",
        hint,
    })
    .await
}

/// Has a copy of what a service gets come here.
///
/// # Errors
///
/// See [`intercept`].
pub async fn wiretap(args: WiretapArgs) -> Result<u8, Failure> {
    let (rule, hint) = rule(&args.take, &args.which)?;
    run(Wanted {
        take: args.take,
        rule,
        mode: InterceptMode::Wiretap,
        take_over: false,
        pass_if_down: false,
        hint,
    })
    .await
}

/// The JSON of the rule that is meant, empty for every connection; and how to send one's own mark.
fn rule(take: &TakeArgs, which: &WhichArgs) -> Result<(String, Option<String>), Failure> {
    let mark = which.mine.then(Mark::of_user);
    let rule = match &mark {
        Some(mark) => mark
            .rule()
            .map_err(|error| Failure::internal("there is no mark", error))?,
        None => which.rule.rule()?,
    };
    let host = match &take.namespace {
        Some(namespace) => format!("{}.{namespace}", take.service),
        None => take.service.clone(),
    };
    let hint = mark.map(|mark| mark.how_to(&host));
    Ok((json(&rule)?, hint))
}

/// As the daemon reads it; empty for every connection.
fn json(rule: &Rule) -> Result<String, Failure> {
    if rule.is_everything() {
        return Ok(String::new());
    }
    rule.to_json()
        .map_err(|error| Failure::internal("the rule can't be sent", error))
}

/// Intercepts a service, and scales what is behind it to zero.
///
/// # Errors
///
/// See [`intercept`].
pub async fn replace(args: ReplaceArgs) -> Result<u8, Failure> {
    run(Wanted {
        take: args.take,
        rule: String::new(),
        mode: InterceptMode::Replace,
        take_over: args.take_over,
        // Which the daemon refuses.
        pass_if_down: args.if_down == "pass",
        hint: None,
    })
    .await
}

/// Makes a service that leads here.
///
/// # Errors
///
/// See [`intercept`].
pub async fn preview(args: PreviewArgs) -> Result<u8, Failure> {
    run(Wanted {
        take: args.take,
        rule: String::new(),
        mode: InterceptMode::Preview,
        take_over: false,
        pass_if_down: false,
        hint: None,
    })
    .await
}

/// Takes one port or several, for the life of a program if there is one; its exit code.
async fn run(wanted: Wanted) -> Result<u8, Failure> {
    let args = &wanted.take;
    let mut user = daemons::connected_user().await?;
    let mut signals = Signals::listen().map_err(|error| {
        Failure::internal("the signals that end a command can't be heard", error)
    })?;
    let mut child = match args.command.split_first() {
        Some((program, words)) => Some(start(program, words)?),
        None => None,
    };
    let mut made = None;
    let set_up = async {
        // What the pods stand in for may come later.
        if let Some(child) = child.as_mut().filter(|_| !wanted.pass_if_down) {
            for ports in &args.port {
                listens(child, &args.command[0], ports).await?;
            }
        }
        made = Some(all(&mut user, &wanted).await?);
        if let Some(hint) = &wanted.hint {
            output::progress(hint);
        }
        Ok(())
    };
    let set_up = tokio::select! {
        set_up = set_up => set_up.map(|()| None),
        // What is under way is given back by the daemon, which sees that nobody waits for it.
        sent = signals.next() => Ok(Some(sent)),
    };
    match (set_up, child) {
        (Ok(None), None) => Ok(0),
        (Ok(None), Some(mut child)) => {
            let (ended, made) = attend(&mut child, &mut signals, made).await;
            leave_made(&mut user, &wanted, made).await?;
            ended
                .map(exit_code)
                .map_err(|error| Failure::internal("the program was lost sight of", error))
        }
        (broken_off, child) => {
            if let Some(mut child) = child {
                end(&mut child).await;
            }
            if let Err(left) = leave_made(&mut user, &wanted, made).await {
                output::failure(&left);
            }
            broken_off.map(|sent| sent.map_or(0, |sent| signalled(sent as i32)))
        }
    }
}

/// Leaves a service, or one port of it.
///
/// # Errors
///
/// When it isn't intercepted, or isn't restored in time.
pub async fn leave(args: LeaveArgs) -> Result<(), Failure> {
    let rule = json(&args.rule.rule()?)?;
    let request = LeaveRequest {
        service: args.service,
        namespace: args.namespace.unwrap_or_default(),
        port: args.port.unwrap_or_default(),
        rule: (!rule.is_empty()).then_some(rule),
        id: String::new(),
    };
    follow(daemons::connected_user().await?.leave(request).await).await
}

/// Takes all ports.
async fn all(user: &mut User, wanted: &Wanted) -> Result<Made, Failure> {
    let args = &wanted.take;
    let namespace = args.namespace.clone().unwrap_or_default();
    let ports = args.port.iter().map(|ports| InterceptPort {
        local_port: ports.local.into(),
        port: ports.query(),
    });
    let ports = ports.collect();
    let held_by_caller = !args.command.is_empty();
    let call = match wanted.mode {
        InterceptMode::Preview => {
            let request = PreviewRequest {
                service: args.service.clone(),
                namespace,
                ports,
                held_by_caller,
            };
            user.preview(request).await
        }
        mode => {
            let request = InterceptRequest {
                service: args.service.clone(),
                namespace,
                ports,
                rule: wanted.rule.clone(),
                mode: mode.into(),
                take_over: wanted.take_over,
                pass_if_down: wanted.pass_if_down,
                held_by_caller,
            };
            user.intercept(request).await
        }
    };
    let mut lines = call?.into_inner();
    let id = until_done(&mut lines).await?.intercept;
    Ok(Made {
        id,
        lines: Some(lines),
    })
}

/// Leaves what this call has made, and nothing else that the session has of the Service.
async fn leave_made(user: &mut User, wanted: &Wanted, made: Option<Made>) -> Result<(), Failure> {
    /// How long it may take to hear that somebody else has left it just now.
    const OVER: Duration = Duration::from_secs(1);
    let Some(mut made) = made else {
        return Ok(());
    };
    let request = LeaveRequest {
        service: wanted.take.service.clone(),
        namespace: wanted.take.namespace.clone().unwrap_or_default(),
        id: made.id.clone(),
        ..LeaveRequest::default()
    };
    match follow(user.leave(request).await).await {
        Err(_) if tokio::time::timeout(OVER, made.over()).await.is_ok() => Ok(()),
        left => left,
    }
}

fn start(program: &OsString, words: &[OsString]) -> Result<Child, Failure> {
    let mut command = Command::new(program);
    command.args(words).kill_on_drop(true);
    // This runs on the only thread, so that it is told whatever ends the process.
    tied::tie(command.as_std_mut());
    command.spawn().map_err(|error| {
        Failure::new(
            ErrorKind::Usage,
            format!("can't start {}", program.display()),
            error.to_string(),
            "give a program behind `--`, with a path or in PATH",
        )
    })
}

/// Waits until the program listens on its port, of whichever protocol unless that was said.
async fn listens(child: &mut Child, program: &OsString, ports: &Ports) -> Result<(), Failure> {
    let port = ports.local;
    let tcp = async || loopback::listener(port).await.is_some();
    let udp = async || loopback::receiver(port).await.is_some();
    let looked = async || match ports.protocol {
        Some(Protocol::Tcp) => tcp().await,
        Some(Protocol::Udp) => udp().await,
        None => tcp().await || udp().await,
    };
    let listens = async {
        while !looked().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    let notice = async {
        tokio::time::sleep(NOTICE).await;
        output::progress(&format!(
            "waiting until {} listens on port {port} of this machine",
            program.display()
        ));
        std::future::pending().await
    };
    let why = tokio::select! {
        () = listens => return Ok(()),
        never = notice => never,
        ended = child.wait() => match ended {
            Ok(status) => format!("it ended before ({status})"),
            Err(error) => error.to_string(),
        },
        () = tokio::time::sleep(LISTENS) => format!("it doesn't after {} s", LISTENS.as_secs()),
    };
    Err(Failure::new(
        ErrorKind::LocalPort,
        format!(
            "{} has to listen on port {port} of this machine",
            program.display()
        ),
        why,
        "name the port that it listens on: --port LOCAL[:PORT]",
    ))
}

/// What ends a command.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one. Cancel safe.
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.quit.recv() => Signal::SIGQUIT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.hang_up.recv() => Signal::SIGHUP,
        }
    }
}

/// Waits until the program has ended. What a terminal sends goes to it as well, and it decides what
/// comes of it; what is sent to this process alone is handed on. When what was made for it is left elsewhere, it is
/// told to end.
async fn attend(
    child: &mut Child,
    signals: &mut Signals,
    mut made: Option<Made>,
) -> (std::io::Result<ExitStatus>, Option<Made>) {
    loop {
        let over = async {
            match &mut made {
                Some(made) => made.over().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = child.wait() => return (ended, made),
            over = over => {
                made = None;
                match over {
                    Over::Left => hand_on(child, Signal::SIGTERM),
                    Over::Lost => output::progress("note: the program goes on"),
                }
            }
            sent = signals.next() => {
                let from_terminal = matches!(sent, Signal::SIGINT | Signal::SIGQUIT)
                    && std::io::stdin().is_terminal();
                if !from_terminal {
                    hand_on(child, sent);
                }
            }
        }
    }
}

fn hand_on(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid {
        // It may have ended just now.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Ends a program whose intercept didn't come about.
async fn end(child: &mut Child) {
    const PATIENCE: Duration = Duration::from_secs(5);
    hand_on(child, Signal::SIGTERM);
    if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
        // What doesn't hear either is killed when it is dropped.
        let _ = child.start_kill();
    }
}

/// As a shell has it.
fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(1),
        (None, Some(signal)) => signalled(signal),
        (None, None) => 1,
    }
}

/// The exit code of what a signal has ended: 128 more than its number.
fn signalled(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_exit_code_is_what_a_shell_shows() {
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }
}
