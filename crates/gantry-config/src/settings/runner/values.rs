//! Values of an entry that are read by rules of their own.

use core::net::Ipv6Addr;
use std::collections::BTreeMap;
use std::time::Duration;

use gantry_core::feature_flags::{self, FLAGS, parse_bool};
use gantry_core::job_variables;
use gantry_core::limits::{DEFAULT_OUTPUT_LIMIT, MAX_SCRIPT_GRACE, MOST_KEPT, SCRIPT_GRACE};
use gantry_core::{Secret, go_duration, reserved, variables};
use jiff::Timestamp;
use toml::de::DeValue;

use super::{GitMirror, Shell};
use crate::names::is_object_name;
use crate::nearest::nearest;
use crate::problem::Severity;
use crate::section::Section;

pub(super) fn script_grace(section: &Section<'_>, key: &'static str) -> Duration {
    let wanted = section.positive_duration(key).unwrap_or(SCRIPT_GRACE);
    if wanted > MAX_SCRIPT_GRACE {
        let most = go_duration::format(MAX_SCRIPT_GRACE);
        let message = format!("must be at most {most}: a job that is stopped at its time-out must still be reported");
        section.problem(Severity::Error, key, message);
    }
    wanted.min(MAX_SCRIPT_GRACE)
}

/// Zero is for not waiting at all.
pub(super) fn service_wait(section: &Section<'_>, key: &'static str) -> Option<Duration> {
    section.duration(key)
}

pub(super) fn keep_failed_pods(section: &Section<'_>, key: &'static str) -> Option<Duration> {
    let wanted = section.positive_duration(key)?;
    if wanted > MOST_KEPT {
        let most = go_duration::format(MOST_KEPT);
        section.problem(
            Severity::Error,
            key,
            format!("must be at most {most}: a pod that is kept holds room on its node"),
        );
    }
    Some(wanted.min(MOST_KEPT))
}

/// What begins with `/` is a directory of the nodes, anything else the name of a claim.
pub(super) fn git_mirror(section: &Section<'_>, key: &'static str) -> Option<GitMirror> {
    let written = section.text(key)?;
    if !written.starts_with('/') {
        if !is_object_name(&written) {
            let message = format!(
                "{written:?} is neither an absolute path of the nodes, such as /var/lib/gantry/git, nor the name of a claim"
            );
            section.problem(Severity::Error, key, message);
        }
        return Some(GitMirror::Claim(written));
    }
    let path = written.trim_end_matches('/');
    if path.is_empty() || path.split('/').any(|part| part == "..") || path.contains(char::is_control) {
        let message = format!("{written:?} must be a directory of the nodes below /, without '..'");
        section.problem(Severity::Error, key, message);
    }
    Some(GitMirror::HostPath(path.to_owned()))
}

pub(super) fn url(section: &Section<'_>, key: &'static str) -> String {
    let written = section.text_or_empty(key);
    let url = variables::expand(&written, section.report.env);
    if written.is_empty() {
        section.problem(Severity::Error, key, "is missing: without the address of GitLab the runner can do nothing");
    } else if url.is_empty() {
        section.problem(Severity::Error, key, format!("{written:?} is empty after expansion: set the variable"));
    } else if !["http://", "https://"].iter().any(|scheme| starts_with_ignoring_case(&url, scheme)) {
        section.problem(Severity::Error, key, "must begin with http:// or https://");
    } else if !has_host(&url) {
        // It is not shown: there may be a password in it.
        section.problem(
            Severity::Error,
            key,
            "has no host that GitLab could be at: write https://<host> or http://<host>",
        );
    } else if url.trim_end_matches('/').ends_with("/ci") {
        section.problem(Severity::Warning, key, "ends in /ci, which is left out");
    } else if url.split('/').skip(3).collect::<Vec<_>>().windows(2).any(|two| matches!(two, ["api", "v4"])) {
        let message = "holds /api/v4, which is added to it: no job will come unless you write the address of the \
                       GitLab instance alone";
        section.problem(Severity::Warning, key, message);
    }
    url
}

/// Whether there is a host behind the scheme, and if anything a port behind that.
fn has_host(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => (address, port.strip_prefix(':')),
        Some(_) => return false,
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let is_host =
        !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "[]<>".contains(c));
    is_host && port.is_none_or(|port| port.is_empty() || port.parse::<u16>().is_ok())
}

fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

pub(super) fn token(section: &Section<'_>, key: &'static str) -> Secret {
    let written = section.text_or_empty(key);
    let token = Secret::new(variables::expand(&written, section.report.env));
    if written.trim().is_empty() {
        section.problem(Severity::Error, key, "is missing: GitLab gives jobs only to runners with a token");
    } else if token.expose().trim().is_empty() {
        section.problem(Severity::Error, key, "is empty after expansion: set the variable");
    } else if token.expose().chars().any(|character| character.is_whitespace() || character.is_control()) {
        section.problem(Severity::Error, key, "holds a blank or the end of a line, which no token does");
    }
    token
}

pub(super) fn executor(section: &Section<'_>, key: &'static str) -> String {
    let executor = section.text_or_empty(key);
    match executor.as_str() {
        "kubernetes" => {}
        "" => section.problem(Severity::Error, key, "is missing: set it to \"kubernetes\""),
        other => section.problem(
            Severity::Error,
            key,
            format!("{other:?} is not supported: this runner runs jobs on Kubernetes only (executor = \"kubernetes\")"),
        ),
    }
    executor
}

