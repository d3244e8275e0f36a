//! Counts what API servers answer, for a metric: one process, one count, whatever the number of
//! clusters.

use std::sync::atomic::{AtomicU64, Ordering};

/// The words of the metric, and how often each was answered so far. A refusal is told apart from
/// other mistakes: it is a matter of rights and quotas. A connection that is switched to another
/// protocol (101), as for `exec`, is one that worked.
static COUNTS: [(&str, AtomicU64); 8] = [
    ("2xx", AtomicU64::new(0)),
    ("3xx", AtomicU64::new(0)),
    ("403", AtomicU64::new(0)),
    ("409", AtomicU64::new(0)),
    ("4xx", AtomicU64::new(0)),
    ("5xx", AtomicU64::new(0)),
    (EXEC, AtomicU64::new(0)),
    ("none", AtomicU64::new(0)),
];

/// Answers so far, by the word of the metric; `none` is no answer at all.
pub fn counts() -> [(&'static str, u64); 8] {
    std::array::from_fn(|at| COUNTS.get(at).map_or(("", 0), |(word, count)| (*word, count.load(Ordering::Relaxed))))
}

/// The word for an exec that came to nothing: into a container that does not run yet it does as a
/// rule, with a 500, since trying is the quickest way to know that it runs.
const EXEC: &str = "exec";

/// Counts an answer, or that there was none.
pub(crate) fn count(status: Option<http::StatusCode>, is_exec: bool) {
    let word = match status.map(|status| status.as_u16()) {
        None => "none",
        Some(403) => "403",
        Some(409) => "409",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(500..) if is_exec => EXEC,
        Some(500..) => "5xx",
        Some(_) => "2xx",
    };
    for (_, count) in COUNTS.iter().filter(|(known, _)| *known == word) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let before = counts();
        for status in [101, 200, 201, 302, 403, 404, 409, 429, 500, 503] {
            count(http::StatusCode::from_u16(status).ok(), false);
        }
        count(Some(http::StatusCode::INTERNAL_SERVER_ERROR), true);
        count(None, true);
        let more =
            counts().iter().zip(before).map(|((word, now), (_, before))| (*word, now - before)).collect::<Vec<_>>();
        // Other tests of the crate count too.
        let least = [("2xx", 3), ("3xx", 1), ("403", 1), ("409", 1), ("4xx", 2), ("5xx", 2), ("exec", 1), ("none", 1)];
        assert!(
            more.iter().zip(least).all(|((word, count), (name, least))| *word == name && *count >= least),
            "{more:?}"
        );
    }
}
