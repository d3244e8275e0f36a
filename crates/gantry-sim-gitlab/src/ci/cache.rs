//! `cache`: one cache or a list of them.

use super::artifacts::WHEN;
use super::field::Field;
use super::model::{CiCache, Repository};
use super::node::Value;
use super::problem::Report;

/// How many caches a job may have; GitLab's limit.
const MAX_CACHES: usize = 4;

/// How many files `key:files` and how many keys `fallback_keys` may name; GitLab's limits.
const MAX_KEY_FILES: usize = 2;
const MAX_FALLBACK_KEYS: usize = 5;

const KEYS: &[&str] = &["key", "fallback_keys", "paths", "untracked", "policy", "when", "unprotect"];
const POLICIES: &[&str] = &["pull-push", "push", "pull"];

/// Reads `cache`.
pub(super) fn read(field: &Field<'_>, repository: &dyn Repository, report: &mut Report) -> Vec<CiCache> {
    match &field.node.value {
        Value::Map(map) if map.is_empty() => Vec::new(),
        Value::Map(_) => one(field, repository, report).into_iter().collect(),
        Value::List(items) => {
            if items.len() > MAX_CACHES {
                field.problem(report, &format!("config no more than {MAX_CACHES} caches can be created"));
            }
            let items = field.flat_items().into_iter();
            items.take(MAX_CACHES).filter_map(|item| one(&item, repository, report)).collect()
        }
        _ => {
            field.expected(report, "a hash or an array of them");
            Vec::new()
        }
    }
}

fn one(field: &Field<'_>, repository: &dyn Repository, report: &mut Report) -> Option<CiCache> {
    field.map_of(report, KEYS)?;
    let texts = |key: &str, report: &mut Report| field.get(key).and_then(|list| list.texts(report)).unwrap_or_default();
    let fallback_keys = texts("fallback_keys", report);
    if let Some(list) = field.get("fallback_keys").filter(|_| fallback_keys.len() > MAX_FALLBACK_KEYS) {
        list.problem(report, &format!("config is too long: at most {MAX_FALLBACK_KEYS} keys"));
    }
    let paths = texts("paths", report);
    Some(CiCache {
        key: field
            .get("key")
            .and_then(|key| cache_key(&key, repository, report))
            .unwrap_or_else(|| "default".to_owned()),
        fallback_keys,
        paths,
        untracked: field.get("untracked").and_then(|flag| flag.flag(report)).unwrap_or(false),
        policy: field
            .get("policy")
            .and_then(|policy| cache_policy(&policy, report))
            .unwrap_or_else(|| "pull-push".to_owned()),
        when: field.get("when").and_then(|when| when.one_of(report, WHEN)).unwrap_or_else(|| "on_success".to_owned()),
        unprotect: field.get("unprotect").and_then(|flag| flag.flag(report)).unwrap_or(false),
    })
}

/// A policy with variables is checked by the runner, after expansion.
fn cache_policy(field: &Field<'_>, report: &mut Report) -> Option<String> {
    match field.as_text() {
        Some(text) if text.contains('$') => Some(text.to_owned()),
        _ => field.one_of(report, POLICIES),
    }
}

fn cache_key(field: &Field<'_>, repository: &dyn Repository, report: &mut Report) -> Option<String> {
    if field.node.as_map().is_none() {
        let Some(key) = field.alphanumeric(report) else {
            field.expected(report, "a hash or a string");
            return None;
        };
        if key.contains('/') || key.to_ascii_lowercase().contains("%2f") || key.chars().all(|c| c == '.') {
            field.problem(report, "config should contain neither `/` nor only dots");
        }
        return Some(key);
    }
    field.map_of(report, &["files", "files_commits", "prefix"])?;
    let prefix = field.get("prefix").and_then(|prefix| prefix.text(report));
    let Some(list) = field.get("files").or_else(|| field.get("files_commits")) else {
        field.problem(report, "config should have `files` or `files_commits`");
        return None;
    };
    let files = list.texts(report)?;
    if files.is_empty() || files.len() > MAX_KEY_FILES {
        list.problem(report, &format!("config should have 1 to {MAX_KEY_FILES} files"));
    }
    let contents: Vec<String> = files.iter().take(MAX_KEY_FILES).filter_map(|file| repository.file(file)).collect();
    let hash = if contents.is_empty() { "default".to_owned() } else { fingerprint(&contents) };
    Some(prefix.map_or_else(|| hash.clone(), |prefix| format!("{prefix}-{hash}")))
}

/// A short name for the contents of files (FNV-1a, 64 bits). GitLab hashes the commits that changed
/// the files; the effect is the same, a new key for a new content, and it needs no history.
fn fingerprint(contents: &[String]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in contents.iter().flat_map(|text| text.bytes().chain([0xff])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}
