//! The jobs of one harm: queued, read along with, and judged.

use std::time::Duration;

use anyhow::Context as _;
use http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::lines::{Compared, compare, numbers};
use super::stage::Stage;
use super::table::Row;
use super::watch::Watch;
use crate::commands::sim_api::SimApi;
use crate::commands::stamped_line::StampedLine;

/// Lines that a job prints in a second: every shell and `sleep` can do that.
const LINES_A_SECOND: u32 = 10;

/// Between two looks, as a browser that shows a log.
const LOOK: Duration = Duration::from_secs(1);

/// How long a job may take beyond its printing: images are pulled, harms last, and GitLab asks
/// again.
const BOUND: Duration = Duration::from_mins(15);

/// How long pods may take to go after the last job has ended.
const LEFTOVERS: Duration = Duration::from_secs(90);

/// A job as the simulated GitLab shows it.
#[derive(Clone, Debug, Deserialize)]
struct Job {
    id: u64,
    name: String,
    status: String,
    failure_reason: Option<String>,
    attempt: u32,
}

impl Job {
    fn is_final(&self) -> bool {
        matches!(self.status.as_str(), "success" | "failed" | "canceled" | "skipped")
    }
}

/// How many there are, and what they do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) jobs: u32,
    pub(super) seconds: u32,
}

/// The jobs of one harm.
pub(super) struct Jobs {
    last: u32,
    /// Names, by which GitLab's further tries are found, and what their readers see.
    followed: Vec<(String, Watch)>,
}

impl Jobs {
    /// Puts them into the queue.
    pub(super) async fn start(gitlab: &SimApi, name: &str, size: Size, image: Option<&str>) -> anyhow::Result<Self> {
        let last = size.seconds.saturating_mul(LINES_A_SECOND).max(1);
        let print = format!("i=0; while [ $i -lt {last} ]; do i=$((i+1)); echo \"line $i\"; sleep 0.1; done");
        let mut followed = Vec::new();
        for number in 0..size.jobs {
            let name = format!("{name} {number}");
            let mut job = json!({"name": name, "watched": true,
                "variables": [{"key": "GIT_STRATEGY", "value": "none"}],
                "image": {"name": image.unwrap_or_default()},
                "steps": [{"name": "script", "script": [print, "echo the end"]}]});
            if image.is_none() {
                job["image"] = json!({});
            }
            gitlab.ask(Method::POST, "/sim/jobs", Some(&job)).await?;
            followed.push((name, Watch::new(Instant::now())));
        }
        Ok(Self { last, followed })
    }

    async fn all(gitlab: &SimApi) -> anyhow::Result<Vec<Job>> {
        let jobs = gitlab.ask(Method::GET, "/sim/jobs", None).await?;
        serde_json::from_slice(&jobs).context("the simulated GitLab's answer is not a list of jobs")
    }

    async fn text(gitlab: &SimApi, job: u64) -> anyhow::Result<String> {
        let raw = gitlab.ask(Method::GET, &format!("/sim/jobs/{job}/trace"), None).await?;
        Ok(plain(&String::from_utf8_lossy(&raw)))
    }

    /// The last try of each.
    async fn newest(&self, gitlab: &SimApi) -> anyhow::Result<Vec<Job>> {
        let all = Self::all(gitlab).await?;
        let newest = |(name, _): &(String, Watch)| {
            let tries = all.iter().filter(|job| job.name == *name);
            tries.max_by_key(|job| job.attempt).cloned().with_context(|| format!("GitLab has lost job {name}"))
        };
        self.followed.iter().map(newest).collect()
    }

