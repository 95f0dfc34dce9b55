use proptest::prelude::*;

use super::*;
use crate::testing::{any_rule, rule, try_rule};

/// What the condition is, and what it prints as.
fn read(flag: Flag, text: &str) -> String {
    Condition::typed(flag, text).unwrap().to_string()
}

fn refused(flag: Flag, text: &str) -> String {
    Condition::typed(flag, text).unwrap_err().to_string()
}

#[test]
fn the_first_separator_says_value_or_regex() {
    let cases = [
        ("x-user=ann", "--header x-user=ann"),
        ("X-User = ann ", "--header x-user=ann"),
        ("x-user=", "--header x-user="),
        ("x-user=a=b", "--header x-user=a=b"),
        ("x-user=~ann", "--header 'x-user=~ann'"),
        ("x-user~a=b", "--header 'x-user~a=b'"),
        ("x-user~^a.*", "--header 'x-user~^a.*'"),
        ("x-user~", "--header 'x-user~'"),
        ("x-user=Ann's", r"--header 'x-user=Ann'\''s'"),
        ("x-user=a\tb", "--header 'x-user=a\tb'"),
        ("x-user=é", "--header 'x-user=é'"),
        ("-x=1", "--header=-x=1"),
    ];
    for (text, printed) in cases {
        assert_eq!(read(Flag::Header, text), printed);
    }
    let cases = [
        (Flag::Baggage, "user=Ann Lee", "--baggage 'user=Ann Lee'"),
        (Flag::Baggage, "user= a=b", "--baggage 'user= a=b'"),
        (Flag::Baggage, "acme@shop=1", "--baggage acme@shop=1"),
        (Flag::Path, "/a", "--path /a"),
        (Flag::Path, "/{a}|^b", "--path '/{a}|^b'"),
        (Flag::PathPrefix, "/a/", "--path-prefix /a/"),
        (Flag::PathRegex, "/a|/b", "--path-regex '/a|/b'"),
        (Flag::PathRegex, "", "--path-regex ''"),
        (Flag::Method, "GET", "--method GET"),
    ];
    for (flag, text, printed) in cases {
        assert_eq!(read(flag, text), printed);
    }
}

#[test]
fn what_is_refused_says_why_and_what_to_write_instead() {
    let cases = [
        (
            Flag::Header,
            "x-user",
            "header \"x-user\" doesn't say which values match: write x-user=VALUE or x-user~REGEX",
        ),
        (
            Flag::Header,
            "X-User: ann",
            "header \"X-User: ann\" doesn't say which values match: write X-User=ann",
        ),
        (
            Flag::Header,
            "",
            "header \"\" doesn't say which values match: write NAME=VALUE or NAME~REGEX",
        ),
        (
            Flag::Header,
            ":authority=web",
            "\":authority\" isn't a header: use the header host",
        ),
        (
            Flag::Header,
            ":path=/a",
            "\":path\" isn't a header: use path, path-prefix or path-regex",
        ),
        (
            Flag::Header,
            "x user=ann",
            "\"x user\" can't be a header's name: write NAME=VALUE or NAME~REGEX, with a name of letters, \
             digits and -_.!#$%&'*+^`|",
        ),
        (
            Flag::Header,
            "x-user=a\nb",
            "header x-user can't have the value \"a\\nb\", which holds a control character: leave that out, \
             or write x-user~REGEX for what is around it",
        ),
        (
            Flag::Header,
            "x~(a",
            "header: \"(a\" isn't a regex: unclosed group, at \"(a\"",
        ),
        (
            Flag::Header,
            "x~a\0",
            r#"header: "a\0" isn't a regex: it holds a NUL: write \x00"#,
        ),
        (
            Flag::PathRegex,
            "(?:a{100}){100}",
            "path-regex: the regex \"(?:a{100}){100}\" takes too much memory: repeat fewer things, fewer times",
        ),
        (
            Flag::Path,
            "a",
            "path \"a\" has no / at its beginning: write /a",
        ),
        (
            Flag::Path,
            "http://web/a?b",
            "path \"http://web/a?b\" has no / at its beginning: write /a",
        ),
        (
            Flag::PathPrefix,
            "/a?b=c",
            "path-prefix \"/a?b=c\" goes beyond the path, which ends before ? and #: write /a",
        ),
        (
            Flag::Path,
            "/é b",
            "path \"/é b\" holds what requests carry encoded: write /%C3%A9%20b",
        ),
        (
            Flag::Method,
            "GET,POST",
            "\"GET,POST\" can't be a method: write one, such as GET, and --any between several",
        ),
        (
            Flag::Method,
            "get",
            "methods are case-sensitive, and requests don't say get: write GET",
        ),
        (
            Flag::Baggage,
            "user",
            "baggage \"user\" doesn't say which value matches: write KEY=VALUE, regexes aren't possible here",
        ),
        (
            Flag::Baggage,
            "user~a=.*",
            "baggage \"user~a=.*\" doesn't say which value matches: write KEY=VALUE, regexes aren't possible here",
        ),
        (
            Flag::Baggage,
            "a b=c",
            "no request can carry \"a b\" with the value \"c\" in baggage or tracestate: write KEY=VALUE, with \
             a key without spaces, commas, semicolons, brackets and quotes",
        ),
    ];
    for (flag, text, why) in cases {
        assert_eq!(refused(flag, text), why, "{text:?}");
    }
    // A key of tracestate alone, with a value of baggage alone.
    assert!(refused(Flag::Baggage, "a@b=c,d").starts_with("no request can carry"));
}

