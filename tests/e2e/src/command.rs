//! Running a command with a deadline, and saying what one expects of it.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::wait;

/// How long after its end a command's output may stay open.
const CLOSED: Duration = Duration::from_secs(2);

/// What came of a command.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was run.
    pub line: String,
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// Expects that it succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Expects an exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Expects a text somewhere in its output.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        let said = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(said, "doesn't say {text:?}: {self:#?}");
        self
    }

    /// Expects that it took no longer than this.
    #[track_caller]
    pub fn within(self, limit: Duration) -> Self {
        assert!(self.took <= limit, "longer than {limit:?}: {self:#?}");
        self
    }

    /// Its standard output without the white space around it.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }

    /// Its standard output's lines.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Runs a command to its end, and to the end of its output: a daemon that keeps it open is a failure.
///
/// # Panics
///
/// When it can't be started, or doesn't end in time.
#[track_caller]
pub fn run(command: &mut Command, deadline: Duration) -> Outcome {
    let line = line_of(command);
    let began = Instant::now();
    let mut child = start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let stdout = drain(child.stdout.take().expect("it is piped"));
    let stderr = drain(child.stderr.take().expect("it is piped"));
    let ended = wait::within(deadline, || {
        child.try_wait().expect("a child can be waited for")
    });
    let took = began.elapsed();
    if ended.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let said = |name: &str, text: Receiver<String>| {
        let text = text.recv_timeout(CLOSED);
        text.unwrap_or_else(|_| panic!("{line}: somebody keeps its standard {name} open"))
    };
    let (stdout, stderr) = (said("output", stdout), said("error", stderr));
    let Some(status) = ended else {
        panic!("{line}: not done after {deadline:?}\nstdout: {stdout}\nstderr: {stderr}");
    };
    Outcome {
        line,
        code: status.code().unwrap_or(-1),
        stdout,
        stderr,
        took,
    }
}

/// Starts a command that reads nothing.
///
/// # Panics
///
/// When it can't be started.
#[track_caller]
pub fn start(command: &mut Command) -> Child {
    let line = line_of(command);
    let child = command.stdin(Stdio::null()).spawn();
    child.unwrap_or_else(|error| panic!("{line} can't be started: {error}"))
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

fn drain(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}
