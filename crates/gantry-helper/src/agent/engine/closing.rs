//! The end: the verdict, its line in the log, and the record that is never changed again.

use std::time::Duration;

use gantry_core::limits::MOST_KEPT;
use gantry_core::{Ending, FailureReason, NoteLevel, Verdict};
use gantry_wire::frame::{Closed, Phase};

use super::job::{Activity, Job, Shim};
use super::usage;
use crate::limits::REPORT_WAIT;

impl Job {
    /// Closes the job with `ending`. Its line is the last of the trace.
    pub(super) fn close(&mut self, ending: &Ending) {
        if self.closed.is_some() {
            return;
        }
        self.activity = Activity::Idle;
        self.newest_task += 1;
        self.journal.end_head();
        self.end_section();
        self.show_usage();
        let verdict = ending.verdict();
        self.keep_containers(&verdict);
        self.journal.verdict(&verdict);
        let (trace_bytes, trace_crc32) = self.journal.close();
        let usage = Some(self.usage.clone()).filter(|usage| !usage.is_empty());
        self.closed = Some(Closed { verdict, trace_bytes, trace_crc32, usage });
        self.phase = Phase::Closed;
        // GitLab lets a job fail within minutes that it does not know to run: longer than that
        // there is nothing to report.
        let token_life = if self.started { Duration::from_secs(self.plan.timeout_seconds) } else { Duration::ZERO };
        self.report_by = Some(self.around.clock.after(token_life.saturating_add(REPORT_WAIT)));
    }

    /// Says what the build container has used. Without a word of its shim there is nothing to
    /// compare.
    fn show_usage(&mut self) {
        let is_known = self.usage.elapsed_us.is_some();
        let lines = usage::lines(&self.usage, &self.plan.build_resources).filter(|_| is_known);
        let Some((line, suggestions)) = lines else { return };
        self.journal.note(NoteLevel::Plain, &line);
        for suggestion in suggestions {
            self.journal.note(NoteLevel::Warning, &suggestion);
        }
    }

    /// Lets the containers of a failed job stay, where the plan says so and one can get into them,
    /// and says how.
    fn keep_containers(&mut self, verdict: &Verdict) {
        let Some(keep) = &self.plan.keep_failed else { return };
        let has_failed = !verdict.success && verdict.reason != Some(FailureReason::JobCanceled);
        if has_failed && matches!(self.shim, Shim::Ready(_)) && !self.disrupted && !self.unwanted {
            self.kept = Some(Duration::from_millis(keep.ms).min(MOST_KEPT));
            self.journal.note(NoteLevel::Info, &keep.hint);
        }
    }
}
