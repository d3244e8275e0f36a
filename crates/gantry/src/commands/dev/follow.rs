//! Follows a pipeline: everything that happens to its jobs becomes a line at once, and at the end there is the table.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::api::{Api, Job, Pipeline};
use super::log_view::LogView;
use super::report;
use super::screen::{Screen, Style};
use super::world::{CONCURRENT, World};

/// Between two looks: much shorter than anybody notices, and long enough that jobs which print much are asked for rarely.
const PAUSE: Duration = Duration::from_millis(30);

/// More jobs than these are only counted before they run.
const NAMED: usize = 20;

/// Colour of what is said about a job, in contrast to what the job says.
const ASIDE: &str = "\x1b[2m";

/// A pipeline that is shown.
pub(super) struct Follow<'s> {
    api: Rc<Api>,
    id: u64,
    view: LogView,
    pub(super) screen: &'s mut Screen,
    /// What was last said about each job.
    said: BTreeMap<u64, Progress>,
}

/// What is worth a line about a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Nothing,
    /// Could run, if there were a place.
    Waits,
    Starts,
    Manual,
    Over,
}

impl Progress {
    fn of(job: &Job, is_full: bool) -> Self {
        match job.status.as_str() {
            "manual" => Self::Manual,
            _ if job.is_over() => Self::Over,
            "running" | "canceling" => Self::Starts,
            _ if job.assigned => Self::Starts,
            "pending" if is_full => Self::Waits,
            _ => Self::Nothing,
        }
    }

    /// The line, if one is needed.
    fn line(self, job: &Job, style: Style) -> Option<String> {
        let aside = |text: &str| Some(style.paint(ASIDE, text));
        match self {
            Self::Nothing => None,
            Self::Waits => aside(&format!("waits: {CONCURRENT} jobs run at once")),
            Self::Starts => aside("has a runner; its pod starts"),
            Self::Manual => aside("is manual: --manual starts it, and so does the page of --serve"),
            Self::Over if job.status == "skipped" => aside(&match &job.note {
                Some(note) => format!("is {note}"),
                None => "is skipped".to_owned(),
            }),
            Self::Over => {
                let (colour, result) = report::result(job);
                let took =
                    job.started_at.zip(job.finished_at).map(|(start, end)| end.duration_since(start).as_secs_f64());
                let took = took.map_or_else(String::new, |seconds| format!(" after {seconds:.1} s"));
                let note = job.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
                Some(format!("{}{}{note}", style.paint(colour, &result), style.paint(ASIDE, &took)))
            }
        }
    }
}

impl<'s> Follow<'s> {
    pub(super) fn new(api: Rc<Api>, id: u64, screen: &'s mut Screen) -> Self {
        let view = LogView::new(screen.style);
        Self { api, id, view, screen, said: BTreeMap::new() }
    }

    /// Says which jobs there are.
    pub(super) async fn announce(&mut self) -> anyhow::Result<()> {
        let pipeline = self.api.pipeline(self.id).await?;
        self.view.fit(&pipeline);
        let mut stages: Vec<(&str, Vec<&str>)> = Vec::new();
        for job in &pipeline.jobs {
            match stages.iter_mut().find(|(stage, _)| *stage == job.stage) {
                Some((_, jobs)) => jobs.push(&job.name),
                None => stages.push((&job.stage, vec![&job.name])),
            }
        }
        let are_few = pipeline.jobs.len() <= NAMED;
        let stage = |(stage, jobs): (&str, Vec<&str>)| {
            if are_few { format!("{stage}: {}", jobs.join(", ")) } else { format!("{stage}: {}", jobs.len()) }
        };
        let stages: Vec<String> = stages.into_iter().map(stage).collect();
        self.screen.print(&format!("Jobs: {}\n\n", stages.join("; "))).await?;
        Ok(())
    }

    /// Shows what happens until the pipeline is over, or until its runner has ended.
    pub(super) async fn until_over(&mut self, world: &World) -> anyhow::Result<Pipeline> {
        let mut changes = world.changes.clone();
        loop {
            changes.mark_unchanged();
            let looked = Instant::now();
            // Asked for first: what the runner has sent before its end is in the answer then.
            let has_ended = world.has_runner_ended();
            let pipeline = self.api.pipeline(self.id).await?;
            self.show(&pipeline).await?;
            let is_complete = pipeline.jobs.iter().all(|job| self.view.is_complete(job));
            if is_complete && (pipeline.is_over() || has_ended) {
                anyhow::ensure!(pipeline.is_over() || world.is_stopping(), "the runner has ended unexpectedly");
                return Ok(pipeline);
            }
            if has_ended {
                continue;
            }
            tokio::select! {
                changed = changes.changed() => changed.context("the simulated GitLab has ended")?,
                () = world.runner_ended() => {}
            }
            tokio::time::sleep_until(looked + PAUSE).await;
        }
    }

    async fn show(&mut self, pipeline: &Pipeline) -> anyhow::Result<()> {
        let running = pipeline.jobs.iter().filter(|job| !job.is_over() && job.assigned).count();
        let is_full = running >= usize::try_from(CONCURRENT).unwrap_or(usize::MAX);
        for job in &pipeline.jobs {
            let progress = Progress::of(job, is_full);
            let is_news = self.said.insert(job.id, progress) != Some(progress);
            let line = progress.line(job, self.screen.style).filter(|_| is_news);
            let line = line.map(|line| self.view.line(job, &line)).unwrap_or_default();
            let log = self.view.news(&self.api, job).await?;
            // A job's end stands behind its log, and everything else before it.
            let text = if progress == Progress::Over { log + &line } else { line + &log };
            if !text.is_empty() {
                self.screen.print(&text).await?;
            }
        }
        Ok(())
    }

    /// Cancels what has not ended.
    pub(super) async fn cancel(&self) -> anyhow::Result<()> {
        self.api.cancel(self.id).await
    }

    /// The table.
    pub(super) async fn summarise(&mut self, pipeline: &Pipeline) -> anyhow::Result<()> {
        let table = report::table(pipeline, &self.view, self.screen.style);
        Ok(self.screen.print(&table).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_happens_to_a_job_is_one_line() {
        let line = |job: &Job, is_full| Progress::of(job, is_full).line(job, Style::Plain);
        let job = |status: &str| Job::sample("unit", status);
        assert_eq!(line(&job("created"), false), None);
        assert_eq!(line(&job("pending"), false), None, "it will be picked up at once");
        assert_eq!(line(&job("pending"), true).as_deref(), Some("waits: 4 jobs run at once"));
        let picked = Job { assigned: true, ..job("pending") };
        assert_eq!(line(&picked, true).as_deref(), Some("has a runner; its pod starts"));
        assert_eq!(Progress::of(&picked, true), Progress::of(&job("running"), false), "said once");
        let at = |second: i64| jiff::Timestamp::from_second(second).ok();
        let failed = Job {
            failure_reason: Some("script_failure".to_owned()),
            started_at: at(10),
            finished_at: at(12),
            ..job("failed")
        };
        assert_eq!(line(&failed, false).as_deref(), Some("script_failure after 2.0 s"));
        assert_eq!(line(&job("skipped"), false).as_deref(), Some("is skipped"));
        assert_eq!(line(&job("canceled"), false).as_deref(), Some("canceled"));
    }
}
