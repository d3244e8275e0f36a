//! Names and words that an API server takes (Kubernetes API conventions). What has a variable in it
//! shows with the job, and is not judged here.

/// The longest label of DNS (RFC 1123).
const LONGEST_LABEL: usize = 63;
/// The longest name of DNS, and of most objects.
const LONGEST_NAME: usize = 253;

/// What is wrong with the name of a label.
pub const LABEL_NAME: &str =
    "is no name of a label: that is up to 63 letters, digits, '-', '_' and '.', perhaps behind a domain and '/'";

/// What is wrong with the value of a label.
pub const LABEL_VALUE: &str = "is no value of a label: that is up to 63 letters, digits, '-', '_' and '.'";

/// Domain of our own labels and annotations, which nobody else sets.
const OWN_DOMAIN: &str = "gantry.dev";

/// Domain of labels that the reference sets itself (GitLab Runner 19.4).
const REFERENCE_DOMAIN: &str = "runner.gitlab.com";

/// Effects of a taint; without any all of them.
pub(crate) const EFFECTS: [&str; 4] = ["NoSchedule", "PreferNoSchedule", "NoExecute", ""];

/// Whether the name of a label or annotation belongs to a domain or one below it.
fn is_in_domain(name: &str, domain: &str) -> bool {
    let own = name.split('/').next().unwrap_or_default().to_lowercase();
    own.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether nobody but the runner sets a label.
pub fn is_own_label(name: &str) -> bool {
    is_in_domain(name, REFERENCE_DOMAIN) || is_in_domain(name, OWN_DOMAIN)
}

/// Whether nobody but the runner sets an annotation. Those of the reference are for operators and
/// jobs to replace.
pub fn is_own_annotation(name: &str) -> bool {
    is_in_domain(name, OWN_DOMAIN)
}

/// What is wrong with a toleration, `key` or `key=value` with an effect.
pub fn not_tolerable(taint: &str, effect: &str) -> Option<String> {
    let (name, value) = taint.split_once('=').unwrap_or((taint, ""));
    if let Some((rest, within)) = taint.rsplit_once(':')
        && !within.is_empty()
        && EFFECTS.contains(&within)
    {
        return Some(format!("{taint:?} has the effect in it: write {rest:?} = {within:?}"));
    }
    if !EFFECTS.contains(&effect) {
        return Some(format!("{effect:?} is not one of NoSchedule, PreferNoSchedule, NoExecute"));
    }
    if name.is_empty() && taint.contains('=') {
        return Some("there is no name before '=': leave '=' and the value out to tolerate every taint".to_owned());
    }
    if !name.is_empty() && !is_label_name(name) {
        return Some(format!("{name:?} {LABEL_NAME}"));
    }
    (!is_label_value(value)).then(|| format!("{value:?} {LABEL_VALUE}"))
}

/// Whether a job's variables may still change a text.
pub fn has_variable(text: &str) -> bool {
    text.contains('$')
}

/// A label of DNS: the name of a namespace or a volume.
pub fn is_dns_label(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LONGEST_LABEL).contains(&text.len())
        && text.bytes().all(fits)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A name of DNS: that of most objects.
pub fn is_object_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME && text.split('.').all(is_dns_label)
}

/// The value of a label; empty is one.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_qualified_part(text)
}

/// A domain in which a resolver looks for short names: that of DNS, with underscores, and perhaps a
/// dot at its end.
pub fn is_search_domain(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    text == "." || is_object_name(&name.replace('_', "a"))
}

/// Where a mount path leads in a container: the kubelet takes a relative one as from `/`. What may
/// still become another path stays.
pub fn absolute(path: &str) -> String {
    let stays = path.is_empty() || path.starts_with('/') || has_variable(path);
    if stays { path.to_owned() } else { format!("/{path}") }
}

/// A path within a volume: neither from the root nor up.
pub fn is_path_within(path: &str) -> bool {
    !path.starts_with('/') && !has_steps_up(path)
}

/// Whether one of a path's parts is `..`.
pub fn has_steps_up(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// The name of a label, annotation or taint: `name` or `domain/name`.
pub fn is_label_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => is_object_name(domain) && is_qualified_part(name),
        None => is_qualified_part(text),
    }
}

/// The name of an annotation: that of a label, in which upper and lower case are alike.
pub fn is_annotation_name(text: &str) -> bool {
    is_label_name(&text.to_ascii_lowercase())
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

    #[test]
    fn domains_of_labels() {
        for (key, is_of) in [
            ("runner.gitlab.com/x", true),
            ("Job.Runner.GitLab.com/pod", true),
            ("runner.gitlab.com", true),
            ("otherrunner.gitlab.com/x", false),
            ("x/runner.gitlab.com", false),
            ("pod", false),
        ] {
            assert_eq!(is_in_domain(key, REFERENCE_DOMAIN), is_of, "{key}");
        }
    }

    #[test]
    fn tolerations_as_an_api_server_takes_them() {
        for (taint, effect) in [("", ""), ("", "NoExecute"), ("a", ""), ("a=", "NoSchedule"), ("b.c/a=x", "NoSchedule")]
        {
            assert_eq!(not_tolerable(taint, effect), None, "{taint} {effect}");
        }
        for (taint, effect) in [("=x", "NoSchedule"), ("a b", ""), ("a=x y", ""), ("a", "No")] {
            assert!(not_tolerable(taint, effect).is_some(), "{taint} {effect}");
        }
    }

    #[test]
    fn domains_and_paths_as_an_api_server_takes_them() {
        for (domain, good) in
            [("svc.cluster.local", true), ("_tcp.a.", true), (".", true), ("", false), ("a..b", false), ("A!", false)]
        {
            assert_eq!(is_search_domain(domain), good, "{domain:?}");
        }
        for (path, good) in [("a/b", true), ("a..b", true), ("", true), ("/a", false), ("..", false), ("a/../b", false)]
        {
            assert_eq!(is_path_within(path), good, "{path:?}");
        }
    }
}
