//! User scripts: waiting for the build container, starting, stopping, and what their ends mean.

use std::sync::Arc;
use std::time::Duration;

use gantry_core::Ending;
use gantry_wire::frame::Phase;
use gantry_wire::plan::Action;
use gantry_wire::shim::{Ended, Kill, Run, SecretText, ShimFrame};
use tokio::time::Instant;

use super::job::{Activity, Job, Script, Shim};
use crate::clock::Deadline;
use crate::event::StageEvent;
use crate::limits::{CAUSE_OF_DEATH, GRACE_SHARE, KILL_ANSWER};
use crate::outlet::Outlet;
use crate::ports::{ScriptSetup, User};
use crate::process::shell;
use crate::stages;
use crate::tasks;

impl Job {
    /// Prepares the script that waits, if one does and everything it waits for is there.
    pub(super) fn try_script(&mut self) {
        let Activity::Awaiting { stage, status } = self.activity else { return };
        let user = match &self.shim {
            Shim::Absent => return,
            Shim::Lost { waited: true, .. } => return self.give_up_on_build(stage),
            Shim::Lost { .. } => return self.await_cause(stage),
            Shim::Ready(link) if link.shell.is_empty() => {
                let message = format!(
                    "the build image has no shell: looked for {}; use an image that has one",
                    shell::candidates()
                );
                return self.finish(stage, Ending::Configuration { message });
            }
            Shim::Ready(link) => User { uid: link.uid, gid: link.gid },
        };
        if !self.services_are_ready() {
            return;
        }
        self.newest_task += 1;
        let id = self.newest_task;
        let first = !self.history.tries.iter().any(|a_try| {
            self.plan.stages.get(a_try.stage).is_some_and(|stage| matches!(stage.action, Action::Script(_)))
        });
        let outlet = Outlet::new(self.around.events.clone(), id);
        let new_owner = first.then_some(user);
        let setup =
            ScriptSetup { plan: Arc::clone(&self.plan), stage, status, new_owner, user, outlet: outlet.clone() };
        let prepared = self.around.workshop.prepare(setup);
        let report = async move {
            let event = match prepared.await {
                Ok(environment) => StageEvent::Ready(environment),
                Err(ending) => StageEvent::Ended(ending),
            };
            outlet.send(event).await;
        };
        self.activity = Activity::Preparing { stage, _task: tasks::spawn(report) };
    }

    /// Ends a job whose build container does not start in its time. A manager that is there keeps
    /// the same limit and sees the cause; without one the job must not wait for ever.
    pub(super) fn check_build_time(&mut self) {
        let (Some(by), Some(limit)) = (self.shim_by, self.plan.start) else { return };
        if self.phase != Phase::Running || !matches!(self.shim, Shim::Absent) {
            self.shim_by = self.shim_by.filter(|_| self.phase == Phase::Planned);
            return;
        }
        if !by.has_passed() {
            return;
        }
        if self.around.managers.borrow().connected {
            self.shim_by = Some(self.around.clock.after(CAUSE_OF_DEATH));
            return;
        }
        self.shim_by = None;
        let detail = format!(
            "the build container has not started, and nobody has told the helper why; while the pod is there, kubectl describe pod {} does",
            stages::host_name()
        );
        self.stop_all(Ending::PodStartTimeout { seconds: limit.seconds, setting: limit.setting, detail });
    }

