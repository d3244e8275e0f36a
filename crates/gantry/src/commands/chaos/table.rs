//! What became of the jobs of each kind of harm, as a table.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::ensure;

/// One kind of harm.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) harm: &'static str,
    pub(crate) times: u32,
    pub(crate) jobs: u32,
    /// Jobs that have no end.
    pub(crate) lost: u32,
    /// Jobs that did not end as they should.
    pub(crate) wrong: u32,
    /// Lines that are not in a log, and those that are there once too often or in a wrong place.
    pub(crate) missing: u32,
    pub(crate) doubled: u32,
    /// Pods that nobody has removed.
    pub(crate) pods: u32,
    /// Tries of jobs of which nothing had run when their manager went, so that GitLab has tried
    /// them again.
    pub(crate) again: u32,
    /// The longest time in which a reader saw nothing new of a job that printed, the harm's own
    /// time included.
    pub(crate) gap: Duration,
    /// The first thing that was wrong.
    pub(crate) why: Option<String>,
}

impl Row {
    /// Nothing is wrong yet.
    pub(crate) fn new(harm: &'static str, times: u32) -> Self {
        let [jobs, lost, wrong, missing, doubled, pods, again] = [0; 7];
        Self { harm, times, jobs, lost, wrong, missing, doubled, pods, again, gap: Duration::ZERO, why: None }
    }

    /// Whether nothing was harmed.
    pub(crate) fn verdict(&self) -> anyhow::Result<()> {
        let sum = self.lost + self.wrong + self.missing + self.doubled + self.pods;
        ensure!(sum == 0, "{}: {self:?}", self.why.as_deref().unwrap_or("the harm was not survived"));
        Ok(())
    }
}

/// The table of all harms.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:52} {:>5} {:>5} | {:>5} {:>6} {:>8} {:>8} {:>5} | {:>5} {:>7}\n",
        "harm", "times", "jobs", "lost", "wrong", "missing", "doubled", "pods", "again", "gap s"
    );
    for row in rows {
        let Row { harm, times, jobs, lost, wrong, missing, doubled, pods, again, gap, .. } = row;
        let gap = gap.as_secs_f32();
        let _ = writeln!(
            text,
            "{harm:52} {times:>5} {jobs:>5} | {lost:>5} {wrong:>6} {missing:>8} {doubled:>8} {pods:>5} | {again:>5} {gap:>7.1}"
        );
    }
    text
}
