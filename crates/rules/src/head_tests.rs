use http::Request;
use proptest::prelude::*;

use super::*;

fn values<'a>(head: &Head<'a>, name: &str) -> Vec<&'a [u8]> {
    let mut seen = Vec::new();
    head.any_value(&name.parse().unwrap(), |value| {
        seen.push(value);
        false
    });
    seen
}

/// A head made of bytes, and what the `http` crate makes of the same request.
fn both_ways(method: &str, target: &str, lines: &[(&str, &str)], test: impl Fn(&Head<'_>)) {
    let bytes: Vec<_> = lines
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    test(&Head::new(method.as_bytes(), target.as_bytes(), &bytes[..]));

    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    test(&Head::from(&parts));
}

#[test]
fn the_path_is_the_targets_without_query_in_every_form() {
    let cases = [
        ("GET", "/", Some("/")),
        ("GET", "/a/b", Some("/a/b")),
        ("GET", "/a?b=/c", Some("/a")),
        ("GET", "/a?next=http://web/c", Some("/a")),
        ("GET", "/?", Some("/")),
        ("GET", "//a/../b", Some("//a/../b")),
        ("GET", "/a%2Fb", Some("/a%2Fb")),
        ("GET", "http://web/a?b", Some("/a")),
        ("GET", "https://web:8443/a/", Some("/a/")),
        ("GET", "http://web", Some("/")),
        ("GET", "http://web?b", Some("/")),
        ("OPTIONS", "*", None),
        ("CONNECT", "web:443", None),
    ];
    for (method, target, path) in cases {
        both_ways(method, target, &[], |head| {
            let path = path.map(str::as_bytes);
            assert_eq!(head.path(), path, "{method} {target}");
            assert_eq!(head.method(), method.as_bytes());
        });
    }
}

#[test]
fn host_is_the_targets_authority_before_the_header() {
    let lines = [("Host", "old")];
    let cases = [
        ("GET", "/a", "old"),
        ("OPTIONS", "*", "old"),
        ("GET", "http://web:80/a", "web:80"),
        ("GET", "http://ann:secret@web/a", "web"),
        ("GET", "http://web?@old", "web"),
        ("CONNECT", "web:443", "web:443"),
    ];
    for (method, target, host) in cases {
        both_ways(method, target, &lines, |head| {
            assert_eq!(values(head, "host"), [host.as_bytes()], "{method} {target}");
        });
    }
    let head = Head::new(b"GET", b"/a", &[][..]).with_authority(b"ann@web:80");
    assert_eq!(values(&head, "host"), [b"web:80"]);
}

#[test]
fn every_line_of_a_header_counts_whatever_the_case_of_its_name() {
    let lines = [
        ("X-User", " ann\t"),
        ("x-user", "bob"),
        ("x-users", "eve"),
        ("X-USER", ""),
    ];
    both_ways("GET", "/", &lines, |head| {
        assert_eq!(values(head, "x-user"), [&b"ann"[..], b"bob", b""]);
        assert!(values(head, "x-us").is_empty());
    });
}

#[test]
fn what_is_no_target_has_no_path() {
    for target in [
        "",
        "a",
        "a/b",
        "web:80",
        "://a",
        "1http://web/a",
        "a?b://c/d",
        "?",
    ] {
        let head = Head::new(b"GET", target.as_bytes(), &[][..]);
        assert_eq!(head.path(), None, "{target}");
        assert!(values(&head, "host").is_empty(), "{target}");
    }
}

proptest! {
    #[test]
    fn bytes_and_the_http_crate_make_the_same_head(
        target in "(http://[a-c@:]{0,4})?(/[a/?:@#]{0,8})?",
        value in "[a \t]{0,4}",
    ) {
        let Ok(uri) = target.parse::<http::Uri>() else {
            return Ok(());
        };
        let (parts, ()) = Request::builder()
            .uri(uri)
            .header("x", &value)
            .body(())
            .unwrap()
            .into_parts();
        let lines = [(&b"x"[..], value.as_bytes())];
        let one = Head::from(&parts);
        let other = Head::new(b"GET", target.as_bytes(), &lines[..]);
        prop_assert_eq!(one.path(), other.path(), "{}", target);
        for name in ["host", "x"] {
            prop_assert_eq!(values(&one, name), values(&other, name), "{} of {}", name, target);
        }
    }

    #[test]
    fn no_bytes_are_too_odd(
        target in any::<Vec<u8>>(),
        authority in any::<Vec<u8>>(),
        value in any::<Vec<u8>>(),
    ) {
        let lines = [(&b"x"[..], &value[..])];
        let head = Head::new(b"GET", &target, &lines[..]).with_authority(&authority);
        prop_assert!(head.path().is_none_or(|path| path.starts_with(b"/")));
        prop_assert!(values(&head, "x").len() == 1);
    }
}
