//! Pipelines as stored, and their jobs' order and manual starts. The order itself is decided in
//! `pipeline.rs`, retries are in `retries.rs`, and what a newer pipeline cancels in `redundant.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::World;
use super::job::{Job, NewJob, Source};
use super::pipeline::{self, Move, Node};
use super::status::Status;
use crate::choice::Choice;
use crate::ci::{AllowFailure, AutoCancel, CiJob, CiLeftOut, CiPipeline};
use crate::limits;
use crate::repo::Checkout;
use crate::variables::Variable;

/// One pipeline.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) id: u64,
    pub(crate) checkout: Arc<Checkout>,
    /// `workflow:name`.
    pub(crate) name: Option<String>,
    pub(crate) stages: Vec<String>,
    /// All jobs ever made for it, retried ones included.
    pub(crate) jobs: Vec<u64>,
    /// Variables given with the request that made it.
    pub(crate) variables: Vec<Variable>,
    pub(crate) created_at: Timestamp,
    /// What a newer pipeline of the same ref does to this one.
    pub(crate) auto_cancel: AutoCancel,
    /// Whether one failure cancels all other jobs.
    pub(crate) cancel_on_failure: bool,
    /// `CI_PIPELINE_SOURCE`.
    pub(crate) source: &'static str,
    /// The job of another pipeline that has started this one.
    pub(crate) parent: Option<u64>,
    /// The jobs that rules leave out: name, stage and reason.
    pub(crate) left_out: Vec<CiLeftOut>,
    /// The newer pipeline that canceled jobs of this one.
    pub(crate) canceled_by: Option<u64>,
    /// Which of its jobs somebody asked for; it holds for those of its children too.
    pub(crate) choice: Choice,
}

impl World {
    /// The id that the next pipeline will have. Predefined variables name it before the pipeline
    /// exists.
    pub(crate) fn reserve_pipeline(&mut self) -> u64 {
        self.last_pipeline += 1;
        self.last_pipeline
    }

    /// The same without taking it.
    pub(crate) fn next_pipeline(&self) -> u64 {
        self.last_pipeline + 1
    }

    /// Creates the jobs of a pipeline and queues the first ones. `false` when there would be too
    /// many jobs.
    pub(crate) fn add_pipeline(&mut self, mut pipeline: Pipeline, plan: CiPipeline) -> bool {
        if self.jobs.len().saturating_add(plan.jobs.len()) > limits::JOBS {
            return false;
        }
        let id = pipeline.id;
        for job in plan.jobs {
            let note = job.not_here.clone();
            let new = new_job(id, Arc::new(job));
            let added = self.add_job(new, None);
            if let Some(job) = added.and_then(|id| self.jobs.get_mut(&id)) {
                job.note = note.map(|why| format!("not run here: {why}"));
            }
            pipeline.jobs.extend(added);
        }
        self.pipelines.insert(id, pipeline);
        self.cancel_redundant(id);
        self.advance_pipeline(id);
        self.changed();
        true
    }