    /// Everything is ready: hands the script to the shim.
    pub(super) fn start_script(&mut self, environment: Vec<(String, SecretText)>) {
        let Activity::Preparing { stage, .. } = self.activity else { return };
        let plan = Arc::clone(&self.plan);
        let Some(what) = plan.stages.get(stage) else { return };
        let (Action::Script(script) | Action::AfterScript(script)) = &what.action else { return };
        let Shim::Ready(link) = &self.shim else {
            self.activity = Activity::Awaiting { stage, status: gantry_wire::stage::JobStatus::Running };
            return self.try_script();
        };
        let exports = stages::is_traced(&plan).then(|| self.shown.news(&environment));
        let run = Run {
            name: what.name.clone(),
            script: script.text.clone(),
            environment,
            directory: plan.paths.project_dir.clone(),
            posix_shell: plan.posix_shell,
        };
        if link.orders.try_send(ShimFrame::Run(run)).is_err() {
            return self.on_shim_lost("it does not take orders".to_owned());
        }
        if matches!(what.action, Action::AfterScript(_)) {
            self.after_deadline = Some(self.around.clock.after(Duration::from_millis(plan.after_script_timeout_ms)));
        } else if let Some(limit) = plan.script_timeout_ms {
            let clock = self.around.clock;
            self.scripts_deadline.get_or_insert_with(|| clock.after(Duration::from_millis(limit)));
        }
        self.open_section(what);
        if let Some(exports) = exports {
            self.output(exports.expose().as_bytes());
        }
        self.activity = Activity::Script(Script { stage, stop: None, give_up: None });
    }

    /// Stops the script that runs. The last reason is the one that counts; the script's time to end
    /// begins with the first.
    pub(super) fn stop_script(&mut self, ending: Ending) {
        let Activity::Script(script) = &mut self.activity else { return };
        let already = script.stop.replace(ending).is_some();
        if already {
            return;
        }
        let grace = grace(Duration::from_millis(self.plan.script_grace_ms), self.deadline.remaining());
        script.give_up = Some(Instant::now() + grace + KILL_ANSWER);
        if let Shim::Ready(link) = &self.shim {
            let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
            let _ = link.orders.try_send(ShimFrame::Kill(Kill { grace_ms }));
        }
    }

    /// Stops scripts whose own time is over, and gives up on a shim that does not stop one.
    pub(super) fn check_script_time(&mut self) {
        let Activity::Script(script) = &self.activity else { return };
        let stage = script.stage;
        if script.give_up.is_some_and(|at| Instant::now() >= at) {
            return self.on_shim_lost("it did not stop a script".to_owned());
        }
        if script.stop.is_some() {
            return;
        }
        let is_after = self.plan.stages.get(stage).is_some_and(|stage| matches!(stage.action, Action::AfterScript(_)));
        let (deadline, ending) = if is_after {
            let seconds = self.plan.after_script_timeout_ms.div_ceil(1000);
            (self.after_deadline, Ending::AfterScriptTimedOut { seconds })
        } else {
            let seconds = self.plan.script_timeout_ms.unwrap_or(0).div_ceil(1000);
            (self.scripts_deadline, Ending::ScriptTimedOut { seconds })
        };
        if deadline.is_some_and(Deadline::has_passed) {
            self.warn_of_timeout(stage);
            self.stop_script(ending);
        }
    }

    pub(super) fn on_script_ended(&mut self, ended: &Ended) {
        if let Some(usage) = &ended.usage {
            self.usage = std::mem::take(&mut self.usage).and(usage);
        }
        let Activity::Script(script) = &mut self.activity else { return };
        let stage = script.stage;
        let stop = script.stop.take();
        let ending = stop.unwrap_or_else(|| match &ended.start_failure {
            Some(problem) if self.has_run_a_script() => self.spoiled(stage, problem),
            _ => meaning(ended, self.plan.build_memory_limit.as_deref()),
        });
        self.finish(stage, ending);
    }

    /// Whether a script of the user has been started in the build container.
    fn has_run_a_script(&self) -> bool {
        let scripts = self.history.tries.iter().filter(|a_try| {
            self.plan.stages.get(a_try.stage).is_some_and(|stage| matches!(stage.action, Action::Script(_)))
        });
        scripts.into_iter().any(|a_try| !matches!(a_try.ending, Ending::Runner { .. }))
    }

    /// A script could not be started where an earlier one could: that one has changed the
    /// container.
    fn spoiled(&self, stage: usize, problem: &str) -> Ending {
        let stage = self.plan.stages.get(stage).map_or("", |stage| stage.name.as_str());
        Ending::StageFailed {
            stage: stage.to_owned(),
            message: format!("{stage} cannot start any more, after what an earlier script has done: {problem}"),
            exit_code: 1,
        }
    }

