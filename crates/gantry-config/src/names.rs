//! Names and words that an API server takes (Kubernetes API conventions). What has a variable in it
//! shows with the job, and is not judged here.

/// The longest label of DNS (RFC 1123).
const LONGEST_LABEL: usize = 63;
/// The longest name of DNS, and of most objects.
const LONGEST_NAME: usize = 253;

/// Whether a job's variables may still change a text.
pub(crate) fn has_variable(text: &str) -> bool {
    text.contains('$')
}

/// A label of DNS: the name of a namespace or a volume.
pub(crate) fn is_dns_label(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LONGEST_LABEL).contains(&text.len())
        && text.bytes().all(fits)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A name of DNS: that of most objects.
pub(crate) fn is_object_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME && text.split('.').all(is_dns_label)
}

/// The value of a label; empty is one.
pub(crate) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_qualified_part(text)
}

/// The name of a label, annotation or taint: `name` or `domain/name`.
pub(crate) fn is_label_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => is_object_name(domain) && is_qualified_part(name),
        None => is_qualified_part(text),
    }
}

fn is_qualified_part(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= LONGEST_LABEL && text.bytes().all(fits) && is_end(bytes.first()) && is_end(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_an_api_server_takes_them() {
        for (name, label, object) in [
            ("ci-jobs", true, true),
            ("a.b", false, true),
            ("A", false, false),
            ("-a", false, false),
            ("", false, false),
            ("a..b", false, false),
            (&"a".repeat(64), false, false),
        ] {
            assert_eq!((is_dns_label(name), is_object_name(name)), (label, object), "{name:?}");
        }
        for good in ["app", "kubernetes.io/arch", "node.kubernetes.io/Pool_1", "a.b"] {
            assert!(is_label_name(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a b", "-a", "A.b/c/d", "kubernetes.io/"] {
            assert!(!is_label_name(bad), "{bad}");
        }
        assert!(is_label_value("") && is_label_value("v1.2_x") && !is_label_value("a/b") && !is_label_value("a b"));
    }
}
