//! Jobs that start a child pipeline (`trigger:include`): what the child is made of, how the two are
//! linked, and what the child's state means for the job. Reading the child's configuration is done
//! elsewhere, because it blocks.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::World;
use super::job::{Job, Source};
use super::pipeline;
use super::pipelines::Pipeline;
use super::status::Status;
use crate::choice::Choice;
use crate::ci::{CiPipeline, CiTrigger};
use crate::repo::Checkout;
use crate::variables::{self, Origin, Variable};

/// How deep children of children may go; GitLab's limit.
const MAX_DEPTH: usize = 2;

/// What the `CI_PIPELINE_SOURCE` of a child says.
pub(crate) const FROM_PARENT: &str = "parent_pipeline";

/// A child that is to be made.
pub(crate) struct Order {
    pub(crate) job: u64,
    /// The id that the child will have.
    pub(crate) pipeline: u64,
    pub(crate) checkout: Arc<Checkout>,
    pub(crate) trigger: CiTrigger,
    /// The name of its configuration in problems.
    pub(crate) config_name: String,
    /// What the child gets from its parent.
    pub(crate) variables: Vec<Variable>,
    /// The archives that its configuration may include files of, by job.
    pub(crate) archives: HashMap<String, PathBuf>,
    /// Which of its jobs are wanted.
    pub(crate) choice: Choice,
}

impl Job {
    /// The pipeline that the job starts instead of a script.
    pub(crate) fn trigger(&self) -> Option<&CiTrigger> {
        match &self.new.source {
            Source::Pipeline { job, .. } => job.trigger.as_ref(),
            Source::Raw(_) => None,
        }
    }
}

impl World {
    /// The next child that is to be made. A job that may not have one fails here.
    pub(crate) fn next_order(&mut self) -> Option<Order> {
        loop {
            let id = self.bridges.pop_front()?;
            let is_waiting = self.jobs.get(&id).is_some_and(|job| job.status == Status::Pending);
            if !is_waiting {
                continue;
            }
            if self.depth_of(id) >= MAX_DEPTH {
                self.refuse_child(id, &format!("children are nested deeper than {MAX_DEPTH} levels"));
                continue;
            }
            let pipeline = self.reserve_pipeline();
            if let Some(order) = self.order(id, pipeline) {
                return Some(order);
            }
        }
    }

    fn order(&self, id: u64, child: u64) -> Option<Order> {
        let job = self.jobs.get(&id)?;
        let Source::Pipeline { id: parent, job: definition } = &job.new.source else { return None };
        let trigger = definition.trigger.clone()?;
        let parent = self.pipelines.get(parent)?;
        let archive = |(other, definition): (&Job, &crate::ci::CiJob)| {
            Some((definition.name.clone(), other.archive()?.path.clone()))
        };
        let makers = self.current_jobs(parent).filter(|(_, other)| trigger.artifacts_of.contains(&other.name));
        let mut known = variables::server(&self.url);
        known.extend(variables::checkout(&self.url, &parent.checkout));
        let created_at = parent.created_at.to_string();
        let origin = Origin { id: parent.id, created_at: &created_at, source: parent.source };
        known.extend(variables::pipeline(&self.url, &parent.checkout.repo.name, &origin));
        let from = known.len();
        if trigger.forwards_yaml_variables {
            let own = definition.variables.iter().map(|variable| Variable {
                raw: !variable.expand,
                ..Variable::private(&variable.key, variable.value.as_str())
            });
            known.extend(own);
        }
        let given = parent.variables.iter().cloned();
        known.extend(given.clone().filter(|_| trigger.forwards_pipeline_variables || parent.parent.is_some()));
        variables::expand(&mut known, variables::Literal::ForRunner);
        Some(Order {
            job: id,
            pipeline: child,
            checkout: Arc::clone(&parent.checkout),
            config_name: format!("trigger of {}", definition.name),
            variables: known.split_off(from),
            archives: makers.filter_map(archive).collect(),
            choice: parent.choice.of_child(definition),
            trigger,
        })
    }

    /// How many parents a job's pipeline has.
    fn depth_of(&self, job: u64) -> usize {
        let parent = |id: &u64| self.pipelines.get(&self.jobs.get(id)?.pipeline()?)?.parent;
        std::iter::successors(Some(job), parent).count().saturating_sub(1)
    }

    /// The child cannot be made: its job fails.
    pub(crate) fn refuse_child(&mut self, job: u64, why: &str) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.note = Some(format!("its pipeline could not be made: {why}"));
        }
        self.drop_job(job, "downstream_pipeline_creation_failed");
    }

    /// The child is there: its job is linked to it and, if it does not wait for it, has succeeded.
    pub(crate) fn start_child(&mut self, order: &Order, child: Pipeline, plan: CiPipeline) {
        let now = self.now();
        let is_waiting = self.jobs.get(&order.job).is_some_and(|job| job.status == Status::Pending);
        if !is_waiting {
            return;
        }
        if let Some(job) = self.jobs.get_mut(&order.job) {
            job.downstream = Some(order.pipeline);
            job.begin(now);
            if !order.trigger.depends {
                job.end(Status::Success, now);
            }
        }
        if !self.add_pipeline(child, plan) {
            self.refuse_child(order.job, "there would be too many jobs");
            return;
        }
        self.after_change(order.job);
    }

    /// A job that waits for its child ends as the child does.
    pub(crate) fn settle_parent(&mut self, child: u64) {
        let Some((pipeline, job)) = self.pipelines.get(&child).and_then(|child| Some((child, child.parent?))) else {
            return;
        };
        let overall = pipeline::overall(&self.nodes(pipeline).1);
        let now = self.now();
        let Some(job) = self.jobs.get_mut(&job).filter(|job| {
            job.downstream == Some(child)
                && !job.status.is_final()
                && job.trigger().is_some_and(|trigger| trigger.depends)
        }) else {
            return;
        };
        match overall {
            "success" | "skipped" => job.end(Status::Success, now),
            "canceled" => job.end(Status::Canceled, now),
            "failed" => {
                job.note = Some(format!("its pipeline #{child} failed"));
                job.end(Status::Failed, now);
            }
            _ => return,
        }
        let id = job.id;
        self.after_change(id);
    }

    /// Cancels the pipelines that these jobs have started.
    pub(crate) fn cancel_children(&mut self, jobs: &[u64], force: bool) {
        let children: Vec<u64> = jobs.iter().filter_map(|id| self.jobs.get(id)?.downstream).collect();
        for child in children {
            self.cancel_pipeline(child, force);
        }
    }
}
