//! How `PUT jobs/<id>` is judged (GitLab server, `UpdateBuildStateService`). Pure, apart from the
//! job it changes.

use serde_json::{Map, Value};

use super::job::{Breach, Job};
use super::status::Status;
use crate::clock::Now;
use crate::config::Timing;

/// Reasons every GitLab accepts, listed in the payload or not (GitLab Runner 19.4, reason mapping).
const ALWAYS_ACCEPTED: [&str; 3] = ["script_failure", "runner_system_failure", "job_execution_timeout"];

/// Reasons that GitLab itself knows and so stores as they are; any other becomes `unknown_failure`.
pub(crate) const KNOWN_REASONS: [&str; 30] = [
    "unknown_failure",
    "script_failure",
    "api_failure",
    "stuck_or_timeout_failure",
    "runner_system_failure",
    "missing_dependency_failure",
    "runner_unsupported",
    "stale_schedule",
    "job_execution_timeout",
    "archived_failure",
    "unmet_prerequisites",
    "scheduler_failure",
    "data_integrity_failure",
    "forward_deployment_failure",
    "user_blocked",
    "project_deleted",
    "no_matching_runner",
    "trace_size_exceeded",
    "builds_disabled",
    "image_pull_failure",
    "runner_configuration_error",
    "runner_external_dependency_failure",
    "runner_interrupted",
    "runner_provisioning_timeout",
    "stuck_pending_with_matching_runners",
    "stuck_pending_no_matching_runners",
    "no_updates_running",
    "no_updates_canceling",
    "server_timeout_running",
    "server_timeout_canceling",
];

/// The body of a PUT, as far as the server looks at it.
#[derive(Debug, Default)]
pub(crate) struct Update {
    pub(crate) state: String,
    pub(crate) failure_reason: Option<String>,
    pub(crate) exit_code: Option<i64>,
    pub(crate) checksum: Option<String>,
    pub(crate) bytesize: Option<u64>,
}

impl Update {
    pub(crate) fn from_json(body: &Map<String, Value>) -> Self {
        let text =
            |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let output = body.get("output").and_then(Value::as_object);
        let inner = |key: &str| output.and_then(|output| output.get(key));
        Self {
            state: text(body.get("state")).unwrap_or_default(),
            failure_reason: text(body.get("failure_reason")),
            exit_code: body.get("exit_code").and_then(Value::as_i64),
            checksum: text(inner("checksum")).or_else(|| text(body.get("checksum"))),
            bytesize: inner("bytesize").and_then(Value::as_u64),
        }
    }
}

/// The answer to a PUT; `Job-Status` is the job's status afterwards.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PutAnswer {
    pub(crate) code: u16,
    /// `X-GitLab-Trace-Update-Interval` in seconds, only with 202.
    pub(crate) backoff: Option<u64>,
    pub(crate) breach: Option<Breach>,
}

impl PutAnswer {
    fn code(code: u16) -> Self {
        Self { code, backoff: None, breach: None }
    }

    fn broken(code: u16, rule: &'static str, detail: impl Into<String>) -> Self {
        Self { code, backoff: None, breach: Some(Breach::new(rule, detail)) }
    }
}

impl Job {
    /// Judges and applies one PUT whose token was right. `resets`: a log that does not fit its
    /// checksum is thrown away, and the runner is asked for all of it.
    pub(crate) fn put(&mut self, update: &Update, now: Now, timing: &Timing, resets: bool) -> PutAnswer {
        if self.token_expired(now) {
            return PutAnswer::code(403);
        }
        if self.is_waiting() {
            return self.put_while_waiting(update, now, timing);
        }
        if !self.status.is_processing() {
            return self.put_after_end(update);
        }
        self.hear(now, timing);
        match update.state.as_str() {
            "running" => PutAnswer::code(200),
            "success" | "failed" => self.put_final(update, now, timing, resets),
            // An older acceptance or another relay of the same job may still say `pending`:
            // refused, but no fault.
            "pending" => PutAnswer::code(400),
            other => PutAnswer::broken(400, "unknown state", format!("PUT with state {other:?}")),
        }
    }

