//! Jobs that print numbered lines, somebody who reads along, and what is counted at the end.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::{Job, RunnerPlacement, World, until};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::lines::{Compared, compare, numbers};
use crate::table::Row;
use crate::watch::Watch;

/// Between two lines of a job.
const PAUSE_MS: u32 = 10;

/// Between two looks at a log, as a browser that shows it.
const LOOK: Duration = Duration::from_secs(1);

/// How long a job may take beyond its printing: harms last, and GitLab asks again.
const BOUND: Duration = Duration::from_mins(10);

/// How long pods may take to go after the last job has ended.
const LEFTOVERS: Duration = Duration::from_secs(60);

/// What GitLab notes of a job whose runner was killed after it had got it and before it could say
/// so.
const UNACKNOWLEDGED: &str = "taken and never acknowledged";

/// How much is done to how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Jobs at once.
    pub(crate) jobs: u32,
    /// Seconds that each prints.
    pub(crate) seconds: u32,
    /// Seconds that a long harm lasts.
    pub(crate) away: u64,
    /// Only a few kinds of harm.
    pub(crate) is_short: bool,
}

impl Size {
    /// As the environment says.
    pub(crate) fn asked() -> Self {
        let number = |name: &str, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
        let is_short = std::env::var("GANTRY_CHAOS_SHORT").is_ok_and(|text| !text.is_empty());
        let [jobs, seconds, away] = if is_short { [6, 8, 10] } else { [20, 15, 20] };
        Self {
            jobs: number("GANTRY_CHAOS_JOBS", jobs),
            seconds: number("GANTRY_CHAOS_SECONDS", seconds),
            away: number("GANTRY_CHAOS_AWAY", away).into(),
            is_short,
        }
    }

    fn lines(self) -> u32 {
        self.seconds * 1000 / PAUSE_MS
    }
}

/// How the jobs of a round must end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ends {
    /// As if nothing had happened.
    Well,
    /// At least one fails and says this, with everything that it had printed until then; one that
    /// had nothing more to print may end well.
    Failed(&'static str),
}

/// The jobs of a round.
pub(crate) struct Jobs {
    world: Rc<World>,
    size: Size,
    followed: Vec<Followed>,
}

/// One of them: GitLab tries again what no runner has begun, as another job of the same name.
struct Followed {
    name: String,
    /// The first try.
    id: u64,
    watch: Watch,
}

impl Jobs {
    /// Puts them into the queue. Half a line is never printed, and the last word of the script
    /// shows that it has run to its end.
    pub(crate) async fn start(world: &Rc<World>, place: &RunnerPlacement, size: Size) -> anyhow::Result<Self> {
        let pause = f64::from(PAUSE_MS) / 1000.0;
        let print = format!(
            "perl -e '$| = 1; for my $n (1..{}) {{ print \"line $n\\n\"; select(undef, undef, undef, {pause}) }}'",
            size.lines()
        );
        let mut followed = Vec::new();
        for number in 0..size.jobs {
            let name = format!("{}-{number}", place.tag);
            let job = json!({"name": name, "tags": [place.tag], "watched": true,
                "image": {"name": gantry_tests::world::IMAGE},
                "variables": [{"key": "GIT_STRATEGY", "value": "none"}],
                "steps": [{"name": "script", "script": [print, "echo the end"]}]});
            let id = world.gitlab.post_job(&job).await?;
            followed.push(Followed { name, id, watch: Watch::new(Instant::now()) });
        }
        Ok(Self { world: Rc::clone(world), size, followed })
    }

