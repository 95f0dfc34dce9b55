//! Errors as one line of text.

use std::error::Error;

/// Returns an error with all that caused it, as `can't open x: permission denied`.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        // Some errors tell their cause themselves.
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("can't open it")]
    struct Open(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("outer: {0}")]
    struct Telling(#[source] Open);

    #[test]
    fn each_cause_is_told_once() {
        let error = Telling(Open(io::Error::other("locked")));
        assert_eq!(with_causes(&error), "outer: can't open it: locked");
    }
}
