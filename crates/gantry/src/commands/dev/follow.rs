//! Follows a pipeline: everything that happens to its jobs becomes a line at once, and at the end
//! there is the table.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::api::{Api, Job, Pipeline};
use super::log_view::LogView;
use super::report;
use super::screen::Screen;
use super::tools;
use super::world::{CONCURRENT, Images, World};
use crate::style::Style;

/// Between two looks: much shorter than anybody notices, and long enough that jobs which print much
/// are asked for rarely.
const PAUSE: Duration = Duration::from_millis(30);

/// More jobs than these are only counted before they run.
const NAMED: usize = 20;

/// Why the jobs of a pipeline with services take turns where images are unpacked here.
const ONE_NETWORK: &str =
    "Services listen on this machine's network, where each port is there once: one job runs at a time";

/// Why they do so where services may come later: the runner asks for a pipeline's jobs before
/// anybody has seen what these are, and it would be too late then.
const ONE_NETWORK_LATER: &str = "Services of pipelines that come later would listen on this machine's network, where each port is there once: one job \
                                 runs at a time";

/// Colour of what is said about a job, in contrast to what the job says.
const ASIDE: &str = "\x1b[2m";

/// A pipeline that is shown.
pub(super) struct Follow<'s> {
    api: Rc<Api>,
    id: u64,
    view: LogView,
    pub(super) screen: &'s mut Screen,
    images: Images,
    /// Whether other pipelines may run beside this one or after it.
    are_more_to_come: bool,
    /// Jobs at once.
    concurrent: u32,
    /// What was last said about each job.
    said: BTreeMap<u64, Progress>,
}

/// What is worth a line about a job.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    Nothing,
    /// Could run, if fewer than these did.
    Waits(u32),
    /// Could run, if this job did not have its resource group.
    WaitsFor(String),
    Starts,
    Manual,
    Over,
}

impl Progress {
    fn of(job: &Job, others: &[Job], concurrent: u32) -> Self {
        match job.status.as_str() {
            "manual" => Self::Manual,
            // What its pipeline waits for is said there, and it may still go on by itself.
            "running" if job.is_child_over => Self::Starts,
            _ if job.is_over() => Self::Over,
            "running" | "canceling" => Self::Starts,
            _ if job.assigned => Self::Starts,
            "pending" => Self::of_pending(job, others, concurrent),
            _ => Self::Nothing,
        }
    }

    fn of_pending(job: &Job, others: &[Job], concurrent: u32) -> Self {
        let held = || others.iter().filter(|other| other.is_held());
        let has_group = |other: &&Job| job.resource_group.is_some() && other.resource_group == job.resource_group;
        let is_full = held().count() >= usize::try_from(concurrent).unwrap_or(usize::MAX);
        match held().find(has_group) {
            Some(other) => Self::WaitsFor(other.name.clone()),
            None if is_full => Self::Waits(concurrent),
            None => Self::Nothing,
        }
    }

    /// What counts of a job that was seen before: between two of the jobs that it waits for there
    /// is a moment in which it could run.
    fn after(self, before: Option<&Self>) -> Self {
        match (before, self) {
            (Some(before @ (Self::Waits(_) | Self::WaitsFor(_))), Self::Nothing | Self::Waits(_)) => before.clone(),
            (_, now) => now,
        }
    }

