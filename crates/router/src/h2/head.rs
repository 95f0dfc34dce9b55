//! A stream's head, as rules see it and as it is sent on.

use http::header::{COOKIE, HeaderValue};
use http::request::Parts;
use http::{Request, Version};
use kdev_rules::Head;

/// Shows a head. Lines of cookies are one, RFC 9113 section 8.2.3.
pub(crate) fn show<R>(parts: &Parts, see: impl FnOnce(&Head<'_>) -> R) -> R {
    let mut cookies = parts.headers.get_all(COOKIE).iter();
    if cookies.by_ref().nth(1).is_none() {
        return see(&Head::from(parts));
    }
    let lines: Vec<_> = parts.headers.get_all(COOKIE).iter().collect();
    let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
    let mut joined = parts.clone();
    if let Ok(cookie) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        joined.headers.insert(COOKIE, cookie);
    }
    see(&Head::from(&joined))
}

/// The request to send on.
pub(crate) fn request(parts: Parts) -> Request<()> {
    let mut request = Request::from_parts(parts, ());
    if request.uri().authority().is_none() {
        // So that it may stay away: it is optional, RFC 9113 section 8.3.1.
        *request.version_mut() = Version::HTTP_11;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_cookies_are_seen_as_one_line() {
        let request = Request::get("http://shop/")
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let seen = show(&parts, |head| {
            let mut seen = Vec::new();
            head.any_value(&COOKIE, |value| {
                seen.push(String::from_utf8_lossy(value).into_owned());
                false
            });
            seen
        });
        assert_eq!(seen, ["a=1; b=2"]);
        assert_eq!(parts.headers.get_all(COOKIE).iter().count(), 2);
    }
}