    /// Notes a sign of life, if the last noted one is old enough.
    pub(crate) fn hear(&mut self, now: Now, timing: &Timing) {
        if let Some(lease) = &mut self.lease {
            lease.heard = now.at;
            if now.at.duration_since(lease.noted) >= timing.note_every {
                lease.noted = now.at;
            }
        }
    }

    fn put_while_waiting(&mut self, update: &Update, now: Now, timing: &Timing) -> PutAnswer {
        match update.state.as_str() {
            "pending" => {
                self.hear(now, timing);
                PutAnswer::code(200)
            }
            "running" => {
                self.hear(now, timing);
                self.begin(now);
                PutAnswer::code(200)
            }
            other => PutAnswer::broken(
                400,
                "state before acknowledgement",
                format!("PUT with state {other:?} while the job waits for `running`"),
            ),
        }
    }

    /// The first terminal PUT wins; the same one may come again, because delivery is at least once.
    fn put_after_end(&self, update: &Update) -> PutAnswer {
        let terminal = matches!(update.state.as_str(), "success" | "failed");
        match &self.reported {
            Some(first) if terminal && *first != update.state => {
                PutAnswer::broken(403, "verdict changed", format!("reported {first} before, now {}", update.state))
            }
            _ => PutAnswer::code(403),
        }
    }

    fn put_final(&mut self, update: &Update, now: Now, timing: &Timing, resets: bool) -> PutAnswer {
        let mut breach = None;
        if let Some(checksum) = &update.checksum {
            let stored = self.trace.len();
            let announced = update.bytesize.unwrap_or(stored);
            let live = self.log_live_until.is_some_and(|until| now.at < until);
            if announced > stored || live || self.log_is_locked(now) {
                let since = *self.final_since.get_or_insert(now.at);
                let waited = now.at.duration_since(since);
                if waited < timing.final_wait {
                    return PutAnswer { code: 202, backoff: Some(backoff(waited.as_secs())), breach: None };
                }
            }
            if announced != stored {
                breach = Some(Breach::new("log size", format!("{announced} bytes announced, {stored} stored")));
            } else if *checksum != self.trace.checksum() {
                let detail = format!("{checksum} announced, {} stored", self.trace.checksum());
                breach = Some(Breach::new("log checksum", detail));
            }
        }
        if breach.is_some() && resets && self.lease.as_ref().is_some_and(|lease| lease.resends_log) {
            self.trace.clear();
            return PutAnswer::code(412);
        }
        if update.state == "failed" {
            breach = breach.or_else(|| self.unlisted_reason(update));
        }
        self.finish(update, now);
        PutAnswer { code: 200, backoff: None, breach }
    }

    /// A canceling job ends as canceled, whatever the runner says.
    fn finish(&mut self, update: &Update, now: Now) {
        self.exit_code = update.exit_code;
        self.reported = Some(update.state.clone());
        if self.status == Status::Canceling {
            self.end(Status::Canceled, now);
        } else if update.state == "success" {
            self.end(Status::Success, now);
        } else {
            let reason = update.failure_reason.as_deref().unwrap_or("unknown_failure");
            let known = KNOWN_REASONS.contains(&reason);
            self.fail(if known { reason } else { "unknown_failure" }, now);
        }
    }

    /// Runners map a reason that the payload does not list; only `job_canceled` at acknowledgement
    /// goes out unmapped.
    fn unlisted_reason(&self, update: &Update) -> Option<Breach> {
        let reason = update.failure_reason.as_deref()?;
        let fine = ALWAYS_ACCEPTED.contains(&reason)
            || reason == "unknown_failure"
            || reason == "job_canceled"
            || self.accepted_reasons.iter().any(|accepted| accepted == reason);
        (!fine).then(|| Breach::new("failure reason", format!("{reason:?} is not in features.failure_reasons")))
    }
}

/// GitLab's back-off for a final state that waits for the log: 1 to 64 s, doubling with its age.
fn backoff(waited_seconds: u64) -> u64 {
    (waited_seconds + 1).next_power_of_two().min(64)
}
