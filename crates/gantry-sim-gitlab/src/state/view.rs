//! What people see of a job under `/sim/`: plain JSON, and nothing secret.

use serde_json::{Value, json};

use super::job::{Job, Source};
use crate::ci::{CiImage, CiJob, CiTrigger, When};

impl Job {
    /// What `/sim/jobs` shows.
    pub(crate) fn view(&self) -> Value {
        let mut view = json!({
            "id": self.id,
            "name": self.new.name,
            "stage": self.new.stage,
            "status": self.status.word(),
            "assigned": self.lease.is_some(),
            "failure_reason": self.failure_reason,
            "note": self.note,
            "exit_code": self.exit_code,
            "created_at": self.created_at,
            "queued_at": self.queued_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "trace_bytes": self.trace.len(),
            "runner": self.runner.as_ref().map(|(id, system)| json!({"id": id, "system_id": system})),
            "pipeline": self.pipeline(),
            "retried": self.retried,
            "attempt": self.attempt,
            "git_bytes": self.git_bytes,
            "tags": self.new.tags,
            "erased": self.erased,
            "artifacts": self.artifacts.iter().map(super::job::Artifact::view).collect::<Value>(),
            "coverage": self.coverage,
            "downstream": self.downstream,
        });
        if let (Source::Pipeline { job, .. }, Some(view)) = (&self.new.source, view.as_object_mut())
            && let Value::Object(more) = definition_view(job)
        {
            view.extend(more);
        }
        view
    }

    /// The job's pipeline, if it has one.
    pub(crate) fn pipeline(&self) -> Option<u64> {
        match &self.new.source {
            Source::Raw(_) => None,
            Source::Pipeline { id, .. } => Some(*id),
        }
    }
}

/// What the file says of a job, as far as people want to see it.
pub(crate) fn definition_view(job: &CiJob) -> Value {
    let when = match job.when {
        When::OnSuccess => "on_success",
        When::OnFailure => "on_failure",
        When::Always => "always",
        When::Manual => "manual",
        When::Delayed => "delayed",
    };
    let need =
        |need: &crate::ci::CiNeed| json!({"job": need.job, "artifacts": need.artifacts, "optional": need.optional});
    json!({
        "when": when,
        "start_in_seconds": job.start_in_seconds,
        "needs": job.needs.as_ref().map(|needs| needs.iter().map(need).collect::<Value>()),
        "dependencies": job.dependencies,
        "image": job.image.as_ref().map(|image| &image.name),
        "environment": job.environment.as_ref().map(|environment| json!({"name": environment.name, "url": environment.url, "action": environment.action})),
        "resource_group": job.resource_group,
        "release": job.release,
        "manual_confirmation": job.manual_confirmation,
        "services": job.services.iter().map(service_view).collect::<Value>(),
        "trigger": job.trigger.as_ref().map(trigger_view),
        "place": format!("{}:{}", job.file, job.line),
    })
}

fn service_view(service: &CiImage) -> Value {
    json!({
        "name": service.name,
        "alias": service.alias,
        "entrypoint": service.entrypoint,
        "command": service.command,
        "variables": service.variables.iter().map(|one| one.key.as_str()).collect::<Value>(),
    })
}

fn trigger_view(trigger: &CiTrigger) -> Value {
    let config = serde_json::from_str::<Value>(&trigger.config).unwrap_or_default();
    json!({
        "include": config["include"],
        "depends": trigger.depends,
        "inputs": trigger.inputs,
        "forwards_yaml_variables": trigger.forwards_yaml_variables,
        "forwards_pipeline_variables": trigger.forwards_pipeline_variables,
    })
}

impl super::job::Artifact {
    /// What `/sim/jobs/<id>/artifacts` shows.
    pub(crate) fn view(&self) -> Value {
        json!({
            "type": self.kind, "format": self.format, "filename": self.filename,
            "size": self.size, "expire_in": self.expire_in,
        })
    }
}
