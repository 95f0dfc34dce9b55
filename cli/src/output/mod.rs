//! What a person, or a program, gets to read.
//!
//! Results go to standard output; progress and failures to standard error, so that a pipe carries
//! nothing but the result.

pub mod services;
pub mod status;
mod table;
mod time;
pub mod versions;

use std::io::{self, Write};
use std::sync::OnceLock;

use kdev_proto::Failure;
use kdev_proto::v1::{ErrorKind, InterceptMode};
use serde::Serialize;

/// What comes with an intercept, as the command that makes it is called.
fn mode_name(mode: InterceptMode) -> &'static str {
    match mode {
        InterceptMode::Unspecified => "intercept",
        InterceptMode::Replace => "replace",
        InterceptMode::Preview => "preview",
        InterceptMode::Wiretap => "wiretap",
    }
}

/// Why a result couldn't be shown, the first time that one couldn't.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Shows the result. What was done is done whether it can be shown or not: see [`written`].
pub fn result(line: &str) {
    if let Err(error) = shown(&mut io::stdout(), line) {
        // The first failure has the reason.
        let _ = UNWRITTEN.set(error.to_string());
    }
}

/// Writes a line. A reader that has left doesn't want the rest.
fn shown(to: &mut impl Write, line: &str) -> io::Result<()> {
    match writeln!(to, "{line}").and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Whether all results could be shown.
///
/// # Errors
///
/// Why one couldn't: a command whose result is missing mustn't look like one that has none.
pub fn written() -> Result<(), Failure> {
    match UNWRITTEN.get() {
        None => Ok(()),
        Some(why) => Err(Failure::new(
            ErrorKind::Unspecified,
            "the result can't be written to standard output",
            why.as_str(),
            "what was asked for is done; send standard output where there is room",
        )),
    }
}

/// Shows what goes on.
pub fn progress(line: &str) {
    let _ = writeln!(io::stderr(), "kdev: {line}");
}

/// Shows a failure: what, why, and the next step.
pub fn failure(failure: &Failure) {
    let mut error = io::stderr();
    let _ = writeln!(error, "kdev: {}: {}", failure.what, failure.why);
    if !failure.next.is_empty() {
        let _ = writeln!(error, "  next: {}", failure.next);
    }
}

/// Shows a value as JSON.
///
/// # Errors
///
/// When it can't be written as JSON, which only a defect explains.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::internal("the result can't be written as JSON", error))?;
    result(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refuses(io::ErrorKind);

    impl Write for Refuses {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_left_is_no_failure_but_a_full_disk_is() {
        let left = shown(&mut Refuses(io::ErrorKind::BrokenPipe), "line");
        assert!(left.is_ok());
        let full = shown(&mut Refuses(io::ErrorKind::StorageFull), "line");
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
