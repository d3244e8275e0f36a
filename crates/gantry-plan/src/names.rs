//! Names that Kubernetes accepts, made from names that GitLab accepts (GitLab Runner 19.4,
//! `executors/kubernetes`).

use gantry_core::short_token::short_token;

/// Longest DNS label.
const DNS_LABEL: usize = 63;

/// What is kept of a pod's base name before its unique suffix.
const POD_BASE: usize = 54;

/// The base of a pod's name, shared by the jobs that follow each other in one slot.
pub(crate) fn pod_base(token: &str, project_id: i64, concurrent_id: u32) -> String {
    let name = format!("runner-{}-project-{project_id}-concurrent-{concurrent_id}", short_token(token));
    let mut name: String = name
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .collect();
    name.truncate(DNS_LABEL);
    name
}

/// The pod's name: base and unique suffix.
pub(crate) fn pod_name(base: &str, suffix: &str) -> String {
    let end = base.len().min(POD_BASE);
    format!("{}-{suffix}", &base[..end])
}

/// A DNS label of any text: other characters than those of one become `-`.
pub(crate) fn object_name(text: &str) -> String {
    let dashed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().map(dashed).collect();
    name[..name.len().min(DNS_LABEL)].trim_matches('-').to_owned()
}

/// A label value: other characters become `_`, ends are trimmed.
pub(crate) fn label_value(text: &str) -> String {
    let ends = ['-', '_', '.'];
    let clean: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || ends.contains(&c) { c } else { '_' }).collect();
    let clean = clean.trim_matches(ends);
    clean[..clean.len().min(DNS_LABEL)].trim_matches(ends).to_owned()
}

/// The path of a project below the builds directory: that of its URL without `.git`, or
/// `project-<id>` where the URL has none.
pub(crate) fn project_slug(repo_url: &str, project_id: i64) -> String {
    let fallback = || format!("project-{project_id}");
    let Some((_, rest)) = repo_url.split_once("://") else { return fallback() };
    let Some((_, path)) = rest.split_once('/') else { return fallback() };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = path.strip_suffix(".git").unwrap_or(path);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    // A colon separates directories in lists of them, such as PATH.
    let is_impossible =
        parts.is_empty() || parts.contains(&"..") || path.contains(|c: char| c == ':' || c.is_control());
    if is_impossible { fallback() } else { parts.join("/") }
}

/// One part of a path made from `text`: other characters than letters, digits, `_` and `-` become
/// `_`.
pub(crate) fn path_part(text: &str) -> String {
    let part: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' }).collect();
    if part.is_empty() { "_".to_owned() } else { part }
}

/// The value of an annotation: cut to a length at which all of them together stay far below the 256
/// KiB of the Kubernetes API.
pub(crate) fn annotation(text: &str) -> String {
    const LONGEST: usize = 4096;
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods() {
        let base = pod_base("glrt-AAA0bbb_11xyz", 4711, 0);
        assert_eq!(base, "runner-aaa0bbb1-project-4711-concurrent-0");
        assert_eq!(pod_name(&base, "k3v9q2xd"), "runner-aaa0bbb1-project-4711-concurrent-0-k3v9q2xd");
        assert_eq!(pod_name(&"x".repeat(63), "k3v9q2xd").len(), 63);
    }

    #[test]
    fn labels() {
        for (text, label) in [("acme/web", "acme_web"), ("-x-", "x"), ("ü", ""), ("a.b-c_d", "a.b-c_d")] {
            assert_eq!(label_value(text), label, "{text}");
        }
        assert_eq!(label_value(&format!("{}-", "a".repeat(62))).len(), 62);
    }

    #[test]
    fn slugs() {
        for (url, slug) in [
            ("https://gitlab-ci-token:t@gitlab.example.com/acme/web/shop.git", "acme/web/shop"),
            ("http://host:8080/p.git", "p"),
            ("https://host/a/../b.git", "project-7"),
            ("https://host", "project-7"),
            ("", "project-7"),
            ("https://host//a//b.git?x=1", "a/b"),
            ("https://host/a:b/c.git", "project-7"),
            ("https://host/a\n/c.git", "project-7"),
        ] {
            assert_eq!(project_slug(url, 7), slug, "{url}");
        }
    }
}
