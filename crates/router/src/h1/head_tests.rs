use super::*;

/// The end of what comes in pieces of this size.
fn end(bytes: &[u8], piece: usize) -> Option<usize> {
    let mut end = End::default();
    let cuts = (piece..bytes.len()).step_by(piece).chain([bytes.len()]);
    cuts.into_iter().find_map(|cut| end.find(&bytes[..cut]))
}

#[test]
fn a_head_ends_with_an_empty_line_however_it_is_cut() {
    for (bytes, expected) in [
        ("GET / HTTP/1.1\r\n\r\nbody", Some(18)),
        ("\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n\r\n", Some(28)),
        ("GET / HTTP/1.1\nA: b\n\nbody\r\n\r\n", Some(21)),
        ("GET / HTTP/1.1\r\nA: b\n\r\n", Some(23)),
        ("GET / HTTP/1.1\r\nA: b\r\n\r", None),
        ("GET / HTTP/1.1\r\rA: b\r\r", None),
        ("\r\n\r\n\n\n", None),
        ("", None),
    ] {
        for piece in 1..=bytes.len().max(1) {
            assert_eq!(end(bytes.as_bytes(), piece), expected, "{bytes:?}");
        }
    }
}

fn asked(method: &str) -> Asked {
    let head = format!("{method} / HTTP/1.1\r\n\r\n");
    request(head.as_bytes(), 8, |_| ()).unwrap().0
}

#[test]
fn who_may_be_asked_twice() {
    for (method, expected) in [
        ("GET", true),
        ("HEAD", true),
        ("OPTIONS", true),
        ("TRACE", true),
        ("PUT", true),
        ("DELETE", true),
        ("POST", false),
        ("PATCH", false),
        ("get", false),
    ] {
        assert_eq!(asked(method).repeatable, expected, "{method}");
    }
    let head = b"PUT / HTTP/1.1\r\nContent-Length: 1\r\n\r\n";
    assert!(!request(head, 8, |_| ()).unwrap().0.repeatable);
}

#[test]
fn what_a_response_says_of_its_end() {
    let (length, chunked) = (Body::Length(3), Body::chunked());
    for (method, lines, expected, keep_alive, certain) in [
        (
            "GET",
            "1.1 200 OK\r\nContent-Length: 3",
            length.clone(),
            true,
            true,
        ),
        (
            "GET",
            "1.0 200 OK\r\nContent-Length: 3",
            length.clone(),
            false,
            true,
        ),
        (
            "GET",
            "1.1 200 OK\r\nTransfer-Encoding: chunked",
            chunked.clone(),
            true,
            true,
        ),
        (
            "GET",
            "1.0 200 OK\r\nTransfer-Encoding: chunked",
            chunked.clone(),
            false,
            false,
        ),
        (
            "GET",
            "1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
            chunked,
            false,
            false,
        ),
        (
            "GET",
            "1.1 200 OK\r\nTransfer-Encoding: gzip",
            Body::UntilClose,
            false,
            true,
        ),
        ("GET", "1.1 200 OK\r\nX: y", Body::UntilClose, false, true),
        (
            "GET",
            "1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4",
            Body::UntilClose,
            false,
            false,
        ),
        (
            "HEAD",
            "1.1 200 OK\r\nContent-Length: x",
            Body::NONE,
            true,
            true,
        ),
        (
            "GET",
            "1.1 304 Not Modified\r\nContent-Length: 3",
            Body::NONE,
            true,
            true,
        ),
        (
            "GET",
            "1.1 204 No Content\r\nTransfer-Encoding: chunked",
            Body::NONE,
            true,
            true,
        ),
        (
            "GET",
            "1.1 205 Reset\r\nContent-Length: 3",
            length,
            true,
            true,
        ),
    ] {
        let head = format!("HTTP/{lines}\r\n\r\n");
        let answered = response(head.as_bytes(), 8, &asked(method)).unwrap();
        let expected = Answered {
            kind: Kind::Final,
            body: expected,
            keep_alive,
            certain,
        };
        assert_eq!(answered, expected, "{method} {lines:?}");
    }
}

#[test]
fn which_responses_are_not_the_last() {
    for (method, status, expected) in [
        ("GET", 100, Kind::Interim),
        ("GET", 103, Kind::Interim),
        ("GET", 101, Kind::Switch),
        ("GET", 200, Kind::Final),
        ("CONNECT", 200, Kind::Switch),
        ("CONNECT", 299, Kind::Switch),
        ("CONNECT", 407, Kind::Final),
    ] {
        let head = format!("HTTP/1.1 {status} x\r\n\r\n");
        let answered = response(head.as_bytes(), 8, &asked(method)).unwrap();
        assert_eq!(answered.kind, expected, "{method} {status}");
    }
}

#[test]
fn only_a_whole_head_of_what_may_be_asked_twice_is_repeatable() {
    for (bytes, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\n", 27),
        ("DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n", 31),
        ("GET / HTTP/1.1\r\nHost: a\r\n", 0),
        ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            0,
        ),
        ("\x16\x03\x01\x02\x00\x01\n\n", 0),
        ("+PING\r\n\r\n", 0),
        ("", 0),
    ] {
        assert_eq!(repeatable(bytes.as_bytes(), 16), expected, "{bytes:?}");
    }
}
