//! The job: all of its state, its loop and its timers. What happens when is in the files beside
//! this one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use gantry_core::{Ending, NoteLevel};
use gantry_wire::frame::{Closed, Phase, State};
use gantry_wire::plan::PodPlan;
use gantry_wire::services::SilentService;
use gantry_wire::stage::{History, JobStatus};
use gantry_wire::usage::Usage;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::exports::Shown;
use super::{EngineContext, FAILURE};
use crate::agent::journal::Journal;
use crate::agent::known::KnownJob;
use crate::agent::published::Published;
use crate::clock::Deadline;
use crate::diagnostics::keep_out;
use crate::event::{Event, ShimEvent, ShimLink, StageEvent};
use crate::limits::{AGENT_WITHOUT_GO, PARTIAL_LINE, TICK};
use crate::tasks::Task;

/// The containers of services that have ended, and how.
pub(super) type Ended = BTreeMap<String, String>;

/// A job with a plan.
pub(super) struct Job {
    pub(super) around: EngineContext,
    pub(super) plan: Arc<PodPlan>,
    pub(super) journal: Journal,
    pub(super) history: History,
    pub(super) phase: Phase,
    pub(super) activity: Activity,
    /// The section that is open in the trace.
    pub(super) section: Option<String>,
    pub(super) shim: Shim,
    pub(super) services_started: bool,
    pub(super) readiness: Readiness,
    /// What managers have seen end.
    pub(super) ended_services: watch::Sender<Ended>,
    /// For managers, which may be able to show more.
    pub(super) silent_services: Vec<SilentService>,
    /// What the build container has used, as far as the shim has said.
    pub(super) usage: Usage,
    /// GitLab knows that the job runs.
    pub(super) started: bool,
    /// The cluster is ending the pod.
    pub(super) disrupted: bool,
    /// GitLab wants nothing more about this job.
    pub(super) unwanted: bool,
    /// End of the job's time-out.
    pub(super) deadline: Deadline,
    /// When the agent gives up waiting for the word to start.
    pub(super) start_by: Deadline,
    /// When the build container must be there, if the manager has said so.
    pub(super) shim_by: Option<Deadline>,
    /// End of the time for the sources, once they are being fetched.
    pub(super) sources_deadline: Option<Deadline>,
    /// End of the user's scripts, once one has started.
    pub(super) scripts_deadline: Option<Deadline>,
    /// End of the `after_script` that runs.
    pub(super) after_deadline: Option<Deadline>,
    /// When unfinished lines are shown.
    pub(super) partial_at: Option<Instant>,
    /// What the log of a job that is traced has shown of its variables.
    pub(super) shown: Shown,
    /// Warnings that the log has once.
    pub(super) warned: BTreeSet<String>,
    /// Number of the newest task; messages of older ones are void.
    pub(super) newest_task: u64,
    pub(super) closed: Option<Closed>,
    /// When the agent ends although nobody has reported the verdict.
    pub(super) report_by: Option<Deadline>,
    /// For how long the containers stay after that: the job has failed, and somebody may want to
    /// look into them.
    pub(super) kept: Option<Duration>,
    /// When the agent ends after the verdict was reported, whether or not the shim has.
    pub(super) leave_by: Option<Instant>,
}

/// What the job is doing.
pub(super) enum Activity {
    /// Nothing: not started, or closed.
    Idle,
    /// Waits before a stage is tried again.
    Delay { until: Instant, stage: usize, attempt: u32, status: JobStatus },
    /// A stage runs in this container.
    Tool { stage: usize, _task: Task },
    /// A script waits for the build container, or for the services.
    Awaiting { stage: usize, status: JobStatus },
    /// File variables are being written, the tree is being handed over.
    Preparing { stage: usize, _task: Task },
    /// A script runs in the build container.
    Script(Script),
    /// The build container is gone; the manager may yet say why.
    BuildLost { stage: usize, until: Instant },
}

/// A script that runs.
pub(super) struct Script {
    pub(super) stage: usize,
    /// Why it is being stopped, if it is.
    pub(super) stop: Option<Ending>,
    /// When the shim counts as lost for not having stopped it.
    pub(super) give_up: Option<Instant>,
}

