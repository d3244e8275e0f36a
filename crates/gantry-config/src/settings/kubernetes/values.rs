//! Values of `[runners.kubernetes]` that are read by rules of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use gantry_core::Secret;
use toml::de::DeValue;

use super::{PULL_POLICIES, PullPolicy};
use crate::names::{
    EFFECTS, LABEL_NAME, LABEL_VALUE, has_variable, is_annotation_name, is_dns_label, is_label_name, is_label_value,
    is_own_annotation, is_own_label, not_tolerable,
};
use crate::nearest::nearest;
use crate::problem::Severity;
use crate::section::{Located, Section};
use crate::words;

pub(super) fn namespace(section: &Section<'_>, key: &'static str) -> Option<String> {
    let name = section.text(key)?;
    if !is_dns_label(&name) {
        let more = if has_variable(&name) { ", and no variable is put in here" } else { "" };
        let text = format!(
            "{name:?} cannot be a namespace: those have up to 63 lower-case letters, digits and inner dashes{more}"
        );
        section.problem(Severity::Error, key, text);
    }
    Some(name)
}

/// Without a scheme it is https.
pub(super) fn host(section: &Section<'_>, key: &'static str) -> Option<String> {
    let host = section.text(key)?;
    let (scheme, place) = host.split_once("://").unwrap_or(("https", &host));
    let is_known = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    if !is_known || place.is_empty() || place.starts_with(['/', ':']) || place.contains(char::is_whitespace) {
        // It is not shown: there may be a password in it.
        section.problem(Severity::Error, key, "is no address of an API server: write https://<host>:<port>");
    }
    Some(host)
}

/// A client certificate makes sense only with its key and an authority.
pub(super) fn cert_file(section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
    let file = section.text(key)?;
    if section.text("key_file").is_none() || section.text("ca_file").is_none() {
        section.problem(Severity::Error, key, "a client certificate needs key_file and ca_file too");
    }
    Some(PathBuf::from(file))
}

/// A key makes sense only with its certificate.
pub(super) fn key_file(section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
    let file = section.text(key)?;
    if section.text("cert_file").is_none() {
        section.problem(Severity::Error, key, "the key of a client certificate needs cert_file too");
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

/// Flavours of GitLab's helper image, some of them with a version behind (GitLab Runner 19.4).
const FLAVORS: [&str; 4] = ["alpine", "ubuntu", "ubi-fips", "concrete"];

/// Another one is only a warning: there may be one later.
pub(super) fn helper_image_flavor(section: &Section<'_>, key: &'static str) -> Option<String> {
    let flavor = section.text(key)?;
    if !has_variable(&flavor) && !FLAVORS.iter().any(|known| flavor.starts_with(known)) {
        let message = format!(
            "{flavor:?} is no flavour of GitLab's helper image that this version knows: there are {}",
            FLAVORS.join(", ")
        );
        section.problem(Severity::Warning, key, message);
    }
    Some(flavor)
}

/// One word or a list of words.
pub(super) fn pull_policies(section: &Section<'_>, key: &'static str) -> Vec<PullPolicy> {
    let Some(found) = section.find(key) else { return Vec::new() };
    let read = |found: &Located<'_>| words::one(found, &found.text()?, PULL_POLICIES, (Severity::Error, ""));
    let list: Vec<PullPolicy> = match found.value {
        DeValue::String(_) => read(&found).into_iter().collect(),
        _ => section.items(key, "a string or a list of strings").iter().filter_map(read).collect(),
    };
    let says_nothing = list.iter().all(|policy| *policy == PullPolicy::ClusterDefault);
    if says_nothing { Vec::new() } else { list }
}

/// Ids written as texts; others are left out, as in the reference, but not silently. A list in
/// which nothing is left allows nobody, and an empty one is no list.
pub(super) fn ids(section: &Section<'_>, key: &'static str) -> Option<Vec<i64>> {
    let mut ids = Vec::new();
    let list = section.items(key, "a list of ids as strings");
    for found in &list {
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
    (!list.is_empty()).then_some(ids)
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
        if let Some(value) = labels.get(&name).filter(|value| !is_label_value(value)) {
            found.problem(Severity::Error, format!("{value:?} {LABEL_VALUE}"));
        }
    }
    if labels.get("kubernetes.io/os").is_some_and(|system| system == "windows") {
        let message = "selects nodes of Windows, where no job of this runner can run: it needs bash or sh, and a helper for Linux";
        section.problem(Severity::Error, key, message);
    }
    labels
}

/// Labels of pods. The runner's own are no operator's to set.
pub(super) fn pod_labels(section: &Section<'_>, key: &'static str) -> BTreeMap<String, String> {
    let labels = named_like_labels(section, key);
    for (name, found) in section.entries(key) {
        if is_own_label(&name) {
            found.problem(Severity::Warning, OWN);
        }
    }
    labels
}

/// Annotations of pods. The reference lets operators replace its own.
pub(super) fn pod_annotations(section: &Section<'_>, key: &'static str) -> BTreeMap<String, String> {
    let annotations = section.text_map(key);
    for (name, found) in section.entries(key) {
        if is_own_annotation(&name) {
            found.problem(Severity::Warning, OWN);
        } else if annotations.contains_key(&name) && !is_annotation_name(&name) {
            found.problem(Severity::Error, not_a_label_name(&name));
        }
    }
    annotations
}

const OWN: &str = "has no effect: the runner sets it itself";

/// What is wrong with the name of a label. Flags and variables take `name:value`, so that a pair
/// with `=` is a name as a whole.
fn not_a_label_name(name: &str) -> String {
    match name.split_once('=') {
        Some((name, value)) => format!("{LABEL_NAME}; is {name}:{value} meant?"),
        None => LABEL_NAME.to_owned(),
    }
}

/// A table whose keys are names of labels or annotations.
fn named_like_labels(section: &Section<'_>, key: &'static str) -> BTreeMap<String, String> {
    let map = section.text_map(key);
    for (name, found) in section.entries(key) {
        // Those of the reference's own domain are left out of pods, however they are written.
        let is_left_out = name.to_ascii_lowercase().contains("runner.gitlab.com/");
        if map.contains_key(&name) && !is_left_out && !is_label_name(&name) {
            found.problem(Severity::Error, not_a_label_name(&name));
        }
    }
    map
}

/// `"key=value" = "Effect"`, or `"key" = "Effect"`; an empty key tolerates everything.
pub(super) fn node_tolerations(section: &Section<'_>, key: &'static str) -> BTreeMap<String, String> {
    let map = section.text_map(key);
    for (taint, found) in section.entries(key) {
        let Some(effect) = map.get(&taint) else { continue };
        if let Some(message) = not_tolerable(&taint, effect) {
            let hint = nearest(effect, EFFECTS).filter(|_| !EFFECTS.contains(&effect.as_str()));
            let hint = hint.map(|near| format!("did you mean {near}?"));
            found.report.add_with_hint(Severity::Error, found.at, &found.path, (message, hint));
        }
    }
    map
}
