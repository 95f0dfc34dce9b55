use proptest::prelude::*;

use super::*;
use crate::testing::{any_request, any_rule, get, rule};

fn table(rules: &[&str]) -> Table<usize> {
    let rules = rules.iter().enumerate();
    rules.map(|(index, flags)| (rule(flags), index)).collect()
}

#[test]
fn the_first_rule_that_matches_has_the_request() {
    let table = table(&[
        "--header x=1 --path /a",
        "--header 'x~[12]'",
        "--header x=1",
        "--path /a --any --header x=3",
        "--header x=3 --any --baggage k=1",
        "--path-prefix /b",
    ]);
    let cases = [
        (get("/a", &[("x", "1")]), Some(0)),
        (get("/", &[("x", "1")]), Some(1)),
        (get("/a", &[("x", "3")]), Some(3)),
        (get("/", &[("x", "3")]), Some(3)),
        (get("/", &[("x", "3"), ("x", "2")]), Some(1)),
        (get("/", &[("baggage", "k=1")]), Some(4)),
        (get("/a", &[("baggage", "k=1")]), Some(3)),
        (get("/b/c", &[("x", "4")]), Some(5)),
        (get("/c", &[("x", "4")]), None),
    ];
    for (request, expected) in cases {
        let found = request.with(|head| table.route(head).copied());
        assert_eq!(found, expected, "{request:?}");
    }
}

#[test]
fn a_rule_of_every_request_has_what_no_earlier_one_has() {
    let table = table(&["--header x=1", "", "--header x=2", ""]);
    let whose = |value| get("/", &[("x", value)]).with(|head| table.route(head).copied());
    assert_eq!(whose("1"), Some(0));
    assert_eq!(whose("2"), Some(1));
    assert_eq!(whose("3"), Some(1));
}

#[test]
fn a_table_without_rules_has_no_request() {
    let empty = Table::<()>::new();
    assert!(empty.is_empty());
    assert!(get("/", &[]).with(|head| empty.route(head).is_none()));
}

#[test]
fn rules_are_kept_in_their_order() {
    let table = table(&["--path /a", "--path /b"]);
    let kept = table.iter().map(|(rule, whose)| (rule.to_string(), *whose));
    assert_eq!(
        kept.collect::<Vec<_>>(),
        [("--path /a".to_owned(), 0), ("--path /b".to_owned(), 1)]
    );
    assert_eq!(table.len(), 2);
}

#[test]
fn with_many_rules_of_one_header_only_one_is_compared() {
    let flags = (0..250).map(|user| format!("--header x-team=blue --header x-user=u{user}"));
    let rules: Vec<_> = flags.map(|flags| rule(&flags)).collect();
    let table: Table<usize> = rules.into_iter().zip(0..).collect();
    // The first is filed under its team, as good as any; those after it where nothing is yet.
    let filed = |name: &str| &table.headers[&name.parse::<HeaderName>().unwrap()];
    assert!(
        filed("x-team")
            .values()
            .chain(filed("x-user").values())
            .all(|it| it.len() == 1)
    );
    assert!(table.others.is_empty());
    let request = get("/", &[("x-user", "u249"), ("x-team", "blue")]);
    assert_eq!(request.with(|head| table.route(head).copied()), Some(249));
}

proptest! {
    #[test]
    fn a_table_finds_what_a_scan_finds(
        rules in prop::collection::vec(any_rule(), 0..12),
        requests in prop::collection::vec(any_request(), 1..20),
    ) {
        let table: Table<usize> = rules.iter().cloned().zip(0..).collect();
        for request in requests {
            let scanned = rules.iter().position(|rule| request.meets(rule));
            let found = request.with(|head| table.route(head).copied());
            prop_assert_eq!(found, scanned, "{:?}", request);
        }
    }
}
