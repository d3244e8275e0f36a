//! Which of a plan's jobs are run, where somebody asks for some of them. Pure.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use crate::ci::{CiJob, CiPipeline, When};

/// What stands between the name of a job that starts a child pipeline and that of a job in it. The
/// second one is on every keyboard.
const CHILD: [&str; 2] = [" › ", " > "];

/// Which jobs, and what comes with them. Jobs of child pipelines are named with those that start
/// them: `deploy › check`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// Only these; a name also stands for all instances of a parallel job. `None`: all.
    pub(crate) jobs: Option<Vec<String>>,
    /// With them what they need, and what leaves artifacts for them.
    pub(crate) with_needs: bool,
    /// Manual and delayed jobs that start as soon as it is their turn; `*` stands for all.
    pub(crate) start: Vec<String>,
    /// Lines that a job runs instead of its own, behind its `before_script`.
    pub(crate) scripts: BTreeMap<String, Vec<String>>,
}

impl Choice {
    /// Keeps what was chosen; the error is a sentence.
    pub(crate) fn apply(&self, mut plan: CiPipeline) -> Result<CiPipeline, String> {
        let named = self.jobs.iter().flatten().chain(self.start.iter().filter(|name| *name != "*"));
        let unknown: Vec<String> =
            named.filter(|name| !plan.jobs.iter().any(|job| is_meant(job, name))).cloned().collect();
        if let Some(first) = unknown.first() {
            if let Some(left_out) = plan.left_out.iter().find(|job| job.name == *first) {
                return Err(format!("{first} is not in this pipeline: {}", left_out.why));
            }
            return Err(format!("no such jobs: {}; {}", unknown.join(", "), known(&plan)));
        }
        if let Some(names) = &self.jobs {
            let mut kept: HashSet<String> = plan
                .jobs
                .iter()
                .filter(|job| names.iter().any(|name| is_meant(job, name)))
                .map(|job| job.name.clone())
                .collect();
            if self.with_needs {
                let asked: Vec<String> = kept.iter().cloned().collect();
                add_needs(&plan, asked, &mut kept);
            }
            plan.jobs.retain(|job| kept.contains(&job.name));
        }
        for job in plan.jobs.iter_mut().filter(|job| matches!(job.when, When::Manual | When::Delayed)) {
            // Whoever names a job wants it to run, and what it needs too.
            let is_wanted = self.jobs.is_some() || self.start.iter().any(|name| name == "*" || is_named(job, name));
            if is_wanted {
                job.when = When::OnSuccess;
                job.start_in_seconds = None;
            }
        }
        for job in &mut plan.jobs {
            if let Some((_, script)) = self.scripts.iter().find(|(name, _)| is_named(job, name)) {
                job.script.clone_from(script);
                job.after_script.clear();
                // What a person leaves behind in a container is for no later run.
                job.cache.iter_mut().for_each(|cache| "pull".clone_into(&mut cache.policy));
            }
        }
        Ok(plan)
    }

    /// The choice among the jobs of the pipeline that this job starts.
    pub(crate) fn of_child(&self, bridge: &CiJob) -> Self {
        let inner = |name: &String| inner(bridge, name).map(str::to_owned);
        let is_whole = |names: &Vec<String>| !names.iter().any(|name| inner(name).is_some());
        let is_asked_for = |names: &Vec<String>| names.iter().any(|name| is_named(bridge, name));
        let of_all = self.start.iter().filter(|name| *name == "*").cloned();
        Self {
            jobs: self
                .jobs
                .as_ref()
                .filter(|names| !is_asked_for(names) && !is_whole(names))
                .map(|names| names.iter().filter_map(inner).collect()),
            with_needs: self.with_needs,
            start: of_all.chain(self.start.iter().filter_map(inner)).collect(),
            scripts: self.scripts.iter().filter_map(|(name, script)| Some((inner(name)?, script.clone()))).collect(),
        }
    }
}

/// What there is to choose from, in words.
fn known(plan: &CiPipeline) -> String {
    let names: Vec<&str> = plan.jobs.iter().map(|job| job.name.as_str()).collect();
    let mut text = format!("there are: {}", names.join(", "));
    if let Some(bridge) = plan.jobs.iter().find(|job| job.trigger.is_some()) {
        let separator = CHILD[1];
        let _ = write!(text, "; the jobs of a child pipeline are \"{}{separator}NAME\"", bridge.name);
    }
    text
}

/// The rest of a name behind that of the job which starts the child.
fn inner<'n>(bridge: &CiJob, name: &'n str) -> Option<&'n str> {
    bridge.trigger.as_ref()?;
    CHILD.iter().find_map(|between| {
        let (first, rest) = name.split_once(between)?;
        is_named(bridge, first).then_some(rest)
    })
}

/// Whether a name stands for this job or for one that it starts.
fn is_meant(job: &CiJob, name: &str) -> bool {
    is_named(job, name) || inner(job, name).is_some()
}

fn add_needs(plan: &CiPipeline, mut open: Vec<String>, kept: &mut HashSet<String>) {
    let stage_of = |job: &CiJob| plan.stages.iter().position(|stage| *stage == job.stage);
    while let Some(name) = open.pop() {
        let Some(job) = plan.jobs.iter().find(|job| job.name == name) else { continue };
        let needed: Vec<&CiJob> = match (&job.needs, &job.dependencies) {
            (None, None) => plan.jobs.iter().filter(|other| stage_of(other) < stage_of(job) && leaves(other)).collect(),
            (needs, dependencies) => {
                let names = needs.iter().flatten().map(|need| &need.job).chain(dependencies.iter().flatten());
                names.filter_map(|name| plan.jobs.iter().find(|other| other.name == *name)).collect()
            }
        };
        for other in needed {
            if kept.insert(other.name.clone()) {
                open.push(other.name.clone());
            }
        }
    }
}

/// Whether later jobs get something of it.
fn leaves(job: &CiJob) -> bool {
    job.artifacts.iter().any(|artifact| matches!(artifact.artifact_type.as_str(), "archive" | "dotenv"))
}

fn is_named(job: &CiJob, name: &str) -> bool {
    let instance = |rest: &str| job.parallel.is_some() && (rest.starts_with(' ') || rest.starts_with(": ["));
    job.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || instance(rest))
}
