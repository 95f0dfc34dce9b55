//! The names of Kubernetes' objects.

/// Whether a name is a label as RFC 1123 section 2.1 has it, in lower case: what a namespace's name has to be.
pub fn is_label(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 63
        && text.starts_with(is_inner)
        && text.ends_with(is_inner)
        && text.chars().all(|c| is_inner(c) || c == '-')
}