    /// Waits until so many of them print.
    ///
    /// # Errors
    /// One ends before, with the end of its log, or it takes too long.
    pub(super) async fn print(&self, gitlab: &SimApi, wanted: usize) -> anyhow::Result<()> {
        let until = Instant::now() + BOUND;
        loop {
            let mut print = 0;
            for job in self.newest(gitlab).await? {
                let text = Self::text(gitlab, job.id).await?;
                print += usize::from(text.contains("\nline 1\n"));
                let is_useless = job.status == "failed" && numbers(&text).next().is_none();
                anyhow::ensure!(!is_useless, "a job fails before anything is done to it ({job:?}):\n{text}");
            }
            if print >= wanted.min(self.followed.len()) {
                return Ok(());
            }
            let minutes = BOUND.as_secs() / 60;
            anyhow::ensure!(Instant::now() < until, "after {minutes} minutes only {print} jobs print");
            sleep(LOOK).await;
        }
    }

    /// Reads along until all have ended, or nobody waits any longer.
    pub(super) async fn read_along(&mut self, gitlab: &SimApi) -> anyhow::Result<()> {
        let until = Instant::now() + BOUND;
        loop {
            let jobs = self.newest(gitlab).await?;
            let is_over = jobs.iter().all(Job::is_final) || Instant::now() >= until;
            for ((_, watch), job) in self.followed.iter_mut().zip(&jobs) {
                if !watch.is_over() {
                    let text = Self::text(gitlab, job.id).await?;
                    watch.look(&text, job.is_final() || is_over, Instant::now());
                }
            }
            if is_over {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    /// Counts what is wrong.
    pub(super) async fn judge(&self, stage: &Stage, mut row: Row) -> anyhow::Result<Row> {
        let gitlab = &stage.gitlab;
        row.jobs = u32::try_from(self.followed.len()).unwrap_or(u32::MAX);
        row.gap = self.followed.iter().map(|(_, watch)| watch.gap()).max().unwrap_or_default();
        let all = Self::all(gitlab).await?;
        for job in self.newest(gitlab).await? {
            let text = Self::text(gitlab, job.id).await?;
            let Compared { missing, mut doubled } = compare(&text, job.is_final().then_some(self.last));
            for earlier in all.iter().filter(|other| other.name == job.name && other.id != job.id) {
                let twice = numbers(&Self::text(gitlab, earlier.id).await?).count();
                doubled += u32::try_from(twice).unwrap_or(u32::MAX);
                row.again += 1;
            }
            row.lost += u32::from(!job.is_final());
            row.wrong += u32::from(job.is_final() && job.status != "success");
            (row.missing, row.doubled) = (row.missing + missing, row.doubled + doubled);
            if (job.status != "success" || missing + doubled > 0) && row.why.is_none() {
                let reason = job.failure_reason.as_deref().unwrap_or("-");
                let end: Vec<&str> = text.lines().rev().take(4).collect();
                row.why = Some(format!("{}: {} ({reason}), ends with {end:?}", job.name, job.status));
            }
        }
        row.pods = left(stage).await?;
        Ok(row)
    }
}

/// Pods that nobody removes.
async fn left(stage: &Stage) -> anyhow::Result<u32> {
    let until = Instant::now() + LEFTOVERS;
    loop {
        let pods = stage.pods().await?.len();
        if pods == 0 || Instant::now() >= until {
            return Ok(u32::try_from(pods).unwrap_or(u32::MAX));
        }
        sleep(LOOK).await;
    }
}

/// A log without the time stamps that its lines begin with.
fn plain(log: &str) -> String {
    let text = |line| StampedLine::read(line).map_or(line, |stamped| stamped.text);
    log.lines().flat_map(|line| [text(line), "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_behind_their_stamps() {
        let log = "2026-01-02T03:04:05.000000Z 01O \x1b[0;m\n2026-01-02T03:04:05.000000Z 01O line 1\nline 2\n";
        let text = plain(log);
        assert!(text.contains("\nline 1\n"));
        assert_eq!(compare(&text, Some(3)), Compared { missing: 1, doubled: 0 });
        assert_eq!(compare("line 1\nline 3\nline 3\nline 2\n", None), Compared { missing: 1, doubled: 2 });
    }
}
