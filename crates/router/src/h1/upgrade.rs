//! The offer to go on in HTTP/2 (`Upgrade: h2c`, RFC 7540 section 3.2), taken out of a request's head. No IO.
//!
//! Who accepts it has the connection from then on, and with it all requests to come, whosever they are. It is made to
//! the next on the way only (RFC 7540 section 3.2.1), which may ignore it (RFC 9110 section 7.8): the client goes on
//! in HTTP/1.1. RFC 9113 has withdrawn it, so nobody needs it.

use super::framing::{list, trimmed};

/// Whether that is the protocol, as `Upgrade` has it.
pub(crate) fn is_h2c(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(b"h2c")
}

/// A request's head that makes the offer, without it; all else is as it was, byte for byte. Other protocols that are
/// offered beside it stay so. The head is one that was read: no line is folded, and all end with CRLF.
pub(crate) fn without_h2c(head: &[u8]) -> Vec<u8> {
    let offers_more = fields(head).any(|(name, value)| {
        let is_other = |protocol: &[u8]| !protocol.is_empty() && !is_h2c(protocol);
        name.eq_ignore_ascii_case(b"upgrade") && list(value).any(is_other)
    });
    let mut without = Vec::with_capacity(head.len());
    for line in lines(head) {
        let Some((name, value)) = field(line) else {
            without.extend_from_slice(line);
            continue;
        };
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let left = if is("http2-settings") {
            None
        } else if is("upgrade") {
            left(value, is_h2c)
        } else if is("connection") {
            // It names the lines that are for the next on the way, also those that go.
            left(value, |option| {
                let is = |known: &[u8]| option.eq_ignore_ascii_case(known);
                is(b"http2-settings") || (is(b"upgrade") && !offers_more)
            })
        } else {
            Some(value.to_vec())
        };
        if let Some(value) = left {
            without.extend_from_slice(name);
            without.push(b':');
            without.extend_from_slice(&value);
            without.extend_from_slice(b"\r\n");
        }
    }
    without
}

/// A list without those items; nothing where no other is in it.
fn left(value: &[u8], goes: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let stays = |item: &&[u8]| !goes(trimmed(item));
    let kept: Vec<&[u8]> = items(value).filter(stays).collect();
    let some_go = kept.len() < items(value).count();
    let is_empty = kept.iter().all(|item| trimmed(item).is_empty());
    (!(some_go && is_empty)).then(|| kept.join(&b','))
}

fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',')
}

/// All lines, with their ends.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split_inclusive(|byte| *byte == b'\n')
}

fn fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines(head).filter_map(field)
}

/// A line's name, and all between its colon and its end. A request line is none of the names that are looked for, as
/// there is no colon in a method.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_suffix(b"\r\n")?;
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((&line[..colon], &line[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::head::request;

    /// Heads' lines, with the offer and without it.
    const OFFERS: [(&str, &str); 11] = [
        // As curl has it.
        (
            "Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nA: b\r\n",
            "Host: x\r\nA: b\r\n",
        ),
        ("upgrade:H2C\r\n", ""),
        (
            "Connection: keep-alive,\tUPGRADE , http2-settings\r\nUpgrade: h2c\r\n",
            "Connection: keep-alive\r\n",
        ),
        (
            "Connection: HTTP2-Settings, close ,Upgrade\r\nUpgrade: h2c\r\nhttp2-SETTINGS:\r\n",
            "Connection: close \r\n",
        ),
        // What else is offered can be accepted.
        (
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: websocket, h2c\r\nHTTP2-Settings: A\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        ),
        (
            "Connection:upgrade\r\nUpgrade:h2c,\twebsocket , x/1\r\n",
            "Connection:upgrade\r\nUpgrade:\twebsocket , x/1\r\n",
        ),
        (
            "Upgrade: h2c\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nConnection: HTTP2-Settings\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        ),
        // Made twice, and by lists with nothing in them.
        ("Upgrade: h2c, ,h2c,\r\nConnection: , upgrade\r\n", ""),
        (
            "Connection:\r\nUpgrade: h2c\r\nEmpty:\r\n",
            "Connection:\r\nEmpty:\r\n",
        ),
        // What only looks like it.
        (
            "X-Upgrade: h2c\r\nUpgrade: h2c\r\nUpgrades: h2c\r\nVia: h2c, Upgrade\r\n",
            "X-Upgrade: h2c\r\nUpgrades: h2c\r\nVia: h2c, Upgrade\r\n",
        ),
        ("Upgrade: h2c, h2c-14, h2\r\n", "Upgrade: h2c-14, h2\r\n"),
    ];

    #[test]
    fn the_offer_goes_and_all_else_stays_as_it_was() {
        for (lines, expected) in OFFERS {
            for line in [
                "GET / HTTP/1.1",
                "\r\nPOST http://x:1/?upgrade:h2c HTTP/1.0",
            ] {
                let head = format!("{line}\r\n{lines}\r\n");
                let without = without_h2c(head.as_bytes());
                assert_eq!(
                    String::from_utf8(without).unwrap(),
                    format!("{line}\r\n{expected}\r\n")
                );
            }
        }
    }

    #[test]
    fn a_head_without_the_offer_ends_where_the_one_with_it_does_and_makes_none() {
        for (lines, _) in OFFERS {
            let body = "Content-Length: 5\r\nExpect: x\r\n";
            let head = format!("POST / HTTP/1.1\r\n{lines}{body}\r\n");
            let (mut with, ()) = request(head.as_bytes(), 16, |_| ()).unwrap();
            let without = without_h2c(head.as_bytes());
            let (without, ()) = request(&without, 16, |_| ()).unwrap();
            assert!(std::mem::take(&mut with.offers_h2c), "{lines:?}");
            assert_eq!(without, with, "{lines:?}");
        }
    }
}