/// How far the services are, as far as anybody waits for them.
#[derive(Default)]
pub(super) enum Readiness {
    /// They have not started.
    #[default]
    Starting,
    /// They are asked.
    Asked {
        _task: Task,
        /// The log says so already.
        announced: bool,
    },
    /// Scripts may run.
    Ready,
    /// One has not answered, and will not. The manager may show its log until then.
    Silent { until: Instant, ending: Ending },
}

/// The build container, as far as known.
pub(super) enum Shim {
    /// Not there yet.
    Absent,
    /// It can be talked to.
    Ready(ShimLink),
    /// It was there, or something claimed to be it.
    Lost {
        /// What was seen.
        why: String,
        /// Whether it had said a proper hello.
        was_connected: bool,
        /// Whether the manager has had its time to name a cause.
        waited: bool,
    },
}

impl Activity {
    /// The stage that this is about.
    pub(super) fn stage(&self) -> Option<usize> {
        match self {
            Self::Idle => None,
            Self::Delay { stage, .. }
            | Self::Tool { stage, .. }
            | Self::Awaiting { stage, .. }
            | Self::Preparing { stage, .. }
            | Self::Script(Script { stage, .. })
            | Self::BuildLost { stage, .. } => Some(*stage),
        }
    }
}

impl Job {
    pub(super) fn new(around: EngineContext, plan: Arc<PodPlan>) -> Self {
        keep_out(plan.trace.masks.iter().chain([&plan.job_token]));
        let journal = Journal::begin(&around.trace_file, &plan.trace);
        let deadline = around.clock.after(Duration::from_millis(plan.remaining_ms));
        let start_by = around.clock.after(AGENT_WITHOUT_GO);
        let shim_by = plan.start.map(|start| around.clock.after(Duration::from_millis(start.remaining_ms)));
        let _ = around.known.set(KnownJob { plan: Arc::clone(&plan), deadline, shim_by });
        let mut job = Self {
            around,
            plan,
            journal,
            history: History::default(),
            phase: Phase::Planned,
            activity: Activity::Idle,
            section: None,
            shim: Shim::Absent,
            services_started: false,
            readiness: Readiness::default(),
            ended_services: watch::Sender::new(Ended::default()),
            silent_services: Vec::new(),
            usage: Usage::default(),
            started: false,
            disrupted: false,
            unwanted: false,
            deadline,
            start_by,
            shim_by,
            sources_deadline: None,
            scripts_deadline: None,
            after_deadline: None,
            partial_at: None,
            shown: Shown::default(),
            warned: BTreeSet::new(),
            newest_task: 0,
            closed: None,
            report_by: None,
            kept: None,
            leave_by: None,
        };
        job.publish();
        job
    }

