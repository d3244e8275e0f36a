//! The end: the verdict, its line in the log, and the record that is never changed again.

use std::time::Duration;

use gantry_core::Ending;
use gantry_wire::frame::{Closed, Phase};

use super::job::{Activity, Job};
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
        let verdict = ending.verdict();
        self.journal.verdict(&verdict);
        let (trace_bytes, trace_crc32) = self.journal.close();
        self.closed = Some(Closed { verdict, trace_bytes, trace_crc32 });
        self.phase = Phase::Closed;
        // GitLab takes back a job that it does not know to run within minutes: longer than that there is nothing to report.
        let token_life = if self.started { Duration::from_secs(self.plan.timeout_seconds) } else { Duration::ZERO };
        self.report_by = Some(self.around.clock.after(token_life + REPORT_WAIT));
    }
}
