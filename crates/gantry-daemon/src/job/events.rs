//! The words of a job's life: what can happen to it, what can be done about it.

use std::time::Duration;

use gantry_core::Ending;
use gantry_kube::{ApiError, PodEvent, PodFacts, PodState};
use gantry_plan::HeadLine;
use gantry_relay::{AckOutcome, GitlabStatus, GoneReason, RelayEnd};
use gantry_wire::frame::Phase;
use gantry_wire::services::{EndedService, SilentService};

use crate::job_end::JobEnd;

/// The time that a job has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobTime {
    /// Its time-out.
    pub(crate) timeout: Duration,
    /// What is left of it.
    pub(crate) left: Duration,
}

/// Something about a service that the job log should say, together with the end of the service's
/// log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServiceNews {
    /// Its container.
    pub(crate) container: String,
    /// What it is.
    pub(crate) line: HeadLine,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// The pod exists.
    PodCreated,
    /// It does not, and will not.
    PodNotCreated(Ending),
    /// What the cluster shows of the pod.
    PodSeen(PodState),
    /// The pod as it is now; nothing where the API server cannot say.
    PodLooked(Option<Box<PodFacts>>),
    /// The pod's events.
    Events(Result<Vec<PodEvent>, ApiError>),
    /// The pod's events, as they are when something is wrong with it; none if they cannot be read.
    FinalEvents(Vec<PodEvent>),
    /// Something else in the way of the pod, as a line for the job log.
    PodWaits(String),
    /// Something worth a line in the job log.
    Note(HeadLine),
    /// The pod is deleted, or nothing more can be done about it.
    PodDeleted,
    /// The agent has said hello, and has to be claimed.
    AgentMet(Phase),
    /// The agent is ours, and this far.
    AgentReady {
        /// How far it is.
        phase: Phase,
        /// The job's time, where only the agent knows it.
        time: Option<JobTime>,
    },
    /// The agent has reported the job by itself.
    AgentReported,
    /// The agent belongs to another manager, for at least so long.
    AgentBusy(Duration),
    /// The agent belongs to another manager for good.
    AgentOwned,
    /// The connection to the agent ended, and everything that came over it has been taken.
    AgentLost,
    /// No connection to the agent can be made, for this reason.
    AgentUnreachable(Ending),
    /// The agent keeps the plan.
    PlanAccepted,
    /// The agent cannot use the plan.
    PlanRefused(String),
    /// The agent has started the job.
    AgentRuns,
    /// The shim in the build container has said hello to the agent.
    ShimReady,
    /// The agent says that a service does not answer.
    ServiceSilent(SilentService),
    /// The end of a service's log, as far as it can be read.
    LogRead(ServiceNews, Result<Vec<String>, ApiError>),
    /// The agent has closed its verdict.
    AgentClosed,
    /// GitLab's answer to `PUT running`.
    Acknowledged(AckOutcome),
    /// GitLab's answer to the question what the status of the job is there.
    GitlabStatus(GitlabStatus),
    /// GitLab cannot be spoken to about a job that was found.
    GitlabUnusable,
    /// GitLab wants the job back before it was acknowledged.
    GoneWhilePending(GoneReason),
    /// GitLab asks to cancel gracefully.
    CancelRequested,
    /// The relay ended.
    RelayEnded(RelayEnd),
    /// A timer that was armed has run out.
    Time(Timer),
    /// The runner was told to stop and to end its jobs; the text is the signal.
    Stop(String),
    /// The runner was told to stop and to leave its jobs to their agents.
    Leave,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Make the pod. Leads to [`Event::PodCreated`] or [`Event::PodNotCreated`].
    CreatePod,
    /// Nobody needs the pod that is being made.
    ForgetPod,
    /// Open a connection to the agent. Leads to [`Event::AgentReady`] or
    /// [`Event::AgentUnreachable`].
    Connect {
        /// Follow an agent that may have a plan, instead of bringing it one.
        resume: bool,
        /// Wait a moment before: the last connection did not last.
        pause: bool,
    },
    /// Claim the agent. Leads to [`Event::AgentReady`], [`Event::AgentBusy`] or
    /// [`Event::AgentOwned`].
    Greet,
    /// Hand over the plan.
    SendPlan,
    /// Send `PUT running`. Leads to [`Event::Acknowledged`].
    Acknowledge,
    /// Ask GitLab what the status of the job is. Leads to [`Event::GitlabStatus`].
    AskGitlab,
    /// Start relaying what there is of the trace. Leads to [`Event::RelayEnded`], eventually.
    StartRelay,
    /// Let the agent start.
    SendGo,
    /// Tell the agent that the services have started.
    SendServicesStarted,
    /// Tell the agent that the container of a service has ended.
    SendServiceEnded(EndedService),
    /// Ask the agent to cancel.
    SendCancel {
        /// Nothing more may run.
        force: bool,
    },
    /// Tell the agent that the job ends this way. Leads to [`Event::AgentClosed`], unless the agent
    /// is dead.
    SendFail(Ending),
    /// Pass the agent's verdict to the relay.
    CloseFromAgent,
    /// Tell the relay that nothing more of the trace can come.
    EndTrace,
    /// Close the connection to the agent, append the last lines to the trace as far as it is known,
    /// and pass this verdict to the relay.
    EndLocally {
        /// How the job ends.
        ending: Ending,
        /// The trace is the agent's, as far as it is known; otherwise it is only what we have said.
        of_agent: bool,
    },
    /// Tell the agent that GitLab has the verdict.
    SendReported,
    /// Look at the pod itself: the watch may be behind. Leads to [`Event::PodLooked`].
    LookAtPod,
    /// Ask for the pod's events. Leads to [`Event::Events`].
    AskEvents,
    /// Ask for them because something is wrong with the pod. Leads to [`Event::FinalEvents`].
    AskFinalEvents,
    /// Keep what the cluster has said about the pod's end for the end of the job log.
    KeepFinalLines(Vec<HeadLine>),
    /// Show lines in the job log, once.
    ShowNotes(Vec<HeadLine>),
    /// Show in the job log why the pod does not run yet.
    ShowWaiting(Vec<String>),
    /// Ask for the end of a service's log. Leads to [`Event::LogRead`].
    AskLog(ServiceNews),
    /// All services have started: their logs can be followed, if the job wants to see them.
    FollowLogs,
    /// Delete the pod. Leads to [`Event::PodDeleted`].
    DeletePod,
    /// Let this much time pass, then say [`Event::Time`]; a timer that runs begins anew.
    Arm(Timer, Duration),
    /// Forget the timer.
    Disarm(Timer),
    /// Nothing more happens.
    Done(JobEnd),
}

/// What a job may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The pod is slow to come: its reasons should be visible in the job log.
    Slow,
    /// The pod's time to start is over.
    Start,
    /// Every deadline of the job has passed.
    Overdue,
    /// Bad news came some time ago and the agent has said nothing since.
    Drain,
    /// The build container has run for some time beside an agent, and the shim in it has said
    /// nothing.
    ShimHello,
    /// A connection has lasted.
    Steady,
    /// The agent of a found pod should have shown itself.
    Find,
    /// The agent may be free to be claimed.
    Claim,
    /// The pod has waited long enough to be worth a line without a reason.
    QuietWait,
    /// The pod should look at itself again.
    Look,
    /// The pod's events should say why it does not start.
    Events,
    /// The pod's events should have said what is wrong with it.
    FinalEvents,
    /// A hand-over that was under way when the runner was told to leave has had its time.
    HandOver,
    /// The runner ends now.
    Leave,
}
