//! What managers and the cluster say, and what follows from it.

use std::sync::Arc;

use gantry_core::{Ending, NoteLevel, go_duration};
use gantry_wire::cache::ObjectRequests;
use gantry_wire::frame::{Frame, Phase, Refused};
use gantry_wire::plan::{Action, PodPlan};
use gantry_wire::shim::ShimFrame;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::job::{Activity, Job, Script, Shim};
use super::{FAILURE, SUCCESS};
use crate::agent::journal::TraceFileError;
use crate::diagnostics::say;
use crate::event::SelfReportEvent;
use crate::limits::{AGENT_WITHOUT_GO, SHIM_GOODBYE};

impl Job {
    pub(super) fn on_manager(&mut self, frame: Frame, reply: &mpsc::Sender<Frame>) {
        match frame {
            Frame::Plan(plan) => self.on_another_plan(&plan, reply),
            Frame::Go => self.on_go(),
            Frame::Note(note) if self.closed.is_none() => match note.service {
                Some(service) => self.journal.service(service, &note.text),
                None => self.journal.manager_note(note.level, &note.text),
            },
            Frame::Cancel(cancel) if cancel.force => self.stop_all(Ending::Canceled),
            Frame::Cancel(_) => self.on_graceful_cancel(),
            Frame::Fail(ending) => self.stop_all(ending),
            Frame::ServicesStarted => {
                self.services_started = true;
                self.ask_services();
                self.try_script();
            }
            Frame::ServiceEnded(service) => self.on_service_ended(service),
            Frame::CacheRequests(fresh) => self.on_cache_requests(&fresh),
            Frame::Reported => self.on_reported(),
            _ => {}
        }
    }

    /// A manager that did not see the first answer asks again; a plan for anything else is a
    /// mistake.
    fn on_another_plan(&self, plan: &PodPlan, reply: &mpsc::Sender<Frame>) {
        let answer = if plan.job_id == self.plan.job_id {
            Frame::PlanAccepted
        } else {
            let message = format!("this pod has a plan already, for job {}", self.plan.job_id);
            Frame::Refused(Refused::order(message))
        };
        let _ = reply.try_send(answer);
    }

    /// What saves caches was signed again. A stage that runs goes on with what it has.
    fn on_cache_requests(&mut self, fresh: &[ObjectRequests]) {
        for stage in &mut Arc::make_mut(&mut self.plan).stages {
            if let Action::SaveCache(save) = &mut stage.action {
                save.renew(fresh);
            }
        }
    }

    fn on_go(&mut self) {
        if self.phase == Phase::Planned {
            self.phase = Phase::Running;
            self.started = true;
            self.advance();
        }
    }

    /// GitLab has let a job fail by now that it was not told to run, and has begun it anew: this
    /// one must not start any more.
    pub(super) fn on_no_start(&mut self) {
        let seconds = AGENT_WITHOUT_GO.as_secs();
        let message = format!("the pod had all of the job, and no runner manager told it to start within {seconds} s");
        self.close(&Ending::Runner { message });
    }

    fn on_graceful_cancel(&mut self) {
        if self.history.canceled || self.closed.is_some() {
            return;
        }
        self.history.canceled = true;
        if self.phase == Phase::Planned {
            self.close(&Ending::Canceled);
            return;
        }
        let script_next =
            |stage: usize| self.plan.stages.get(stage).is_some_and(|stage| matches!(stage.action, Action::Script(_)));
        let after_scripts_began = self.activity.stage().is_some_and(|stage| {
            self.history.tries.iter().any(|a_try| script_next(a_try.stage)) && !script_next(stage)
        });
        match &self.activity {
            Activity::Script(script) if script_next(script.stage) => {
                self.journal.note(NoteLevel::Warning, "script canceled externally (UI, API)");
                self.stop_script(Ending::Canceled);
            }
            // Once the user's scripts are over a cancel changes nothing (GitLab Runner 19.4).
            _ if after_scripts_began => {}
            Activity::BuildLost { .. } | Activity::Script(_) => {}
            _ => self.drop_activity(),
        }
    }

    /// Nothing more runs.
    pub(super) fn stop_all(&mut self, ending: Ending) {
        if self.closed.is_some() {
            return;
        }
        let ending = self.history.stopped.get_or_insert(ending).clone();
        match &self.activity {
            _ if self.phase == Phase::Planned => self.close(&ending),
            Activity::Script(_) => self.stop_script(ending),
            _ => self.drop_activity(),
        }
    }

