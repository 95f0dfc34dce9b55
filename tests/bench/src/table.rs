//! Tables, for a terminal and for a document: Markdown is good for both.

use std::fmt::Write as _;

use crate::contender::Contender;
use crate::goals::{Limit, goals};
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

/// What was measured with one delay of some contenders: medians, and the least and the greatest. Those of whom
/// there is nothing have no column, and what nobody was measured by has no row.
pub fn figures(
    record: &Record,
    delay: u32,
    contenders: &[Contender],
    measures: &[Measure],
) -> String {
    let of = |contender, measure| record.summary(contender, delay, measure);
    let found = |contender: &&Contender| measures.iter().any(|it| of(**contender, *it).is_some());
    let there: Vec<Contender> = contenders.iter().filter(found).copied().collect();
    let mut head = vec![String::new(), "unit".to_owned()];
    head.extend(there.iter().map(|contender| contender.title().to_owned()));
    let rows: Vec<Vec<String>> = measures
        .iter()
        .filter(|measure| there.iter().any(|it| of(*it, **measure).is_some()))
        .map(|measure| {
            let mut row = vec![measure.title().to_owned(), measure.unit().to_owned()];
            row.extend(there.iter().map(|contender| {
                let summary = of(*contender, *measure);
                summary.map_or("–".to_owned(), |summary| shown(&summary))
            }));
            row
        })
        .collect();
    match rows.is_empty() {
        true => String::new(),
        false => table(&head, &rows),
    }
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
                } else {
                    match goal.must.map(|must| must.is_met(found.median)) {
                        Some(true) => "reached",
                        Some(false) => "MISSED",
                        None => "",
                    }
                }
            });
            let limit = |limit: Option<Limit>| limit.map_or(String::new(), Limit::text);
            vec![
                goal.title(),
                found.map_or("–".to_owned(), |found| number(found.median)),
                found.map_or("–".to_owned(), spread),
                limit(goal.must),
                limit(goal.aim),
                verdict.to_owned(),
            ]
        })
        .collect();
    table(&head, &rows)
}

/// Everything, one table per delay, those of requests within the cluster, and one of the goals.
pub fn all(record: &Record) -> String {
    let ways = |delay| figures(record, delay, &Contender::WAYS, &Measure::OF_WAYS);
    let mut tables: Vec<(String, String)> = record
        .delays()
        .into_iter()
        .map(|delay| (heading(delay), ways(delay)))
        .collect();
    let (intercepts, routers) = (&Contender::INTERCEPTS, &Contender::ROUTERS);
    tables.push((
        "### Requests that come to the machine".to_owned(),
        figures(record, 0, intercepts, &Measure::OF_INTERCEPTS),
    ));
    tables.push((
        "### Requests that no rule wants".to_owned(),
        figures(record, 0, routers, &Measure::OF_ROUTERS),
    ));
    let mut text = String::new();
    for (heading, table) in tables.iter().filter(|(_, table)| !table.is_empty()) {
        let _ = writeln!(text, "{heading}\n\n{table}");
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
    use crate::record::testing::{record, sample};

    #[test]
    fn a_table_has_who_was_measured_and_what_was() {
        let record = record(vec![
            sample(Contender::Pod, Measure::Requests, 0, 30_000.0),
            sample(Contender::Router1, Measure::Requests, 0, 16_000.0),
            sample(Contender::Router1, Measure::Requests, 1, 14_000.0),
            sample(Contender::Pod, Measure::Download, 0, 20.0),
        ]);
        let table = figures(&record, 0, &Contender::ROUTERS, &Measure::OF_ROUTERS);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        assert!(lines[0].contains("(f) pod") && lines[0].contains("(l) kdev, 1 rule"));
        assert!(!table.contains("nginx"), "{table}");
        assert!(
            lines[2].contains("| 30000   | 15000 (14000–16000) |"),
            "{table}"
        );
        let none = figures(&record, 20, &Contender::ROUTERS, &Measure::OF_ROUTERS);
        assert_eq!(none, "");
    }

    #[test]
    fn what_is_only_to_be_known_has_no_verdict() {
        let record = record(vec![
            sample(Contender::Pod, Measure::Download, 0, 20.0),
            sample(Contender::TakenDirect, Measure::Download, 0, 5.0),
            sample(Contender::Nginx, Measure::Requests, 0, 10.0),
            sample(Contender::Router1, Measure::Requests, 0, 9.0),
        ]);
        let table = ratios(&record);
        let row = |title: &str| table.lines().find(|line| line.contains(title)).unwrap();
        let cells = |title| row(title).split('|').map(str::trim).collect::<Vec<_>>();
        assert_eq!(
            cells("(i) ÷ (f): download")[2..7],
            ["0.25", "0.25–0.25", "", "", ""]
        );
        assert_eq!(
            cells("(l) ÷ (k): requests, 32 kept connections ")[2..7],
            ["0.90", "0.90–0.90", "≥ 1", "", "MISSED"]
        );
    }

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