#[test]
fn texts_have_a_longest_length() {
    for (flag, before) in [
        (Flag::Header, "x="),
        (Flag::Header, "x~"),
        (Flag::Path, "/"),
        (Flag::PathPrefix, "/"),
        (Flag::PathRegex, "/"),
        (Flag::Method, "X"),
        (Flag::Baggage, "k="),
    ] {
        let long = |bytes: usize| format!("{before}{}", "a".repeat(bytes - before.len()));
        let fits = Condition::typed(flag, &long(MAX_TEXT));
        // As a regex it may be too big, but not too long.
        assert!(
            !matches!(fits, Err(ConditionError::TooLong { .. })),
            "{flag}"
        );
        let bytes = MAX_TEXT + 1;
        let refused = Condition::typed(flag, &long(bytes)).unwrap_err();
        assert_eq!(refused, ConditionError::TooLong { flag, bytes });
    }
}

#[test]
fn any_begins_a_group() {
    let two = rule("--header x=1 --method GET --any --path /a");
    assert_eq!(two.groups().len(), 2);
    assert_eq!(two.groups()[0].conditions().len(), 2);
    assert_eq!(two.to_string(), "--header x=1 --method GET --any --path /a");
    assert!(Rule::from_flags([]).unwrap().is_everything());
    assert_eq!(Rule::default().to_string(), "");
}

#[test]
fn groups_without_conditions_are_refused() {
    for flags in [
        "--any",
        "--any --path /a",
        "--path /a --any",
        "--path /a --any --any --path /b",
    ] {
        assert_eq!(try_rule(flags), Err(RuleError::EmptyGroup), "{flags}");
    }
}

proptest! {
    #[test]
    fn what_is_printed_can_be_typed(rule in any_rule()) {
        prop_assert_eq!(try_rule(&rule.to_string()), Ok(rule));
    }

    #[test]
    fn a_text_is_refused_or_printed_as_typed(
        flag in proptest::sample::select(Flag::ALL.to_vec()),
        text in "[a-zé/=~:@ \t\n'\"$\\\\!*?#,;%{}()-]{0,12}",
    ) {
        let Ok(condition) = Condition::typed(flag, &text) else {
            return Ok(());
        };
        let again = Condition::typed(condition.flag(), &condition.text());
        prop_assert_eq!(again, Ok(condition.clone()));
        let rule = Rule::new([Group::new([condition]).unwrap()]).unwrap();
        prop_assert_eq!(try_rule(&rule.to_string()), Ok(rule));
    }
}