    /// The pipeline's jobs without those replaced by a retry.
    pub(crate) fn current_jobs<'a>(&'a self, pipeline: &'a Pipeline) -> impl Iterator<Item = (&'a Job, &'a CiJob)> {
        let jobs = pipeline.jobs.iter().filter_map(|id| self.jobs.get(id));
        jobs.filter(|job| !job.retried).filter_map(|job| match &job.new.source {
            Source::Pipeline { job: definition, .. } => Some((job, definition.as_ref())),
            Source::Raw(_) => None,
        })
    }

    pub(super) fn nodes(&self, pipeline: &Pipeline) -> (Vec<u64>, Vec<Node>) {
        let current: Vec<(&Job, &CiJob)> = self.current_jobs(pipeline).collect();
        let index: HashMap<&str, usize> =
            current.iter().enumerate().map(|(index, (_, definition))| (definition.name.as_str(), index)).collect();
        let node = |(job, definition): &(&Job, &CiJob)| Node {
            stage: pipeline.stages.iter().position(|stage| *stage == definition.stage).unwrap_or(0),
            needs: definition
                .needs
                .as_ref()
                .map(|needs| needs.iter().filter_map(|need| index.get(need.job.as_str()).copied()).collect()),
            when: definition.when,
            not_here: definition.not_here.is_some(),
            allow_failure: failure_allowed(&definition.allow_failure, job.exit_code),
            status: job.status,
        };
        (current.iter().map(|(job, _)| job.id).collect(), current.iter().map(node).collect())
    }

    pub(crate) fn advance_pipeline_of(&mut self, job: u64) {
        let source = self.jobs.get(&job).map(|job| &job.new.source);
        if let Some(Source::Pipeline { id, .. }) = source {
            let id = *id;
            self.advance_pipeline(id);
        }
    }

    fn advance_pipeline(&mut self, id: u64) {
        for _ in 0..limits::PIPELINE_ROUNDS {
            let Some(pipeline) = self.pipelines.get(&id) else { return };
            let (ids, nodes) = self.nodes(pipeline);
            let moves = pipeline::step(&nodes);
            if moves.is_empty() {
                return self.settle_parent(id);
            }
            for (index, step) in moves {
                if let Some(&job) = ids.get(index) {
                    self.apply(job, step);
                }
            }
        }
    }

    fn apply(&mut self, id: u64, step: Move) {
        let now = self.now();
        if step == Move::Queue {
            return self.enqueue(id);
        }
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match step {
            Move::Queue => {}
            Move::Skip => job.end(Status::Skipped, now),
            Move::WaitForPlay => job.status = Status::Manual,
            Move::Schedule => {
                let delay = match &job.new.source {
                    Source::Pipeline { job, .. } => job.start_in_seconds.unwrap_or(0),
                    Source::Raw(_) => 0,
                };
                job.status = Status::Scheduled;
                job.start_at = Some(now.at + Duration::from_secs(delay.min(limits::JOB_TIMEOUT_SECONDS)));
                self.wake();
            }
        }
    }

    /// Starts a job that waits for a person or for its delay. `None` if there is none,
    /// `Some(false)` if it does not wait.
    pub(crate) fn play(&mut self, id: u64) -> Option<bool> {
        let waits = matches!(self.jobs.get(&id)?.status, Status::Manual | Status::Scheduled);
        if waits {
            self.enqueue(id);
        }
        Some(waits)
    }

    /// What `/sim/pipelines` shows: the latest ones, the newest first.
    pub(crate) fn latest_pipelines(&self) -> Value {
        self.pipelines.keys().rev().take(limits::SHOWN).filter_map(|id| self.pipeline_view(*id)).collect()
    }

    /// What `/sim/pipelines/<id>` shows.
    pub(crate) fn pipeline_view(&self, id: u64) -> Option<Value> {
        let pipeline = self.pipelines.get(&id)?;
        let (_, nodes) = self.nodes(pipeline);
        let jobs = pipeline.jobs.iter().filter_map(|id| self.jobs.get(id)).map(|job| {
            let mut view = job.view();
            let allowed = match &job.new.source {
                Source::Pipeline { job: definition, .. } => failure_allowed(&definition.allow_failure, job.exit_code),
                Source::Raw(_) => false,
            };
            if let Some(view) = view.as_object_mut() {
                view.insert("allow_failure".to_owned(), json!(allowed));
            }
            view
        });
        Some(json!({
            "id": id,
            "name": pipeline.name,
            "source": pipeline.source,
            "parent": pipeline.parent.and_then(|id| Some(json!({"job": id, "pipeline": self.jobs.get(&id)?.pipeline()}))),
            "message": pipeline.checkout.revision.title,
            "left_out": pipeline.left_out.iter().map(left_out_view).collect::<Value>(),
            "repo": pipeline.checkout.repo.name,
            "status": pipeline::overall(&nodes),
            "ref": pipeline.checkout.revision.name,
            "sha": pipeline.checkout.revision.sha,
            "created_at": pipeline.created_at,
            "stages": pipeline.stages,
            "canceled_by": pipeline.canceled_by,
            "jobs": jobs.collect::<Value>(),
        }))
    }
}

pub(crate) fn left_out_view(job: &CiLeftOut) -> Value {
    json!({"name": job.name, "stage": job.stage, "why": job.why})
}

fn new_job(pipeline: u64, job: Arc<CiJob>) -> NewJob {
    let timeout = job.timeout_seconds.unwrap_or(limits::DEFAULT_JOB_TIMEOUT_SECONDS);
    NewJob {
        name: job.name.clone(),
        stage: job.stage.clone(),
        tags: job.tags.clone(),
        timeout: Duration::from_secs(timeout.clamp(1, limits::JOB_TIMEOUT_SECONDS)),
        watched: false,
        fixed_token: None,
        source: Source::Pipeline { id: pipeline, job },
    }
}

/// Does a failure with this exit code leave the pipeline successful?
pub(super) fn failure_allowed(allow: &AllowFailure, exit_code: Option<i64>) -> bool {
    match allow {
        AllowFailure::No => false,
        AllowFailure::Yes => true,
        AllowFailure::ExitCodes(codes) => {
            exit_code.is_some_and(|code| codes.iter().any(|&allowed| i64::from(allowed) == code))
        }
    }
}
