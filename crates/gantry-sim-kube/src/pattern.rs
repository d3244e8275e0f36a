//! Patterns with `*` for anything, by which faults and the images of a configuration choose.

/// Whether a pattern with `*` for anything fits.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(place) = rest.find(part) else { return false };
        rest = &rest[place + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit() {
        assert!(matches("*", "a") && matches("ruby:*", "ruby:3") && matches("*/x:*", "r/x:1") && matches("a", "a"));
        assert!(!matches("a", "ab") && !matches("a*b", "ac") && matches("a*b*c", "a1b2c"));
    }
}
