//! Tables, for a terminal and for a document: Markdown is good for both.

use std::fmt::Write as _;

use crate::contender::Contender;
use crate::goals::goals;
use crate::measure::Measure;
use crate::record::{Record, Summary};

/// A table with aligned columns.
pub fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = std::iter::once(head).chain(rows.iter().map(Vec::as_slice));
        cells
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..head.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let line = |cells: &[String]| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!(" {cell:<width$} |"));
        format!("|{}\n", padded.collect::<String>())
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let body: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{}{body}", line(head), line(&rule))
}

/// Everything that was measured with one delay: medians, and the least and the greatest.
pub fn figures(record: &Record, delay: u32) -> String {
    let contenders = Contender::ALL.into_iter();
    let there: Vec<Contender> = contenders
        .filter(|contender| {
            let mut samples = record.samples.iter();
            samples.any(|sample| sample.contender == *contender && sample.delay == delay)
        })
        .collect();
    let mut head = vec![String::new(), "unit".to_owned()];
    head.extend(there.iter().map(|contender| contender.title().to_owned()));
    let measures = Measure::ALL.into_iter();
    let rows: Vec<Vec<String>> = measures
        .filter(|measure| record.has(delay, *measure))
        .map(|measure| {
            let mut row = vec![measure.title().to_owned(), measure.unit().to_owned()];
            row.extend(there.iter().map(|contender| {
                let summary = record.summary(*contender, delay, measure);
                summary.map_or("–".to_owned(), |summary| shown(&summary))
            }));
            row
        })
        .collect();
    table(&head, &rows)
}

/// What was to be reached, and what was.
pub fn ratios(record: &Record) -> String {
    let head = ["measure", "median", "min–max", "must", "aim", ""].map(str::to_owned);
    let rows: Vec<Vec<String>> = goals()
        .iter()
        .map(|goal| {
            let found = goal.found(record);
            let spread = |found: Summary| format!("{}–{}", number(found.min), number(found.max));
            let verdict = found.map_or("not measured", |found| {
                if goal.aim.is_some_and(|aim| aim.is_met(found.median)) {
                    "aim reached"
                } else if goal.must.is_met(found.median) {
                    "reached"
                } else {
                    "MISSED"
                }
            });
            vec![
                goal.title(),
                found.map_or("–".to_owned(), |found| number(found.median)),
                found.map_or("–".to_owned(), spread),
                goal.must.text(),
                goal.aim.map_or(String::new(), |aim| aim.text()),
                verdict.to_owned(),
            ]
        })
        .collect();
    table(&head, &rows)
}

/// Everything, one table per delay and one of the goals.
pub fn all(record: &Record) -> String {
    let mut text = String::new();
    for delay in record.delays() {
        let _ = writeln!(text, "{}\n\n{}", heading(delay), figures(record, delay));
    }
    let _ = writeln!(text, "### Ratios and limits\n\n{}", ratios(record));
    for (contender, why) in &record.absent {
        let _ = writeln!(text, "{contender} took no part: {why}.\n");
    }
    for failure in &record.failures {
        let _ = writeln!(
            text,
            "Failed: {}, {} ms, repetition {}: {}\n",
            failure.contender, failure.delay, failure.repetition, failure.what
        );
    }
    text
}

fn heading(delay: u32) -> String {
    match delay {
        0 => "### Without delay".to_owned(),
        delay => format!("### {delay} ms round-trip delay"),
    }
}

fn shown(summary: &Summary) -> String {
    if summary.count == 1 {
        return number(summary.median);
    }
    let (min, max) = (number(summary.min), number(summary.max));
    format!("{} ({min}–{max})", number(summary.median))
}

/// Three digits that matter.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let head: Vec<String> = words(&["a", "b"]);
        let text = table(&head, &[words(&["µs", "1"]), words(&["x", "100"])]);
        assert_eq!(
            text,
            "| a  | b   |\n| -- | --- |\n| µs | 1   |\n| x  | 100 |\n"
        );
    }

    #[test]
    fn numbers_have_three_digits_that_matter() {
        assert_eq!(
            [0.123, 1.234, 12.34, 1234.5].map(number),
            ["0.12", "1.23", "12.3", "1234"]
        );
    }
}