    /// The ids that GitLab has given them.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.followed.iter().map(|job| job.id).collect()
    }

    /// The last try of each, in order.
    async fn newest(&self) -> anyhow::Result<Vec<Job>> {
        let all = self.world.gitlab.jobs().await?;
        let newest = |followed: &Followed| {
            let tries = all.iter().filter(|job| job.name == followed.name);
            let newest = tries.max_by_key(|job| job.attempt).cloned();
            newest.ok_or_else(|| anyhow::anyhow!("GitLab has lost job {}", followed.name))
        };
        self.followed.iter().map(newest).collect()
    }

    /// Waits until all of them print, or `all` is not set and one does: the others are anywhere on
    /// their way then.
    pub(crate) async fn print(&self, all: bool) -> anyhow::Result<()> {
        until("jobs that print", BOUND, async || {
            let mut print = 0;
            let jobs = self.newest().await?;
            for job in &jobs {
                let text = self.world.gitlab.text(job.id).await?;
                ensure!(job.status != "failed" || numbers(&text).next().is_some(), "{job:?} has never begun:\n{text}");
                print += usize::from(text.contains("\nline 1\n"));
            }
            let wanted = if all { jobs.len() } else { 1 };
            Ok(if print >= wanted { Ok(()) } else { Err(format!("{print} of {}", jobs.len())) })
        })
        .await
    }

    /// Reads along until all have ended, or nobody waits any longer.
    pub(crate) async fn read_along(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + BOUND + Duration::from_secs(self.size.seconds.into());
        loop {
            let jobs = self.newest().await?;
            let is_over = jobs.iter().all(Job::is_final) || Instant::now() >= until;
            for (followed, job) in self.followed.iter_mut().zip(&jobs) {
                // A log that has been read to its end does not change any more.
                if !followed.watch.is_over() {
                    let text = self.world.gitlab.text(job.id).await?;
                    followed.watch.look(&text, job.is_final() || is_over, Instant::now());
                }
            }
            if is_over {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    /// Counts what is wrong.
    pub(crate) async fn judge(&self, mut row: Row, ends: Ends, namespace: &str) -> anyhow::Result<Row> {
        row.jobs = self.size.jobs;
        row.gap = self.followed.iter().map(|job| job.watch.gap()).max().unwrap_or_default();
        let mut failed = 0;
        for (followed, job) in self.followed.iter().zip(self.newest().await?) {
            let text = self.world.gitlab.text(job.id).await?;
            let is_success = job.status == "success";
            let last = is_success.then(|| self.size.lines());
            let Compared { mut missing, mut doubled } = compare(&text, last);
            row.again += job.attempt;
            doubled += self.begun_before(followed, &job).await?;
            let is_right = match ends {
                Ends::Well => is_success,
                Ends::Failed(words) => is_success || job.status == "failed" && text.contains(words),
            };
            failed += u32::from(!is_success);
            if !job.is_final() {
                row.lost += 1;
                // Nobody knows what would have come.
                missing = 0;
            }
            row.wrong += u32::from(job.is_final() && !is_right);
            (row.missing, row.doubled) = (row.missing + missing, row.doubled + doubled);
            if (!is_right || missing + doubled > 0) && row.why.is_none() {
                let end: Vec<&str> = text.lines().rev().take(6).collect();
                row.why = Some(format!("{job:?}: {missing} lines missing, {doubled} doubled; ends with {end:?}"));
            }
        }
        if matches!(ends, Ends::Failed(_)) && failed == 0 {
            row.wrong = row.jobs;
            row.why.get_or_insert_with(|| "no job has noticed it".to_owned());
        }
        row.pods = self.left(namespace).await?;
        Ok(row)
    }

    /// Lines that an earlier try of a job had printed: nothing may run twice.
    async fn begun_before(&self, followed: &Followed, newest: &Job) -> anyhow::Result<u32> {
        let mut lines = 0;
        if newest.attempt > 0 {
            let earlier = self.world.gitlab.jobs().await?;
            for job in earlier.iter().filter(|job| job.name == followed.name && job.id != newest.id) {
                self.world.excuse(job.id, UNACKNOWLEDGED);
                lines += u32::try_from(numbers(&self.world.gitlab.text(job.id).await?).count())?;
            }
        }
        Ok(lines)
    }

    async fn left(&self, namespace: &str) -> anyhow::Result<u32> {
        let empty = until("no pod", LEFTOVERS, async || {
            let pods = self.world.kube.pods(namespace).await?;
            Ok(if pods.is_empty() { Ok(()) } else { Err(format!("{} pods", pods.len())) })
        });
        if empty.await.is_ok() {
            return Ok(0);
        }
        let pods: Vec<Value> = self.world.kube.pods(namespace).await?;
        Ok(u32::try_from(pods.len()).unwrap_or(u32::MAX))
    }
}
