use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::testing::{any_rule, rule, single_valued};

/// How two rules overlap, printed; the same both ways round.
fn overlapping(one: &str, other: &str) -> Option<String> {
    let (one, other) = (rule(one), rule(other));
    let found = overlap(&one, &other);
    let turned = overlap(&other, &one);
    assert_eq!(found.is_some(), turned.is_some(), "{one} against {other}");
    for found in found.iter().chain(&turned) {
        if let Overlap::Example(witness) = found {
            assert!(one.matches(&witness.head()), "{one} on {witness}");
            assert!(other.matches(&witness.head()), "{other} on {witness}");
        }
    }
    found.map(|found| found.to_string())
}

#[test]
fn rules_conflict_when_a_request_matches_both() {
    let conflicts = [
        ("", "", "GET /"),
        ("", "--header x=1", "GET / with x: 1"),
        ("--header x=1", "--header x=1", "GET / with x: 1"),
        ("--header x=1", "--header y=2", "GET / with x: 1 and y: 2"),
        ("--header x=1", "--method POST", "POST / with x: 1"),
        ("--header x=ann", "--header 'x~a.*'", "GET / with x: ann"),
        ("--header 'x~a.*'", "--header 'x~.*n'", "GET / with x: an"),
        (
            "--header 'x~.+'",
            "--header 'x~[^a]+' --path /p",
            "GET /p with x: b",
        ),
        ("--path /a/b", "--path-prefix /a", "GET /a/b"),
        ("--path-prefix /a", "--path-prefix /a/b/", "GET /a/b"),
        ("--path-prefix /", "--path-prefix /a", "GET /a"),
        ("--path-prefix /a", "--path-regex '.*/b'", "GET /a/b"),
        ("--path-regex '/a.*'", "--path-regex '.*b'", "GET /ab"),
        (
            "--path /a --any --header x=1",
            "--path /b --any --header x=1",
            "GET /a with x: 1",
        ),
        (
            "--path /a",
            "--path /b --any --header x=1",
            "GET /a with x: 1",
        ),
        ("--baggage k=1", "--baggage k=1", "GET / with baggage: k=1"),
        (
            "--baggage k=1",
            "--baggage 'j=a b'",
            "GET / with baggage: j=a%20b,k=1",
        ),
        (
            "--baggage k=1",
            "--baggage a@b=1",
            "GET / with baggage: k=1 and tracestate: a@b=1",
        ),
        (
            "--baggage k=1",
            "--header k=2",
            "GET / with k: 2 and baggage: k=1",
        ),
        (
            "--baggage k=1",
            "--header tracestate=j=1",
            "GET / with tracestate: j=1 and baggage: k=1",
        ),
        (
            "--header host=web",
            "--header 'host~w.*'",
            "GET / with host: web",
        ),
    ];
    for (one, other, example) in conflicts {
        let expected = Some(format!("both match {example}"));
        assert_eq!(overlapping(one, other), expected, "{one} against {other}");
    }
}

#[test]
fn rules_are_apart_when_no_request_matches_both() {
    let apart = [
        ("--header x=1", "--header x=2"),
        ("--header x=1 --header y=1", "--header x=2 --header y=1"),
        ("--header x=1", "--header 'x~[^1]*'"),
        ("--header 'x~a.*'", "--header 'x~b.*'"),
        ("--header 'x~(?:aa)+'", "--header 'x~a(?:aa)*'"),
        ("--header x=1 --header 'y~a'", "--header 'y~b'"),
        ("--method GET", "--method POST"),
        ("--path /a", "--path /b"),
        ("--path /a", "--path /a/"),
        ("--path /ab", "--path-prefix /a"),
        ("--path-prefix /a", "--path-prefix /ab"),
        ("--path-prefix /a", "--path-regex '/b.*'"),
        ("--path-prefix /a", "--path-regex '/ab.*'"),
        ("--baggage k=1", "--baggage k=2"),
        ("--baggage k=1 --baggage j=1", "--baggage k=1 --baggage j=2"),
        ("--path /a --any --path /b", "--path /c --any --path /d"),
        // Values are without spaces around them, and paths end before the query.
        ("--header 'x~ .*'", ""),
        ("--header 'x~.+ '", ""),
        (r"--header 'x~.*\n.*'", ""),
        (r"--path-regex '/.*[?].*'", ""),
        ("--path-regex '[^/].*'", ""),
        // What can't be told apart is apart all the same when something else is.
        (
            "--baggage k=1 --method GET",
            "--header baggage=k=1 --method POST",
        ),
        (
            "--header 'x~(?:a|b)*a(?:a|b){20}' --header 'y~a'",
            "--header 'x~b*' --header 'y~b'",
        ),
    ];
    for (one, other) in apart {
        assert_eq!(overlapping(one, other), None, "{one} against {other}");
    }
}

#[test]
fn rules_that_cannot_be_told_apart_conflict() {
    let baggage = Undecided::BaggageHeader.to_string();
    let complex = Undecided::TooComplex.to_string();
    let conflicts = [
        ("--baggage k=1", "--header baggage=k=1", &baggage),
        ("--baggage k=1", "--header 'baggage~.*k=2.*'", &baggage),
        ("--baggage a@b=1", "--header tracestate=a@b=1", &baggage),
        (
            "--header 'x~(?:a|b)*a(?:a|b){20}'",
            "--header 'x~b*'",
            &complex,
        ),
        // An example elsewhere says more.
        (
            "--header 'x~(?:a|b)*a(?:a|b){20}' --any --path /a",
            "--header 'x~b*' --path /b --any --path /a",
            &"both match GET /a".to_owned(),
        ),
    ];
    for (one, other, why) in conflicts {
        assert_eq!(
            overlapping(one, other).as_ref(),
            Some(why),
            "{one} against {other}"
        );
    }
}

#[test]
fn a_request_with_two_values_of_a_header_is_not_thought_of() {
    let (one, other) = (rule("--header x=1"), rule("--header x=2"));
    let both = crate::testing::get("/", &[("x", "1"), ("x", "2")]);
    assert!(both.meets(&one) && both.meets(&other));
    assert_eq!(overlap(&one, &other), None);
}

#[test]
fn examples_show_odd_bytes_escaped() {
    let found = overlapping(r"--header 'x~\xff'", "");
    assert_eq!(found.unwrap(), r"both match GET / with x: \xff");
}

proptest! {
    #[test]
    fn overlaps_have_an_example_and_what_is_apart_has_none(one in any_rule(), other in any_rule()) {
        match overlap(&one, &other) {
            Some(Overlap::Example(witness)) => {
                prop_assert!(one.matches(&witness.head()), "{} on {}", one, witness);
                prop_assert!(other.matches(&witness.head()), "{} on {}", other, witness);
            }
            Some(Overlap::Undecided(why)) => {
                prop_assert_eq!(why, Undecided::BaggageHeader);
                let flags = format!("{one} {other}");
                let whole = ["--header baggage=", "--header 'baggage="];
                prop_assert!(whole.iter().any(|header| flags.contains(header)), "{}", flags);
            }
            None => {
                let mut found = None;
                single_valued(|request| {
                    if request.meets(&one) && request.meets(&other) {
                        found = Some(request.clone());
                        return ControlFlow::Break(());
                    }
                    ControlFlow::Continue(())
                });
                prop_assert!(found.is_none(), "{} and {} match {:?}", one, other, found);
            }
        }
    }
}