    pub(super) fn on_shim_lost(&mut self, why: String) {
        crate::diagnostics::say(format_args!("the build container is gone: {why}"));
        let was_connected = matches!(self.shim, Shim::Ready(_));
        if !matches!(self.shim, Shim::Lost { .. }) {
            self.shim = Shim::Lost { why, was_connected, waited: false };
        }
        match &mut self.activity {
            Activity::Script(script) => {
                let stage = script.stage;
                match script.stop.take() {
                    Some(ending) => self.finish(stage, ending),
                    None => self.await_cause(stage),
                }
            }
            Activity::Preparing { stage, .. } | Activity::Awaiting { stage, .. } => {
                let stage = *stage;
                self.await_cause(stage);
            }
            _ => {}
        }
    }

    /// Gives the manager, who sees the container's status, time to say what happened.
    fn await_cause(&mut self, stage: usize) {
        self.newest_task += 1;
        self.activity = Activity::BuildLost { stage, until: Instant::now() + CAUSE_OF_DEATH };
    }

    /// Nobody knows more: the stage ends with what was seen.
    pub(super) fn give_up_on_build(&mut self, stage: usize) {
        let Shim::Lost { why, was_connected, waited } = &mut self.shim else { return };
        *waited = true;
        let ending = if *was_connected {
            let reason = format!("unknown to the helper container ({why})");
            // The code of a container that nobody has seen end.
            Ending::ContainerDied {
                container: gantry_wire::layout::BUILD.to_owned(),
                exit_code: -1,
                reason,
                entrypoint: None,
            }
        } else {
            Ending::ShimSilent { message: format!("the build container cannot run scripts: {why}") }
        };
        self.finish(stage, ending);
    }
}

/// How long a script has to end after TERM, in a job with so much time left. What is behind it,
/// `after_script` first, needs that time too. The end of the job leaves nothing behind it.
fn grace(wanted: Duration, left: Duration) -> Duration {
    if left.is_zero() { wanted } else { wanted.min(left / GRACE_SHARE) }
}

/// What the end of a script means, in a container with that memory limit.
fn meaning(ended: &Ended, memory_limit: Option<&str>) -> Ending {
    match ended {
        Ended { start_failure: Some(problem), .. } => {
            Ending::Runner { message: format!("the script could not be started in the build container: {problem}") }
        }
        Ended { exit_code: 0, .. } => Ending::Succeeded,
        Ended { exit_code, oom_kills: 1.., .. } => {
            Ending::ScriptOutOfMemory { exit_code: *exit_code, limit: memory_limit.map(str::to_owned) }
        }
        Ended { exit_code, .. } => Ending::ScriptFailed { exit_code: *exit_code },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_leaves_most_of_the_job_s_time() {
        let seconds = Duration::from_secs;
        assert_eq!(grace(seconds(30), seconds(3600)), seconds(30));
        assert_eq!(grace(seconds(30), seconds(12)), seconds(3));
        assert_eq!(grace(seconds(30), Duration::ZERO), seconds(30));
    }

    #[test]
    fn ends_have_meanings() {
        let ended =
            |exit_code, oom_kills| Ended { exit_code, signal: None, oom_kills, start_failure: None, usage: None };
        let out_of_memory = |exit_code| Ending::ScriptOutOfMemory { exit_code, limit: Some("1Gi".to_owned()) };
        for (exit_code, oom_kills, ending) in [
            (0, 3, Ending::Succeeded),
            (137, 1, out_of_memory(137)),
            (137, 0, Ending::ScriptFailed { exit_code: 137 }),
            // A compiler was killed, and make gave up.
            (2, 1, out_of_memory(2)),
        ] {
            assert_eq!(meaning(&ended(exit_code, oom_kills), Some("1Gi")), ending);
        }
    }
}
