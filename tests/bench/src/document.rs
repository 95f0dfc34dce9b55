//! The part of `docs/benchmarks.md` that is made of a record.

use std::fmt::Write as _;

use anyhow::Context as _;

use crate::record::Record;
use crate::table;

const BEGIN: &str = "<!-- made by `kdev-bench render`, from here -->";
const END: &str = "<!-- to here -->";

/// Puts a record's figures into a document, between its two marks.
///
/// # Errors
///
/// When it has no marks.
pub fn renew(document: &str, record: &Record) -> anyhow::Result<String> {
    let (before, rest) = document
        .split_once(BEGIN)
        .context("no mark where figures begin")?;
    let (_, after) = rest.split_once(END).context("no mark where figures end")?;
    Ok(format!(
        "{before}{BEGIN}\n\n{}{END}{after}",
        figures(record)
    ))
}

fn figures(record: &Record) -> String {
    let mut text = String::new();
    let machine = &record.machine;
    let _ = writeln!(text, "| machine | |\n|---|---|");
    let processors = machine.processors;
    let _ = writeln!(
        text,
        "| processor | {}, {processors} processors |",
        machine.processor
    );
    let _ = writeln!(text, "| memory | {} MB |", machine.memory);
    let _ = writeln!(
        text,
        "| system | {}, Linux {} |",
        machine.system, machine.kernel
    );
    let _ = writeln!(text, "| load averages before | {} |", machine.load_before);
    let _ = writeln!(
        text,
        "| date, commit | {} UTC, {} |",
        machine.date, machine.commit
    );
    let settings = &record.settings;
    let repetitions = settings.repetitions.iter();
    let repetitions: Vec<String> = repetitions
        .map(|(delay, count)| format!("{count} at {delay} ms"))
        .collect();
    let _ = writeln!(text, "| repetitions | {} |", repetitions.join(", "));
    let _ = writeln!(
        text,
        "| a transfer or loop counts for | {} ms |",
        settings.time
    );
    let _ = writeln!(text, "| idle connections | {} |", settings.idle_connections);
    let _ = writeln!(text, "| the run took | {:.0} s |\n", record.took);
    text + &table::all(record)
}
