//! Pipelines that a newer one makes redundant (`interruptible`,
//! `workflow:auto_cancel:on_new_commit`), and canceling a whole pipeline.

use super::World;
use super::job::{Job, Source};
use super::pipelines::Pipeline;
use super::status::Status;
use crate::ci::{AutoCancel, CiJob};

impl World {
    /// Cancels what a new pipeline makes redundant: older pipelines of the same ref at other
    /// commits. Each of them says itself how (GitLab server: the setting of the pipeline that would
    /// be canceled counts).
    pub(crate) fn cancel_redundant(&mut self, new: u64) {
        let Some(newer) = self.pipelines.get(&new) else { return };
        let is_older = |other: &&Pipeline| {
            let (mine, theirs) = (&newer.checkout, &other.checkout);
            other.id < newer.id
                && mine.repo.name == theirs.repo.name
                && mine.revision.name == theirs.revision.name
                && mine.revision.is_tag == theirs.revision.is_tag
                && mine.revision.sha != theirs.revision.sha
        };
        let redundant: Vec<(u64, Vec<u64>)> = self
            .pipelines
            .values()
            .filter(is_older)
            .map(|pipeline| (pipeline.id, self.redundant_jobs(pipeline)))
            .filter(|(_, jobs)| !jobs.is_empty())
            .collect();
        for (id, jobs) in redundant {
            if let Some(pipeline) = self.pipelines.get_mut(&id) {
                pipeline.canceled_by = Some(new);
            }
            self.cancel_all(&jobs, false);
        }
    }

    fn redundant_jobs(&self, pipeline: &Pipeline) -> Vec<u64> {
        let current: Vec<(&Job, &CiJob)> = self.current_jobs(pipeline).collect();
        let is_open = |job: &Job| !job.status.is_final();
        match pipeline.auto_cancel {
            AutoCancel::Never => Vec::new(),
            AutoCancel::Interruptible => {
                let open = current.iter().filter(|(job, definition)| is_open(job) && definition.interruptible);
                open.map(|(job, _)| job.id).collect()
            }
            // All or nothing: once a job has begun that must not be interrupted, the pipeline goes
            // on.
            AutoCancel::Conservative => {
                let begun = |job: &Job| {
                    matches!(job.status, Status::Running | Status::Canceling | Status::Success | Status::Failed)
                };
                if current.iter().any(|(job, definition)| begun(job) && !definition.interruptible) {
                    return Vec::new();
                }
                current.iter().filter(|(job, _)| is_open(job)).map(|(job, _)| job.id).collect()
            }
        }
    }

    /// Cancels all open jobs of a pipeline; `None` if there is none, else how many there were.
    pub(crate) fn cancel_pipeline(&mut self, id: u64, force: bool) -> Option<usize> {
        let pipeline = self.pipelines.get(&id)?;
        let open: Vec<u64> =
            self.current_jobs(pipeline).filter(|(job, _)| !job.status.is_final()).map(|(job, _)| job.id).collect();
        self.cancel_all(&open, force);
        Some(open.len())
    }

    /// First all of them, then what follows from it: a later stage must not find that an earlier
    /// one has ended.
    fn cancel_all(&mut self, jobs: &[u64], force: bool) {
        let now = self.now();
        for id in jobs {
            if let Some(job) = self.jobs.get_mut(id) {
                job.cancel(force, now);
            }
        }
        self.cancel_children(jobs, force);
        for id in jobs {
            self.after_change(*id);
        }
    }

    /// `workflow:auto_cancel:on_job_failure: all`: a failure that counts cancels what has not
    /// ended.
    pub(crate) fn cancel_on_failure(&mut self, id: u64) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.status == Status::Failed && !job.retried) else { return };
        let Source::Pipeline { id: pipeline, job: definition } = &job.new.source else { return };
        let counts = !super::pipelines::failure_allowed(&definition.allow_failure, job.exit_code);
        let wants = self.pipelines.get(pipeline).is_some_and(|pipeline| pipeline.cancel_on_failure);
        if counts && wants {
            let pipeline = *pipeline;
            self.cancel_pipeline(pipeline, false);
        }
    }

    /// The path of the project that a job belongs to; none for a payload that names no repository.
    pub(crate) fn project_of<'a>(&'a self, job: &'a Job) -> Option<&'a str> {
        match &job.new.source {
            Source::Raw(raw) => raw.checkout.as_ref().map(|checkout| checkout.repo.name.as_str()),
            Source::Pipeline { id, .. } => self.pipelines.get(id).map(|pipeline| pipeline.checkout.repo.name.as_str()),
        }
    }
}
