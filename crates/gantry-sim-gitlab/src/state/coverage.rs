//! The coverage that a job's log tells (`coverage`). Pure.

use std::sync::LazyLock;

use regex::Regex;

use super::job::{Job, Source};

/// The time stamp and stream before the text of a line (GitLab's timestamped logs).
static STAMP: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [0-9a-f]{2}[OE][ +]").ok());

static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\d+(?:\.\d+)?").ok());

impl Job {
    /// The number that the job's pattern finds last in its log.
    pub(crate) fn read_coverage(&self) -> Option<f64> {
        let Source::Pipeline { job, .. } = &self.new.source else { return None };
        let pattern = Regex::new(job.coverage.as_ref()?).ok()?;
        let log = String::from_utf8_lossy(self.trace.from(0));
        log.lines().rev().find_map(|line| {
            let start = STAMP.as_ref().and_then(|stamp| stamp.find(line)).map_or(0, |found| found.end());
            let found = pattern.captures_iter(line.get(start..)?).last()?;
            let groups = found.iter().skip(1).flatten().last();
            let text = groups.or_else(|| found.get(0))?.as_str();
            NUMBER.as_ref()?.find(text)?.as_str().parse().ok()
        })
    }
}
