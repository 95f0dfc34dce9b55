use super::*;
use crate::testing::{any_request, any_rule, get, rule, try_rule};
use proptest::prelude::*;

#[test]
fn a_rule_is_any_of_groups_that_are_all_of_conditions() {
    let either = rule("--header x=1 --path /a --any --header x=2");
    assert!(get("/a", &[("x", "1")]).meets(&either));
    assert!(get("/b", &[("x", "2")]).meets(&either));
    assert!(!get("/b", &[("x", "1")]).meets(&either));
    assert!(!get("/a", &[]).meets(&either));
}

#[test]
fn a_rule_without_groups_is_every_request() {
    assert!(Rule::default().is_everything());
    assert!(get("*", &[]).meets(&Rule::default()));
    assert!(!rule("--path /a").is_everything());
}

#[test]
fn a_group_asks_once_for_what_a_request_has_once() {
    let twice = [
        ("--method GET --method POST", "a method"),
        ("--method GET --method GET", "a method"),
        ("--path /a --header x=1 --path /b", "a path"),
        ("--header x=1 --header X=2", "a value of the header x"),
        ("--baggage k=1 --baggage k=2", "a value of k in baggage"),
    ];
    for (flags, what) in twice {
        let what = what.to_owned();
        assert_eq!(try_rule(flags), Err(RuleError::Twice { what }), "{flags}");
    }
    assert_eq!(
        try_rule("--method GET --method POST")
            .unwrap_err()
            .to_string(),
        "a group asks twice for a method, and a request has one: write --any between them to match either"
    );
    for flags in [
        "--method GET --any --method POST",
        "--header x=1 --header y=1",
        "--header x=1 --header 'x~.*' --header 'x~1'",
        "--path /a --path-prefix /a --path-prefix / --path-regex /a --path-regex /.*",
        "--baggage k=1 --baggage j=1 --header k=1",
    ] {
        assert!(try_rule(flags).is_ok(), "{flags}");
    }
}

#[test]
fn there_are_bounds() {
    let flags = |count: usize, between: &str| {
        let one = |index| format!("--header x{index}=1");
        (0..count).map(one).collect::<Vec<_>>().join(between)
    };
    assert!(try_rule(&flags(MAX_CONDITIONS, " ")).is_ok());
    assert_eq!(
        try_rule(&flags(MAX_CONDITIONS + 1, " ")),
        Err(RuleError::TooManyConditions)
    );
    assert!(try_rule(&flags(MAX_GROUPS, " --any ")).is_ok());
    assert_eq!(
        try_rule(&flags(MAX_GROUPS + 1, " --any ")),
        Err(RuleError::TooManyGroups)
    );

    let big = |between: &str| ["--header 'x~[^a]{2000}'"; 30].join(between);
    assert_eq!(try_rule(&big(" ")), Err(RuleError::RegexesTooBig));
    assert_eq!(try_rule(&big(" --any ")), Err(RuleError::RegexesTooBig));
    assert!(try_rule(&["--header 'x~/v[0-9]+/.*'"; MAX_CONDITIONS].join(" ")).is_ok());
}

proptest! {
    #[test]
    fn a_rule_matches_what_one_of_its_groups_does(rule in any_rule(), request in any_request()) {
        let groups = rule.groups();
        let expected = request.with(|head| {
            groups.is_empty()
                || groups.iter().any(|group| !group.conditions().iter().any(|it| !it.matches(head)))
        });
        prop_assert_eq!(request.meets(&rule), expected);
    }
}