    /// Carries the job to its end and waits until that is reported.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Event>) -> u8 {
        loop {
            self.on_time();
            if let Some(trouble) = self.journal.take_trouble() {
                self.on_broken_journal(&trouble);
            }
            self.publish();
            if let Some(code) = self.leaving() {
                return code;
            }
            tokio::select! {
                event = inbox.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => return FAILURE,
                },
                () = tokio::time::sleep(self.next_wake()) => {}
            }
        }
    }

    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Manager { frame, reply } => self.on_manager(frame, &reply),
            Event::Shim(event) => self.on_shim(event),
            Event::Stage { task, event } => {
                if task == self.newest_task {
                    self.on_stage(event);
                }
            }
            Event::Services(silent) => self.on_services(silent),
            Event::Terminated => self.on_terminated(),
            Event::SelfReport(event) => self.on_self_report(event),
        }
    }

    fn on_shim(&mut self, event: ShimEvent) {
        match event {
            ShimEvent::Connected(link) => {
                self.shim = Shim::Ready(link);
                self.try_script();
            }
            // Also between scripts: what runs in the background prints when it likes. Nothing is
            // behind the verdict.
            ShimEvent::Output(bytes) => {
                if self.phase == Phase::Running {
                    self.output(&bytes);
                }
            }
            ShimEvent::Ended(ended) => self.on_script_ended(&ended),
            ShimEvent::Lost(why) => self.on_shim_lost(why),
        }
    }

    fn on_stage(&mut self, event: StageEvent) {
        match event {
            StageEvent::Output(bytes) => self.output(&bytes),
            StageEvent::Note(level, text) => self.journal.note(level, &text),
            StageEvent::WarningOnce(text) => {
                if self.warned.insert(text.clone()) {
                    self.journal.note(NoteLevel::Warning, &text);
                }
            }
            StageEvent::SectionStart { name, title } => self.journal.section_start(name, title),
            StageEvent::SectionEnd { name } => self.journal.section_end(name),
            StageEvent::Disk(bytes) => self.usage.disk = Some(bytes),
            StageEvent::Ready(environment) => self.start_script(environment),
            StageEvent::Ended(ending) => {
                if let Some(stage) = self.activity.stage() {
                    self.finish(stage, ending);
                }
            }
        }
    }

    /// Output of the job. Where the trace has failed there is no use for more of it.
    pub(super) fn output(&mut self, bytes: &[u8]) {
        if self.journal.is_broken() {
            return;
        }
        self.journal.output(bytes);
        self.partial_at = self.journal.has_partial().then(|| Instant::now() + PARTIAL_LINE);
    }

    /// The time of the next thing that only a clock brings.
    fn next_wake(&self) -> Duration {
        let moments = [
            self.partial_at,
            self.leave_by,
            self.services_given_up_at(),
            match &self.activity {
                Activity::Delay { until, .. } | Activity::BuildLost { until, .. } => Some(*until),
                Activity::Script(script) => script.give_up,
                _ => None,
            },
        ];
        let running = self.closed.is_none();
        let deadlines = [
            running.then_some(self.deadline),
            (self.phase == Phase::Planned).then_some(self.start_by),
            self.shim_by,
            self.scripts_deadline.filter(|_| running),
            self.sources_deadline.filter(|_| running),
            self.after_deadline,
            self.report_by,
        ];
        let now = Instant::now();
        let moments = moments.into_iter().flatten().map(|at| at.saturating_duration_since(now));
        let deadlines = deadlines.into_iter().flatten().map(Deadline::remaining).filter(|left| !left.is_zero());
        moments.chain(deadlines).fold(TICK, Duration::min)
    }

    /// Does what is due.
    fn on_time(&mut self) {
        let now = Instant::now();
        if self.partial_at.is_some_and(|at| now >= at) {
            self.partial_at = None;
            if self.closed.is_none() {
                self.journal.flush_partial();
            }
        }
        if self.closed.is_none() && self.deadline.has_passed() {
            self.on_job_timeout();
        }
        if self.phase == Phase::Planned && self.start_by.has_passed() {
            self.on_no_start();
        }
        self.check_sources_time();
        self.check_build_time();
        self.check_services();
        self.check_script_time();
        match self.activity {
            Activity::Delay { until, stage, attempt, status } if now >= until => self.begin(stage, attempt, status),
            Activity::BuildLost { stage, until } if now >= until => self.give_up_on_build(stage),
            _ => {}
        }
    }

    /// Shows managers where the job is.
    pub(super) fn publish(&mut self) {
        let (in_file, in_memory) = self.journal.extent();
        let stage = self.activity.stage().and_then(|stage| self.plan.stages.get(stage)).map(|stage| stage.name.clone());
        let state = State {
            phase: self.phase,
            stage,
            shim: matches!(self.shim, Shim::Ready(_)),
            trace_bytes: in_file + in_memory.len() as u64,
            closed: self.closed.clone(),
            reported: self.leave_by.is_some(),
            silent_services: self.silent_services.clone(),
            keeps_seconds: self.kept.map(|limit| limit.as_secs()),
        };
        let news = Published {
            state,
            started: self.started,
            disrupted: self.disrupted,
            canceled: self.history.canceled,
            services_started: self.services_started,
            in_file,
            in_memory,
        };
        self.around.published.send_if_modified(|published| {
            let differs = *published != news;
            if differs {
                *published = news;
            }
            differs
        });
    }
}
