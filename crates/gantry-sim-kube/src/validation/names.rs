//! The name rules of Kubernetes objects and labels, with the sentences it uses for names that break
//! them.

/// What is wrong with an RFC 1123 label (namespaces, containers, volumes): at most 63 of `a-z0-9-`.
pub(crate) fn label(name: &str) -> Option<&'static str> {
    if name.len() > 63 {
        return Some("must be no more than 63 characters");
    }
    let good = is_label(name);
    (!good).then_some(
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
         with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
    )
}

fn is_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
}

/// What is wrong with an RFC 1123 subdomain (most object names): at most 253, labels joined by
/// dots.
pub(crate) fn subdomain(name: &str) -> Option<&'static str> {
    if name.len() > 253 {
        return Some("must be no more than 253 characters");
    }
    let good = name.split('.').all(is_label);
    (!good).then_some(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
         and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
    )
}

/// What is wrong with a name used in a path (roles and bindings).
pub(crate) fn path_segment(name: &str) -> Option<&'static str> {
    match name {
        "." => Some("may not be '.'"),
        ".." => Some("may not be '..'"),
        _ if name.contains('/') => Some("may not contain '/'"),
        _ if name.contains('%') => Some("may not contain '%'"),
        _ => None,
    }
}

/// What is wrong with a label's or annotation's key: an optional DNS prefix and a name of at most
/// 63.
pub(crate) fn qualified(key: &str) -> Option<&'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| subdomain(prefix).is_some()) {
        return Some("prefix part a lowercase RFC 1123 subdomain must be used before the '/'");
    }
    name_part(name, false)
}

/// What is wrong with a label's value.
pub(crate) fn label_value(value: &str) -> Option<&'static str> {
    name_part(value, true)
}

fn name_part(text: &str, may_be_empty: bool) -> Option<&'static str> {
    if text.len() > 63 {
        return Some("must be no more than 63 characters");
    }
    if text.is_empty() && may_be_empty {
        return None;
    }
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let good = edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
    (!good).then_some(if may_be_empty {
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
         and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation \
         is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
    } else {
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
         alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
    })
}

/// What is wrong with the key of a `ConfigMap` or Secret.
pub(crate) fn config_key(key: &str) -> Option<&'static str> {
    let good = !key.is_empty()
        && key.len() <= 253
        && key != "."
        && !key.starts_with("..")
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    (!good).then_some(
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME', \
         or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged() {
        assert!(label("build").is_none() && label("svc-0").is_none());
        assert!(label("Build").is_some() && label("-a").is_some() && label("").is_some());
        assert!(label(&"a".repeat(64)).is_some());
        assert!(subdomain("a.b-c.d").is_none() && subdomain("a..b").is_some());
        assert!(qualified("gantry.dev/Fleet_1").is_none() && qualified("a/b/c").is_some());
        assert!(label_value("").is_none() && label_value("a b").is_some());
        assert!(config_key(".dockerconfigjson").is_none() && config_key("a/b").is_some());
    }
}
