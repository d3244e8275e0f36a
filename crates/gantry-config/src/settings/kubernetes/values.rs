//! Values of `[runners.kubernetes]` that are read by rules of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use gantry_core::Secret;
use toml::de::DeValue;

use super::{PULL_POLICIES, PullPolicy};
use crate::names::{has_variable, is_dns_label, is_label_name, is_label_value};
use crate::nearest::nearest;
use crate::problem::Severity;
use crate::section::{Located, Section};
use crate::words;

pub(super) fn namespace(section: &Section<'_>, key: &'static str) -> Option<String> {
    let name = section.text(key)?;
    // What a variable gives shows with the job.
    if !is_dns_label(&name) && !has_variable(&name) {
        let text =
            format!("{name:?} cannot be a namespace: those have up to 63 lower-case letters, digits and inner dashes");
        section.problem(Severity::Error, key, text);
    }
    Some(name)
}

/// A client certificate makes sense only with its key and an authority.
pub(super) fn cert_file(section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
    let file = section.text(key)?;
    if section.text("key_file").is_none() || section.text("ca_file").is_none() {
        section.problem(Severity::Error, key, "a client certificate needs key_file and ca_file too");
    }
    Some(PathBuf::from(file))
}

pub(super) fn bearer_token(section: &Section<'_>, key: &'static str) -> Option<Secret> {
    let token = section.text(key)?;
    if section.text("host").is_none() {
        section.problem(Severity::Warning, key, "has no effect without host");
    }
    Some(Secret::new(token))
}

/// One word or a list of words.
pub(super) fn pull_policies(section: &Section<'_>, key: &'static str) -> Vec<PullPolicy> {
    let Some(found) = section.find(key) else { return Vec::new() };
    let read = |found: &Located<'_>| words::one(found, &found.text()?, PULL_POLICIES, Severity::Error);
    let list: Vec<PullPolicy> = match found.value {
        DeValue::String(_) => read(&found).into_iter().collect(),
        _ => section.items(key, "a string or a list of strings").iter().filter_map(read).collect(),
    };
    let says_nothing = list.iter().all(|policy| *policy == PullPolicy::ClusterDefault);
    if says_nothing { Vec::new() } else { list }
}

/// Ids written as texts; others are left out, as in the reference, but not silently.
pub(super) fn ids(section: &Section<'_>, key: &'static str) -> Vec<i64> {
    let mut ids = Vec::new();
    for found in section.items(key, "a list of ids as strings") {
        let id = match found.value {
            DeValue::Integer(_) => found.int(),
            _ => match found.text() {
                Some(text) => text.parse().ok(),
                None => continue,
            },
        };
        match id {
            Some(id) if id >= 0 => ids.push(id),
            _ => found.problem(Severity::Warning, "is not a numeric id and is left out"),
        }
    }
    ids
}

pub(super) fn attempts(section: &Section<'_>, key: &'static str) -> u32 {
    /// Where the reference is told a negative number (GitLab Runner 19.4).
    const DEFAULT: u32 = 5;
    let attempts = section.int(key).unwrap_or(0);
    if attempts < 0 { DEFAULT } else { u32::try_from(attempts).unwrap_or(u32::MAX) }
}

pub(super) fn backoff(section: &Section<'_>, key: &'static str) -> Option<Duration> {
    /// The reference waits no less (GitLab Runner 19.4).
    const LEAST: Duration = Duration::from_millis(500);
    let backoff = section.positive::<u32>(key)?;
    Some(Duration::from_millis(backoff.into()).max(LEAST))
}

pub(super) fn retry_limits(section: &Section<'_>, key: &'static str) -> BTreeMap<String, u32> {
    let mut limits = BTreeMap::new();
    for (text, found) in section.entries(key) {
        let Some(tries) = found.int() else { continue };
        if tries < 0 {
            found.problem(Severity::Warning, format!("{tries} is less than 0 and does not count: 0 is in force"));
        }
        limits.insert(text, u32::try_from(tries.max(0)).unwrap_or(u32::MAX));
    }
    limits
}

/// Labels of nodes: an API server refuses pods that ask for what cannot be one.
pub(super) fn node_selector(section: &Section<'_>, key: &'static str) -> BTreeMap<String, String> {
    let labels = named_like_labels(section, key);
    for (name, found) in section.entries(key) {
        if labels.get(&name).is_some_and(|value| !is_label_value(value)) {
            found.problem(Severity::Error, LABEL_VALUE);
        }
    }
    if labels.get("kubernetes.io/os").is_some_and(|system| system == "windows") {
        let message = "selects nodes of Windows, where no job of this runner can run: it needs bash or sh, and a helper for Linux";
        section.problem(Severity::Error, key, message);
    }
    labels
}

const LABEL_NAME: &str =
    "is no name of a label: that is up to 63 letters, digits, '-', '_' and '.', perhaps behind a domain and '/'";
const LABEL_VALUE: &str = "is no value of a label: that is up to 63 letters, digits, '-', '_' and '.'";

/// A table whose keys are names of labels or annotations.
pub(super) fn named_like_labels(section: &Section<'_>, key: &'static str) -> BTreeMap<String, String> {
    let map = section.text_map(key);
    for (name, found) in section.entries(key) {
        // Those of the reference's own domain are left out of pods, however they are written.
        let is_left_out = name.to_ascii_lowercase().contains("runner.gitlab.com/");
        if map.contains_key(&name) && !is_left_out && !is_label_name(&name) {
            found.problem(Severity::Error, LABEL_NAME);
        }
    }
    map
}

/// `"key=value" = "Effect"`, or `"key" = "Effect"`; an empty key tolerates everything.
pub(super) fn node_tolerations(section: &Section<'_>, key: &'static str) -> BTreeMap<String, String> {
    const EFFECTS: [&str; 4] = ["NoSchedule", "PreferNoSchedule", "NoExecute", ""];
    let map = section.text_map(key);
    for (taint, found) in section.entries(key) {
        let Some(effect) = map.get(&taint) else { continue };
        let (name, value) = taint.split_once('=').unwrap_or((&taint, ""));
        if !EFFECTS.contains(&effect.as_str()) {
            let message = format!("{effect:?} is not one of NoSchedule, PreferNoSchedule, NoExecute");
            let hint = nearest(effect, EFFECTS).map(|near| format!("did you mean {near}?"));
            found.report.add_with_hint(Severity::Error, found.at, &found.path, (message, hint));
        } else if !name.is_empty() && !is_label_name(name) {
            found.problem(Severity::Error, LABEL_NAME);
        } else if !is_label_value(value) {
            found.problem(Severity::Error, LABEL_VALUE);
        }
    }
    map
}
