use super::*;
use crate::testing::{Request, get, rule};

/// Whether the rule of these flags matches a request.
fn check(flags: &str, cases: &[(Request, bool)]) {
    for (request, expected) in cases {
        assert_eq!(
            request.meets(&rule(flags)),
            *expected,
            "{flags} on {request:?}"
        );
    }
}

#[test]
fn a_header_has_a_value_exactly() {
    check(
        "--header X-User=ann",
        &[
            (get("/", &[("x-user", "ann")]), true),
            (get("/", &[("X-USER", " ann\t")]), true),
            (get("/", &[("x-user", "bob"), ("x-user", "ann")]), true),
            (get("/", &[("x-user", "Ann")]), false),
            (get("/", &[("x-user", "anne")]), false),
            (get("/", &[("x-user", "ann, bob")]), false),
            (get("/", &[("x-user2", "ann")]), false),
            (get("/", &[]), false),
        ],
    );
    check(
        "--header x-user=",
        &[
            (get("/", &[("x-user", "")]), true),
            (get("/", &[("x-user", "  ")]), true),
            (get("/", &[]), false),
        ],
    );
}

#[test]
fn a_header_matches_a_regex() {
    check(
        "--header 'x-user~an.*'",
        &[
            (get("/", &[("x-user", "anne")]), true),
            (get("/", &[("x-user", "bob"), ("X-User", " ann ")]), true),
            (get("/", &[("x-user", "joann")]), false),
            (get("/", &[]), false),
        ],
    );
}

#[test]
fn a_path_is_this_one() {
    check(
        "--path /a/b",
        &[
            (get("/a/b", &[]), true),
            (get("/a/b?c=d", &[]), true),
            (get("http://web/a/b?c", &[]), true),
            (get("/a/b/", &[]), false),
            (get("/a/B", &[]), false),
            (get("/x?/a/b", &[]), false),
            (get("*", &[]), false),
        ],
    );
}

#[test]
fn a_path_is_below_another_by_elements() {
    for prefix in ["--path-prefix /a", "--path-prefix /a/"] {
        check(
            prefix,
            &[
                (get("/a", &[]), true),
                (get("/a/", &[]), true),
                (get("/a/b", &[]), true),
                (get("/a?b", &[]), true),
                (get("/ab", &[]), false),
                (get("/", &[]), false),
                (get("/b/a", &[]), false),
                (get("*", &[]), false),
            ],
        );
    }
    check(
        "--path-prefix /",
        &[
            (get("/", &[]), true),
            (get("/a", &[]), true),
            (get("*", &[]), false),
        ],
    );
}

#[test]
fn a_path_matches_a_regex() {
    check(
        r"--path-regex '/api/v\d+/.*'",
        &[
            (get("/api/v12/carts?page=1", &[]), true),
            (get("/api/vx/carts", &[]), false),
            (get("/old/api/v1/carts", &[]), false),
        ],
    );
    check(
        "--path-regex '.*'",
        &[(get("/", &[]), true), (get("*", &[]), false)],
    );
}

#[test]
fn a_method_is_this_one() {
    let post = Request {
        method: "POST",
        target: "/",
        ..Request::default()
    };
    check("--method POST", &[(post, true), (get("/", &[]), false)]);
    assert!(Condition::method("PURGE").is_ok());
}

#[test]
fn baggage_has_a_member_with_a_value() {
    check(
        "--baggage 'user=Ann Lee'",
        &[
            (
                get("/", &[("Baggage", "a=1, user = Ann%20Lee;ttl=3")]),
                true,
            ),
            (
                get("/", &[("baggage", "a=1"), ("baggage", "user=Ann%20Lee")]),
                true,
            ),
            (get("/", &[("tracestate", "a=1,user=Ann Lee")]), true),
            (get("/", &[("tracestate", "user=Ann%20Lee")]), false),
            (get("/", &[("baggage", "User=Ann%20Lee")]), false),
            (get("/", &[("baggage", "a=1;user=Ann%20Lee")]), false),
            (get("/", &[("baggage", "user=Ann")]), false),
            (get("/", &[("user", "Ann Lee")]), false),
        ],
    );
}

#[test]
fn what_could_not_be_typed_is_refused() {
    assert!(Condition::header("x~y", "1").is_err());
    assert!(Condition::header_regex("x~y", "1").is_err());
    assert!(Condition::header_regex("x", "\0").is_err());
    assert!(Condition::baggage("k~j", "1").is_err());
    assert!(Condition::baggage("k", "\0").is_err());
    assert!(Condition::baggage("k", "\n").is_ok());
}

#[test]
fn host_is_the_authority_as_well() {
    let condition = Condition::header("Host", "web:80").unwrap();
    let lines = [(&b"Host"[..], &b"web:80"[..])];
    let cases = [
        (Head::new(b"GET", b"/", &lines[..]), true),
        (
            Head::new(b"GET", b"/", &[][..]).with_authority(b"web:80"),
            true,
        ),
        (Head::new(b"GET", b"http://web:80/", &[][..]), true),
        // HTTP/2's and an absolute target's stand above.
        (
            Head::new(b"GET", b"/", &lines[..]).with_authority(b"web"),
            false,
        ),
        (Head::new(b"GET", b"http://web/", &lines[..]), false),
    ];
    for (head, expected) in cases {
        assert_eq!(condition.matches(&head), expected, "{head:?}");
    }
}

#[test]
fn values_that_are_no_text_match_nothing_but_regexes() {
    let lines = [
        (&b"x"[..], &b"\xff"[..]),
        (b"baggage", b"k=\xff"),
        (b"tracestate", b"\xff"),
    ];
    let head = Head::new(b"\xff", b"/\xff", &lines[..]);
    assert!(!Condition::header("x", "\u{ff}").unwrap().matches(&head));
    assert!(!Condition::baggage("k", "\u{ff}").unwrap().matches(&head));
    assert!(Condition::header_regex("x", ".").unwrap().matches(&head));
    assert!(Condition::path_regex(r"/\xff").unwrap().matches(&head));
}
