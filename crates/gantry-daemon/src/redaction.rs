//! What no output of this process may show: the secrets of jobs that run, its own, and passwords in
//! URLs. One place for log, metrics and health, whoever words a line: an API server repeats what it
//! refuses, a library what it was given.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use gantry_core::Secret;
use gantry_core::redactor::{self, Redactor};

static KNOWN: RwLock<BTreeMap<u64, KnownSecrets>> = RwLock::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

struct KnownSecrets {
    /// The job they belong to; those of the process belong to none.
    job: Option<i64>,
    secrets: Redactor,
}

/// Secrets that are looked for as long as this lives.
#[derive(Debug)]
pub struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        KNOWN.write().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Keeps `secrets` out of all output, in the log above all out of lines with the field `job` of
/// that job.
pub fn guard<'s>(job: Option<i64>, secrets: impl IntoIterator<Item = &'s Secret>) -> Arc<Guard> {
    let known = KnownSecrets { job, secrets: Redactor::new(secrets) };
    let key = NEXT.fetch_add(1, Ordering::Relaxed);
    KNOWN.write().unwrap_or_else(PoisonError::into_inner).insert(key, known);
    Arc::new(Guard(key))
}

/// `text` without any secret that is guarded now, and without passwords in URLs. A line about a job
/// has only secrets of that job.
pub fn redact(job: Option<i64>, text: &str) -> Cow<'_, str> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let concerns = |entry: &&KnownSecrets| job.is_none() || entry.job.is_none() || entry.job == job;
    redactor::redact(known.values().filter(concerns).map(|entry| &entry.secrets), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_kept_out_while_they_are_guarded() {
        let guarded = guard(Some(-7), &[Secret::new("canary-of-seven")]);
        assert_eq!(redact(Some(-7), "a canary-of-seven"), "a [MASKED]");
        assert_eq!(redact(None, "a canary-of-seven"), "a [MASKED]");
        assert_eq!(redact(Some(-8), "a canary-of-seven"), "a canary-of-seven", "another job's");
        drop(guarded);
        assert_eq!(redact(None, "a canary-of-seven"), "a canary-of-seven");
        let _own = guard(None, &[Secret::new("canary-of-all")]);
        assert_eq!(redact(Some(-8), "canary-of-all"), "[MASKED]");
        assert_eq!(redact(None, "through http://u:hunter2@proxy:1"), "through http://[MASKED]@proxy:1");
    }
}
