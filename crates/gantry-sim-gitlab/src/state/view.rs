//! What people see of a job under `/sim/`: plain JSON, and nothing secret.

use serde_json::{Value, json};

use super::job::{Job, Source};

impl Job {
    /// What `/sim/jobs` shows.
    pub(crate) fn view(&self) -> Value {
        json!({
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
            "tags": self.new.tags,
            "erased": self.erased,
            "artifacts": self.artifacts.iter().map(super::job::Artifact::view).collect::<Value>(),
        })
    }

    /// The job's pipeline, if it has one.
    pub(crate) fn pipeline(&self) -> Option<u64> {
        match &self.new.source {
            Source::Raw(_) => None,
            Source::Pipeline { id, .. } => Some(*id),
        }
    }
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