    /// The line, if one is needed.
    fn line(&self, job: &Job, style: Style) -> Option<String> {
        let aside = |text: &str| Some(style.paint(ASIDE, text));
        match self {
            Self::Nothing => None,
            Self::WaitsFor(other) => {
                let group = job.resource_group.as_deref().unwrap_or_default();
                aside(&format!("waits for {other}, which has the resource group {group}"))
            }
            Self::Waits(1) => aside("waits: one job runs at a time"),
            Self::Waits(concurrent) => aside(&format!("waits: {concurrent} jobs run at once")),
            Self::Starts if job.downstream.is_some() => aside("has started its pipeline"),
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
    pub(super) fn new(api: Rc<Api>, id: u64, screen: &'s mut Screen, images: Images, are_more_to_come: bool) -> Self {
        let view = LogView::new(screen.style);
        Self { api, id, view, screen, images, are_more_to_come, concurrent: CONCURRENT, said: BTreeMap::new() }
    }

    /// Says which jobs there are. Returns how many of them may run at once.
    pub(super) async fn announce(&mut self) -> anyhow::Result<u32> {
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
        let services = match self.images {
            Images::Names => {
                let path = std::env::var_os("PATH");
                idle_services(&pipeline, &|program| tools::have(program, path.as_deref()))
            }
            Images::Here => one_network(&pipeline, self.are_more_to_come).map(|why| {
                self.concurrent = 1;
                why.to_owned()
            }),
            Images::OfNodes => None,
        };
        let services = services.map(|line| format!("{line}\n")).unwrap_or_default();
        self.screen.print(&format!("Jobs: {}\n{services}\n", stages.join("; "))).await?;
        Ok(self.concurrent)
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
        // Children bring jobs that nobody knew of at the beginning.
        self.view.fit(pipeline);
        for job in in_order(&pipeline.jobs) {
            let progress = Progress::of(job, &pipeline.jobs, self.concurrent).after(self.said.get(&job.id));
            let before = self.said.insert(job.id, progress.clone());
            if before.is_none()
                && let Some(retry) = retry(job, self.screen.style)
            {
                self.screen.print(&self.view.line(job, &retry)).await?;
            }
            let line = progress.line(job, self.screen.style).filter(|_| before.as_ref() != Some(&progress));
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

    /// How the pipeline is now.
    pub(super) async fn look(&self) -> anyhow::Result<Pipeline> {
        self.api.pipeline(self.id).await
    }

    /// Cancels what has not ended.
    pub(super) async fn cancel(&self) -> anyhow::Result<()> {
        self.api.cancel(self.id).await
    }

    /// The table.
    pub(super) async fn summarise(&mut self, pipeline: &Pipeline) -> anyhow::Result<()> {
        let table = report::table(pipeline, &self.view, self.images, self.screen.style);
        Ok(self.screen.print(&table).await?)
    }
}

/// The jobs with those last whose pipelines are over, inner ones before outer ones: the result of a
/// pipeline stands behind the last lines of its jobs.
fn in_order(jobs: &[Job]) -> Vec<&Job> {
    let mut jobs: Vec<&Job> = jobs.iter().collect();
    jobs.sort_by_key(|job| (job.downstream.is_some() && job.is_over()).then(|| std::cmp::Reverse(job.depth())));
    jobs
}

/// What to say of a job that is another try of one that failed.
fn retry(job: &Job, style: Style) -> Option<String> {
    (job.attempt > 0).then(|| style.paint(ASIDE, &format!("is tried again: try {}", job.attempt + 1)))
}

/// Why the jobs of a run take turns whose services listen on this machine's network; nothing if
/// they need not.
fn one_network(pipeline: &Pipeline, are_more_to_come: bool) -> Option<&'static str> {
    let has_services = pipeline.jobs.iter().any(|job| !job.services.is_empty());
    let has_children = pipeline.jobs.iter().any(|job| job.trigger.is_some());
    if has_services {
        return Some(ONE_NETWORK);
    }
    (has_children || are_more_to_come).then_some(ONE_NETWORK_LATER)
}

/// What to say of services that would be programs of their images, which are names here. `have`:
/// whether this machine has a program.
fn idle_services(pipeline: &Pipeline, have: &dyn Fn(&str) -> bool) -> Option<String> {
    let services = pipeline.jobs.iter().flat_map(|job| &job.services);
    let names: BTreeSet<&str> = services
        .filter(|service| service.program().is_none_or(|program| !have(program)))
        .map(|service| service.name.as_str())
        .collect();
    if names.is_empty() {
        return None;
    }
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    Some(format!(
        "Services: nothing listens in {names}, because images are only names here; --images gets them, and a `command` of the service is run where this \
         machine has its program"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::listing::Service;
    use super::*;

    #[test]
    fn everything_that_happens_to_a_job_is_one_line() {
        let line = |job: &Job, others: &[Job]| Progress::of(job, others, CONCURRENT).line(job, Style::Plain);
        let job = |status: &str| Job::sample("unit", status);
        let held = |name: &str| Job { assigned: true, ..Job::sample(name, "running") };
        let full = ["a", "b", "c", "d"].map(held);
        assert_eq!(line(&job("created"), &[]), None);
        assert_eq!(line(&job("pending"), &full[..3]), None, "it will be picked up at once");
        assert_eq!(line(&job("pending"), &full).as_deref(), Some("waits: 4 jobs run at once"));
        let picked = Job { assigned: true, ..job("pending") };
        assert_eq!(line(&picked, &full).as_deref(), Some("has a runner; its pod starts"));
        assert_eq!(Progress::of(&picked, &full, 4), Progress::of(&job("running"), &[], 4), "said once");
        let bridge = Job { downstream: Some(2), ..job("running") };
        assert_eq!(line(&bridge, &[]).as_deref(), Some("has started its pipeline"));
        let waiting = Job { is_child_over: true, downstream: Some(2), ..job("running") };
        assert_eq!(Progress::of(&waiting, &[], 4), Progress::of(&bridge, &[], 4), "said once");
        let (waits, nothing) = (Progress::Waits(4), Progress::Nothing);
        assert_eq!(nothing.clone().after(Some(&waits)), waits, "a place was free for a moment");
        assert_eq!(waits.clone().after(Some(&nothing)), waits);
        let waits_for = Progress::WaitsFor("deploy".to_owned());
        assert_eq!(waits.clone().after(Some(&waits_for)), waits_for);
        assert_eq!(Progress::Starts.after(Some(&waits)), Progress::Starts);
        let of_group = |job: Job| Job { resource_group: Some("production".to_owned()), ..job };
        let waits = line(&of_group(job("pending")), &[of_group(held("deploy"))]);
        assert_eq!(waits.as_deref(), Some("waits for deploy, which has the resource group production"));
        assert_eq!(line(&of_group(job("pending")), &[held("deploy")]), None);
        assert_eq!(line(&of_group(job("pending")), &[of_group(Job::sample("deploy", "success"))]), None);
        let at = |second: i64| jiff::Timestamp::from_second(second).ok();
        let failed = Job {
            failure_reason: Some("script_failure".to_owned()),
            started_at: at(10),
            finished_at: at(12),
            ..job("failed")
        };
        assert_eq!(line(&failed, &[]).as_deref(), Some("script_failure after 2.0 s"));
        assert_eq!(line(&job("skipped"), &[]).as_deref(), Some("is skipped"));
        assert_eq!(line(&job("canceled"), &[]).as_deref(), Some("canceled"));
    }

    #[test]
    fn the_result_of_a_pipeline_stands_behind_its_jobs() {
        let bridge = |name: &str, status: &str| Job { downstream: Some(2), ..Job::sample(name, status) };
        let order = |jobs: &[Job]| in_order(jobs).iter().map(|job| job.name.clone()).collect::<Vec<_>>();
        let jobs = [
            bridge("deploy", "success"),
            Job::sample("unit", "success"),
            bridge("deploy › inner", "success"),
            Job::sample("deploy › inner › check", "success"),
        ];
        assert_eq!(order(&jobs), ["unit", "deploy › inner › check", "deploy › inner", "deploy"]);
        let running = [bridge("deploy", "running"), Job::sample("deploy › check", "running")];
        assert_eq!(order(&running), ["deploy", "deploy › check"]);
    }

    #[test]
    fn another_try_says_which_it_is() {
        let job = Job::sample("unit", "pending");
        assert_eq!(retry(&job, Style::Plain), None);
        assert_eq!(retry(&Job { attempt: 1, ..job }, Style::Plain).as_deref(), Some("is tried again: try 2"));
    }

    #[test]
    fn jobs_take_turns_also_where_services_may_come_later() {
        let with = |more: serde_json::Value| {
            let mut job = json!({"id": 1, "name": "unit", "stage": "test", "status": "pending", "trace_bytes": 0});
            job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Pipeline { status: "pending".to_owned(), jobs: vec![serde_json::from_value(job).unwrap()] }
        };
        let alone = with(json!({"services": [], "trigger": null}));
        assert_eq!(one_network(&alone, false), None);
        assert_eq!(one_network(&alone, true), Some(ONE_NETWORK_LATER), "--watch, --serve");
        assert_eq!(one_network(&with(json!({"trigger": {"include": "x.yml"}})), false), Some(ONE_NETWORK_LATER));
        assert_eq!(one_network(&with(json!({"services": [{"name": "redis:7"}]})), true), Some(ONE_NETWORK));
    }

    #[test]
    fn services_that_do_nothing_are_named_once() {
        let service = |name: &str, command: &[&str]| Service {
            name: name.to_owned(),
            alias: None,
            entrypoint: Vec::new(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
        };
        let with = |services| Pipeline {
            status: "pending".to_owned(),
            jobs: vec![Job { services, ..Job::sample("unit", "pending") }],
        };
        let said = |services| idle_services(&with(services), &|program| program == "serve");
        assert_eq!(said(vec![service("mine", &["serve"])]), None);
        let flags = service("docker:dind", &["--tls=false"]);
        let said = said(vec![service("redis:7", &[]), service("mine", &["serve"]), flags, service("redis:7", &[])]);
        assert!(
            said.is_some_and(|said| said.starts_with("Services: nothing listens in docker:dind, redis:7, because"))
        );
    }
}
