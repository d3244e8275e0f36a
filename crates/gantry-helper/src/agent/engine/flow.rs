//! From one stage to the next: begin, finish, and what the log says about it.

use std::sync::Arc;
use std::time::Duration;

use gantry_core::{Ending, NoteLevel};
use gantry_wire::frame::Phase;
use gantry_wire::plan::{Action, StagePlan};
use gantry_wire::stage::{JobStatus, Next, Try, next_stage};
use tokio::time::Instant;

use super::job::{Activity, Job};
use crate::clock::Deadline;
use crate::event::StageEvent;
use crate::outlet::Outlet;
use crate::ports::StageTry;
use crate::stages;
use crate::tasks;

impl Job {
    /// Goes on with whatever comes next.
    pub(super) fn advance(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        match next_stage(&self.plan, &self.history) {
            Next::End(ending) => self.close(&ending),
            Next::Run { stage, attempt, delay, status } if delay.is_zero() => self.begin(stage, attempt, status),
            Next::Run { stage, attempt, delay, status } => {
                self.journal.note(NoteLevel::Warning, "Retrying...");
                self.activity = Activity::Delay { until: Instant::now() + delay, stage, attempt, status };
            }
        }
    }

    pub(super) fn begin(&mut self, stage: usize, attempt: u32, status: JobStatus) {
        let plan = Arc::clone(&self.plan);
        let Some(what) = plan.stages.get(stage) else { return };
        if matches!(what.action, Action::Script(_) | Action::AfterScript(_)) {
            self.activity = Activity::Awaiting { stage, status };
            self.try_script();
            return;
        }
        if let (Action::Sources(_), Some(limit)) = (&what.action, plan.get_sources_timeout_ms) {
            let clock = self.around.clock;
            self.sources_deadline.get_or_insert_with(|| clock.after(Duration::from_millis(limit)));
        }
        self.open_section(what);
        self.newest_task += 1;
        let id = self.newest_task;
        let outlet = Outlet::new(self.around.events.clone(), id);
        let work = StageTry { plan: Arc::clone(&plan), stage, attempt, status };
        let result = self.around.workshop.perform(work, outlet.clone());
        let report = async move {
            let ending = result.await.err().unwrap_or(Ending::Succeeded);
            outlet.send(StageEvent::Ended(ending)).await;
        };
        self.activity = Activity::Tool { stage, _task: tasks::spawn(report) };
    }

    /// Ends a job whose sources take longer than they may, with all tries.
    pub(super) fn check_sources_time(&mut self) {
        if self.closed.is_some() || !self.sources_deadline.is_some_and(Deadline::has_passed) {
            return;
        }
        self.sources_deadline = None;
        let stage = self.activity.stage().and_then(|stage| self.plan.stages.get(stage));
        if let (Some(StagePlan { action: Action::Sources(_), .. }), Some(limit)) =
            (stage, self.plan.get_sources_timeout_ms)
        {
            self.stop_all(Ending::SourcesTimedOut { seconds: limit.div_ceil(1000) });
        }
    }

    pub(super) fn open_section(&mut self, stage: &StagePlan) {
        self.journal.section_start(&stage.name, &stage.title);
        self.section = Some(stage.name.clone());
    }

    pub(super) fn end_section(&mut self) {
        if let Some(name) = self.section.take() {
            self.journal.section_end(&name);
        }
        self.partial_at = None;
    }

    /// A try of a stage is over.
    pub(super) fn finish(&mut self, stage: usize, ending: Ending) {
        let plan = Arc::clone(&self.plan);
        let Some(what) = plan.stages.get(stage) else { return };
        self.activity = Activity::Idle;
        self.after_deadline = None;
        self.end_section();
        let ending = self.blame(ending);
        if ending != Ending::Succeeded && self.history.stopped.is_none() {
            self.comment_on(stage, what, &ending);
        }
        self.history.tries.push(Try { stage, ending });
        self.advance();
    }

    /// What fails while the cluster ends the pod fails because of that.
    fn blame(&self, ending: Ending) -> Ending {
        let own_fault = matches!(
            ending,
            Ending::ScriptFailed { .. }
                | Ending::ScriptOutOfMemory { .. }
                | Ending::StageFailed { .. }
                | Ending::ContainerDied { .. }
        );
        if self.disrupted && own_fault {
            let message = format!(
                "it was told to terminate while the job ran, and then: {}; an eviction, a preemption or a drain of its node",
                ending.verdict().message
            );
            return Ending::PodDisrupted { pod: stages::host_name(), message };
        }
        ending
    }

    /// Says what failed, where the last line of the log will not.
    fn comment_on(&mut self, stage: usize, what: &StagePlan, ending: &Ending) {
        let message = ending.verdict().message;
        let tries = self.history.tries.iter().filter(|a_try| a_try.stage == stage).count() + 1;
        let failed_before =
            self.history.tries.iter().any(|a_try| a_try.stage != stage && a_try.ending != Ending::Succeeded);
        let again = tries < what.attempts as usize;
        match what.action {
            Action::AfterScript(_) if self.plan.after_script_ignore_errors => {
                let text = format!("after_script failed, but job will continue unaffected: {message}");
                self.journal.note(NoteLevel::Warning, &text);
            }
            Action::Cleanup => self.journal.note(NoteLevel::Warning, &message),
            _ if again || failed_before => self.journal.note(NoteLevel::Warning, &message),
            _ => {}
        }
    }
}