pub(super) fn builds_dir(section: &Section<'_>, key: &'static str) -> String {
    let directory = section.text(key).unwrap_or_else(|| "/builds".to_owned());
    if !directory.starts_with('/') || directory.trim_end_matches('/').is_empty() {
        section.problem(Severity::Error, key, "must be an absolute path below /, such as /builds");
    } else if reserved::is_own_path(&directory) {
        let message = format!("{directory:?} is where the runner has its own files: choose another, such as /builds");
        section.problem(Severity::Error, key, message);
    }
    directory
}

/// Nothing is expanded in it, and without a scheme the reference does not take it either.
pub(super) fn clone_url(section: &Section<'_>, key: &'static str) -> Option<String> {
    let url = section.text(key)?;
    if !url.contains("://") {
        let message = "has no effect: it must begin with http://, https:// or ssh://, and variables are not expanded";
        section.problem(Severity::Warning, key, message);
    }
    Some(url)
}

/// The file says KiB.
pub(super) fn output_limit(section: &Section<'_>, key: &'static str) -> u64 {
    section.positive::<u64>(key).map_or(DEFAULT_OUTPUT_LIMIT, |kib| kib.saturating_mul(1024))
}

pub(super) fn shell(section: &Section<'_>, key: &'static str) -> Shell {
    let name = section.text_or_empty(key);
    match name.as_str() {
        "" | "bash" => Shell::Bash,
        "sh" => Shell::Sh,
        other => {
            section.problem(Severity::Error, key, format!("{other:?} is not supported: use \"bash\" or \"sh\""));
            Shell::Bash
        }
    }
}

/// `KEY=value` texts; others are left out, as in the reference, but not silently.
pub(in crate::settings) fn environment(section: &Section<'_>, key: &'static str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for found in section.items(key, "a list of \"KEY=value\"") {
        let Some(text) = found.text() else { continue };
        match text.split_once('=') {
            Some((key, value)) => pairs.push((key.to_owned(), value.to_owned())),
            None => found.problem(Severity::Warning, "has no '=' and is left out: write \"KEY=value\""),
        }
    }
    pairs
}

/// Variables for jobs. Flags and settings among them that do nothing are said here, where their
/// operator looks.
pub(super) fn job_environment(section: &Section<'_>, key: &'static str) -> Vec<(String, String)> {
    for found in section.items(key, "a list of \"KEY=value\"") {
        let Some((name, value)) = found.text().as_deref().and_then(|text| text.split_once('=')).map(owned) else {
            continue;
        };
        let of_flag = feature_flags::find(&name).and_then(|flag| flag.remark(parse_bool(&value)?));
        let of_variable =
            job_variables::find(&name).filter(|_| !value.is_empty()).and_then(|known| known.effect.remark());
        if let Some(remark) = of_flag.or(of_variable) {
            found.problem(Severity::Warning, format!("{name} is {remark}"));
        }
    }
    environment(section, key)
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

pub(super) fn feature_flags(section: &Section<'_>, key: &'static str) -> BTreeMap<String, bool> {
    for (name, found) in section.entries(key) {
        let Some(flag) = feature_flags::find(&name) else {
            let hint = nearest(&name, FLAGS.iter().map(|flag| flag.name)).map(|near| format!("did you mean {near}?"));
            let what = ("unknown feature flag".to_owned(), hint);
            found.report.add_with_hint(Severity::Warning, found.at, &found.path, what);
            continue;
        };
        let DeValue::Boolean(value) = found.value else { continue };
        if let Some(remark) = flag.remark(*value) {
            found.problem(Severity::Warning, remark);
        }
    }
    section.bool_map(key)
}

/// A point in time; `None` for the zero time of Go, the first of January of the year 1, which the
/// reference writes for "never".
pub(super) fn time(section: &Section<'_>, key: &'static str) -> Option<Timestamp> {
    /// The first second of the year 2 is later than any zero time in any zone.
    const YEAR_TWO: i64 = -62_104_060_800;
    let found = section.find(key)?;
    let written = match found.value {
        DeValue::Datetime(written) => format!("{written}{}", if written.offset.is_some() { "" } else { "Z" }),
        // The reference reads dates from strings too.
        DeValue::String(text) => text.to_string(),
        _ => return found.wrong("a date and time"),
    };
    match written.parse::<Timestamp>() {
        Ok(time) => Some(time).filter(|time| time.as_second() > YEAR_TWO),
        Err(_) => found.wrong("a date and time such as 2026-01-02T03:04:05Z"),
    }
}

#[cfg(test)]
mod tests {
    use super::has_host;

    #[test]
    fn hosts_of_addresses() {
        for good in [
            "https://gitlab.example.com",
            "http://172.20.5.54/",
            "https://user:pa:ss@gitlab.example.com:8443/gitlab/",
            "http://[fd00::1]:8080/x",
            "https://gitlab:",
            "HTTP://gitlab/?x",
        ] {
            assert!(has_host(good), "{good}");
        }
        for bad in [
            "https://",
            "http://:80",
            "http://[bad",
            "http://[x]/",
            "https://gitlab:99999",
            "https://a b/",
            "https://user@/x",
        ] {
            assert!(!has_host(bad), "{bad}");
        }
    }
}
