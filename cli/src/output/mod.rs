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

use kdev_proto::Failure;
use kdev_proto::v1::InterceptMode;
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

/// Shows the result. A reader that has left doesn't want the rest.
pub fn result(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
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
