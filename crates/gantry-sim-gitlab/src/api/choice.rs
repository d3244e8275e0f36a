//! Which of a plan's jobs are run, where somebody asks for some of them. Pure.

use std::collections::{BTreeMap, HashSet};

use crate::ci::{CiJob, CiPipeline, When};

/// Which jobs, and what comes with them.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    /// Only these; a name also stands for all instances of a parallel job. `None`: all.
    pub(super) jobs: Option<Vec<String>>,
    /// With them what they need, and what leaves artifacts for them.
    pub(super) with_needs: bool,
    /// Manual and delayed jobs that start as soon as it is their turn; `*` stands for all.
    pub(super) start: Vec<String>,
    /// Lines that a job runs instead of its own, behind its `before_script`.
    pub(super) scripts: BTreeMap<String, Vec<String>>,
}

impl Choice {
    /// Keeps what was chosen; the error is a sentence.
    pub(super) fn apply(&self, mut plan: CiPipeline) -> Result<CiPipeline, String> {
        let named = self.jobs.iter().flatten().chain(self.start.iter().filter(|name| *name != "*"));
        let unknown: Vec<String> =
            named.filter(|name| !plan.jobs.iter().any(|job| is_named(job, name))).cloned().collect();
        if let Some(first) = unknown.first() {
            if let Some(left_out) = plan.left_out.iter().find(|job| job.name == *first) {
                return Err(format!("{first} is not in this pipeline: {}", left_out.why));
            }
            let known: Vec<&str> = plan.jobs.iter().map(|job| job.name.as_str()).collect();
            return Err(format!("no such jobs: {}; there are: {}", unknown.join(", "), known.join(", ")));
        }
        if let Some(names) = &self.jobs {
            let mut kept: HashSet<String> = plan
                .jobs
                .iter()
                .filter(|job| names.iter().any(|name| is_named(job, name)))
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
            }
        }
        Ok(plan)
    }
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
