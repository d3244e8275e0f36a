//! Keys of caches and the names that become of them (GitLab Runner 19.4, `cache/cachekey`).

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// A key that can name an object and a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// As people read it.
    pub(crate) shown: String,
    /// How the cache is named.
    pub(crate) name: Name,
    /// How it was named while `FF_HASH_CACHE_KEYS` was the other way round.
    pub(crate) other_name: Option<Name>,
}

/// A key as part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Readable(String),
    /// SHA-256, hexadecimal.
    Hashed(String),
}

/// What became of the text of a key.
pub(crate) struct Made {
    pub(crate) key: Option<Key>,
    /// What the job's author should know.
    pub(crate) warning: Option<String>,
}

/// Makes a key of `raw`, which is expanded.
pub(crate) fn key(raw: &str, hashed: bool) -> Made {
    let clean = sanitized(raw);
    if hashed {
        let other_name = (!clean.is_empty() && !is_long(&clean)).then_some(Name::Readable(clean));
        let name = Name::Hashed(hash(raw));
        return Made { key: Some(Key { shown: raw.to_owned(), name, other_name }), warning: None };
    }
    if clean.is_empty() {
        return Made { key: None, warning: Some(format!("cache key {raw:?} could not be sanitized")) };
    }
    let warning = (clean != raw).then(|| format!("cache key {raw:?} sanitized to {clean:?}"));
    if is_long(&clean) {
        return Made { key: Some(Key { shown: clean, name: Name::Hashed(hash(raw)), other_name: None }), warning };
    }
    let other_name = Some(Name::Hashed(hash(raw)));
    Made { key: Some(Key { shown: clean.clone(), name: Name::Readable(clean), other_name }), warning }
}

/// The key of a cache that names none: job and ref below a root that `..` does not leave.
pub(crate) fn default_key(job: &str, git_ref: &str) -> String {
    cleaned(&format!("{job}/{git_ref}")).join("/")
}

/// Whether a key would read the cache of protected branches: GitLab marks those with this ending.
/// So does one that becomes such a name.
pub(crate) fn is_protected(key: &str) -> bool {
    let is = |key: &str| key.trim_end_matches(|c: char| c == '.' || c.is_whitespace()).ends_with("-protected");
    is(key) || is(&sanitized(key))
}

/// Most of a key that can name an object, whose whole name may have 1024 bytes, and of a part of
/// one, which names a directory on volumes and in some stores.
const LONGEST: usize = 900;
const LONGEST_PART: usize = 255;

/// Whether a key is too long to be a name. The reference keeps no cache of such a one.
fn is_long(key: &str) -> bool {
    key.len() > LONGEST || key.split('/').any(|part| part.len() > LONGEST_PART)
}

fn hash(raw: &str) -> String {
    Sha256::digest(raw.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A relative path without `.`, `..`, empty parts and blanks at its end.
fn sanitized(raw: &str) -> String {
    let mut text = raw.to_owned();
    for (written, meant) in [("%2f", "/"), ("%2F", "/"), ("%2e", "."), ("%2E", "."), ("\\", "/")] {
        text = text.replace(written, meant);
    }
    let mut parts = cleaned(&text);
    while let Some(last) = parts.pop() {
        let last = last.trim_end();
        if !last.is_empty() {
            parts.push(last);
            break;
        }
    }
    parts.join("/")
}

/// The parts of a path below a root that `..` does not leave.
fn cleaned(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference's own samples.
    #[test]
    fn keys_become_paths() {
        for (raw, clean) in [
            ("a/b/c/../../d", "a/d"),
            ("../foo", "foo"),
            ("foo/ /", "foo"),
            (" foo / bar ", " foo / bar"),
            ("...", "..."),
            ("%5C", "%5C"),
            ("a%2Fb\\c", "a/b/c"),
            ("key", "key"),
        ] {
            let made = key(raw, false);
            assert_eq!(made.key.as_ref().map(|key| key.shown.as_str()), Some(clean), "{raw}");
            assert_eq!(made.warning.is_some(), raw != clean, "{raw}");
        }
        for raw in ["%2E%2E", "..", "/", " ", ""] {
            let made = key(raw, false);
            assert!(made.key.is_none() && made.warning.is_some(), "{raw}");
        }
    }

    #[test]
    fn hashed_keys_know_their_readable_names() {
        let hashed = key("../foo", true).key.unwrap();
        let Name::Hashed(hash) = &hashed.name else { panic!("{hashed:?}") };
        assert_eq!((hash.len(), hashed.other_name), (64, Some(Name::Readable("foo".to_owned()))));
        let readable = key("../foo", false).key.unwrap();
        assert_eq!(readable.other_name, Some(Name::Hashed(hash.clone())));
        // From `printf abc | sha256sum`.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(key("abc", true).key.unwrap().name, Name::Hashed(known.to_owned()));
    }

    #[test]
    fn keys_that_are_too_long_for_a_name_are_hashed() {
        for raw in ["k".repeat(1000), "k".repeat(256), "k/".repeat(451)] {
            let Key { name, other_name, .. } = key(&raw, false).key.unwrap();
            let Name::Hashed(hash) = &name else { panic!("{name:?}") };
            assert_eq!((hash.len(), other_name), (64, None));
            assert_eq!(key(&raw, true).key.map(|key| (key.name, key.other_name)), Some((name, None)));
        }
        let longest = format!("{}/{}", "k".repeat(255), "l".repeat(255));
        assert_eq!(key(&longest, false).key.unwrap().name, Name::Readable(longest));
    }

    #[test]
    fn keys_of_protected_branches_are_seen_through() {
        for key in
            ["x-protected", "x-protected.", "x-protected . ", "x-protected/", "x-protected%2F.", "x-protected/y/.."]
        {
            assert!(is_protected(key), "{key}");
        }
        assert!(!is_protected("x-non_protected") && !is_protected("-protected-x"));
    }

    #[test]
    fn a_cache_without_a_key_is_named_by_job_and_ref() {
        assert_eq!(default_key("build", "feature/x"), "build/feature/x");
        assert_eq!(default_key("../..", "main"), "main");
    }
}
