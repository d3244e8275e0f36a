//! What no output of this process may show: the secrets of jobs that run, its own, and passwords in URLs. One place for log, metrics and
//! health, whoever words a line: an API server repeats what it refuses, a library what it was given.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use gantry_core::secret::MASKED;
use gantry_core::{Secret, user_info};

/// Shortest secret that is looked for. GitLab masks nothing shorter than 8 characters; below 4 every line would be full of them.
const SHORTEST: usize = 4;

static KNOWN: RwLock<BTreeMap<u64, Known>> = RwLock::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

struct Known {
    /// The job they belong to; those of the process belong to none.
    job: Option<i64>,
    /// Longest first.
    forms: Vec<Secret>,
}

/// Secrets that are looked for as long as this lives.
#[derive(Debug)]
pub struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        KNOWN.write().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Keeps `secrets` out of all output, in the log above all out of lines with the field `job` of that job.
pub fn guard<'s>(job: Option<i64>, secrets: impl IntoIterator<Item = &'s Secret>) -> Arc<Guard> {
    let mut forms: Vec<Secret> = secrets.into_iter().flat_map(|secret| forms(secret.expose().trim())).collect();
    forms.sort_by(|a, b| b.expose().len().cmp(&a.expose().len()).then_with(|| a.cmp(b)));
    forms.dedup();
    let key = NEXT.fetch_add(1, Ordering::Relaxed);
    KNOWN.write().unwrap_or_else(PoisonError::into_inner).insert(key, Known { job, forms });
    Arc::new(Guard(key))
}

/// A secret as it is, and as it stands in quotation marks.
fn forms(secret: &str) -> impl Iterator<Item = Secret> {
    let quoted = format!("{secret:?}");
    let quoted = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    let forms = [Secret::new(secret), Secret::new(quoted)];
    forms.into_iter().filter(|form| form.expose().len() >= SHORTEST)
}

/// `text` without any secret that is guarded now, and without passwords in URLs. A line about a job has only secrets of that job.
pub fn redact(job: Option<i64>, text: &str) -> Cow<'_, str> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let own = |entry: &&Known| job.is_none() || entry.job.is_none() || entry.job == job;
    let mut present: Vec<&str> = known
        .values()
        .filter(own)
        .flat_map(|entry| &entry.forms)
        .map(Secret::expose)
        .filter(|form| text.contains(form))
        .collect();
    if present.is_empty() {
        return user_info::mask(text);
    }
    present.sort_by_key(|form| std::cmp::Reverse(form.len()));
    Cow::Owned(user_info::mask(&without(text, &present)).into_owned())
}

/// Occurrences that overlap or touch become one, so that no rest of a secret stays beside another.
fn without(text: &str, present: &[&str]) -> String {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for form in present {
        let mut from = 0;
        while let Some(at) = text.get(from..).and_then(|rest| rest.find(form)) {
            let start = from + at;
            spans.push((start, start + form.len()));
            from = start + form.chars().next().map_or(1, char::len_utf8);
        }
    }
    spans.sort_unstable();
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for (start, end) in spans {
        if start >= done {
            out.push_str(text.get(done..start).unwrap_or_default());
            out.push_str(MASKED);
        }
        done = done.max(end);
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_kept_out_while_they_are_guarded() {
        let secrets = [Secret::new("registry.test/canary-1"), Secret::new(" say \"canary-2\" \n"), Secret::new("1")];
        let guarded = guard(Some(-7), &secrets);
        let line = "image \"registry.test/canary-1\": say \"canary-2\" 1";
        assert_eq!(redact(Some(-7), line), "image \"[MASKED]\": [MASKED] 1");
        assert_eq!(redact(None, line), "image \"[MASKED]\": [MASKED] 1");
        assert_eq!(redact(Some(-7), &format!("{:?}", "say \"canary-2\"")), "\"[MASKED]\"");
        assert_eq!(redact(Some(-8), "registry.test/canary-1"), "registry.test/canary-1", "another job's");
        drop(guarded);
        assert_eq!(redact(None, "registry.test/canary-1"), "registry.test/canary-1");
    }

    #[test]
    fn secrets_that_overlap_leave_nothing() {
        let _guarded = guard(Some(-9), &[Secret::new("abcdef"), Secret::new("defghi"), Secret::new("abcd")]);
        assert_eq!(redact(Some(-9), "xabcdefghix abcd abcdabcdef"), "x[MASKED]x [MASKED] [MASKED][MASKED]");
    }

    #[test]
    fn passwords_in_urls_need_no_guard() {
        assert_eq!(redact(None, "through http://u:hunter2@proxy:1"), "through http://[MASKED]@proxy:1");
    }
}