    /// Leaves what is being done, which was no script, and goes on with what `next_stage` says.
    fn drop_activity(&mut self) {
        self.activity = Activity::Idle;
        // What the dropped task still has to say is void.
        self.newest_task += 1;
        self.end_section();
        self.advance();
    }

    pub(super) fn on_job_timeout(&mut self) {
        if self.history.stopped.is_some() {
            return;
        }
        let is_told = matches!(
            &self.activity,
            Activity::Script(Script {
                stop: Some(Ending::ScriptTimedOut { .. } | Ending::AfterScriptTimedOut { .. }),
                ..
            })
        );
        if let Some(stage) = self.activity.stage().filter(|_| !is_told) {
            self.warn_of_timeout(stage);
        }
        self.stop_all(Ending::TimedOut { seconds: self.plan.timeout_seconds });
    }

    pub(super) fn warn_of_timeout(&mut self, stage: usize) {
        let Some(stage) = self.plan.stages.get(stage) else { return };
        let text = format!(
            "{} could not run to completion because the timeout was exceeded. For more control over job and script timeouts see: \
             https://docs.gitlab.com/ci/runners/configure_runners/#set-script-and-after_script-timeouts",
            stage.name
        );
        self.journal.note(NoteLevel::Warning, &text);
    }

    /// The kubelet ends the pod. What runs may finish within the grace period; if it fails now, the
    /// disruption is to blame.
    pub(super) fn on_terminated(&mut self) {
        let already = std::mem::replace(&mut self.disrupted, true);
        if !already && self.closed.is_none() {
            say(format_args!("the pod is being ended; going on for as long as it lasts"));
            self.journal
                .note(NoteLevel::Warning, "the cluster is ending this pod; the job goes on for its grace period");
        }
        if self.kept.take().is_some() && self.leave_by.is_some() {
            self.leave();
        }
    }

    pub(super) fn on_broken_journal(&mut self, trouble: &TraceFileError) {
        say(format_args!("{trouble}"));
        self.stop_all(Ending::Runner { message: trouble.to_string() });
    }

    /// The agent's own relay speaks for a manager that is not there.
    pub(super) fn on_self_report(&mut self, event: SelfReportEvent) {
        match event {
            SelfReportEvent::Begun => self.go_on_without_word_of_services(),
            SelfReportEvent::Cancel => self.on_graceful_cancel(),
            SelfReportEvent::Delivered => self.on_reported(),
            SelfReportEvent::Unwanted(why) => {
                say(format_args!("{why}"));
                self.unwanted = true;
                self.stop_all(Ending::Canceled);
            }
            SelfReportEvent::Abandoned(silence) => {
                let message = format!(
                    "neither a runner manager nor GitLab could be reached for {}; the job was ended so that it does not run beside \
                     its own retry",
                    go_duration::format(silence)
                );
                self.stop_all(Ending::Runner { message });
            }
        }
    }

    /// Only managers see whether services have started. A kubelet starts them before the build
    /// container, so the shim's word that it is there has to be enough when no manager is; waiting
    /// on would only end the job at its time-out.
    fn go_on_without_word_of_services(&mut self) {
        if !self.plan.wait_for_services || self.services_started || self.closed.is_some() {
            return;
        }
        let text = "no runner is there to say whether all services have started; the job goes on without that";
        self.journal.note(NoteLevel::Warning, text);
        self.services_started = true;
        self.ask_services();
        self.try_script();
    }

    fn on_reported(&mut self) {
        if self.closed.is_none() || self.leave_by.is_some() {
            return;
        }
        match self.kept {
            Some(limit) => self.leave_by = Some(Instant::now() + limit),
            None => self.leave(),
        }
    }

    /// Sends the shim home, and ends soon.
    fn leave(&mut self) {
        if let Shim::Ready(link) = &self.shim {
            let _ = link.orders.try_send(ShimFrame::Exit);
        }
        self.leave_by = Some(Instant::now() + SHIM_GOODBYE);
    }

    /// The exit code, once it is time to end.
    pub(super) fn leaving(&mut self) -> Option<u8> {
        if self.unwanted {
            self.on_reported();
        }
        if let Some(by) = self.leave_by {
            let shim_left = !matches!(self.shim, Shim::Ready(_));
            return (shim_left || Instant::now() >= by).then_some(SUCCESS);
        }
        if self.report_by.is_some_and(crate::clock::Deadline::has_passed) {
            say(format_args!("the verdict was never reported"));
            return Some(FAILURE);
        }
        None
    }
}
