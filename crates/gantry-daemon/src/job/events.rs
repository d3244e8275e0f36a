//! The words of a job's life: what can happen to it, what can be done about it, how it ends for its manager.

use gantry_core::Ending;
use gantry_relay::{AckOutcome, GoneReason, RelayEnd};
use gantry_wire::frame::Phase;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The pod exists.
    PodCreated,
    /// It does not, and will not.
    PodNotCreated(Ending),
    /// The agent has said hello and is this far.
    AgentReady(Phase),
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
    /// The build container runs.
    BuildRuns,
    /// It has run for [`gantry_core::limits::SHIM_HELLO`] beside an agent, and the shim in it has said nothing.
    ShimSilent,
    /// The agent has closed its verdict.
    AgentClosed,
    /// GitLab's answer to `PUT running`.
    Acknowledged(AckOutcome),
    /// GitLab wants the job back before it was acknowledged.
    GoneWhilePending(GoneReason),
    /// GitLab asks to cancel gracefully.
    CancelRequested,
    /// The relay ended.
    RelayEnded(RelayEnd),
    /// Proof that the job cannot go on, although the agent may still live.
    Doomed(Ending),
    /// Proof that the agent is dead or the pod gone.
    PodEnded(Ending),
    /// All service containers have started.
    ServicesStarted,
    /// Proof that a service has not started in the pod's time to start.
    ServicesLate(Ending),
    /// The pod is slow to come: its reasons should be visible in the job log.
    Slow,
    /// The pod has not started in its time; the ending says why, as far as known.
    StartTimeout(Ending),
    /// Bad news came some time ago and the agent has said nothing since.
    DrainTimeout,
    /// The runner was told to stop and to end its jobs; the text is the signal.
    Stop(String),
    /// The runner was told to stop and to leave its jobs to their agents.
    Leave,
    /// A hand-over that was under way then has had its time.
    HandOverTimeout,
    /// The runner ends now.
    LeaveTimeout,
    /// Every deadline of the job has passed.
    Overdue(Ending),
    /// The pod is deleted, or nothing more can be done about it.
    PodDeleted,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Make the pod. Leads to [`Event::PodCreated`] or [`Event::PodNotCreated`].
    CreatePod,
    /// Open a connection to the agent. Leads to [`Event::AgentReady`] or [`Event::AgentUnreachable`].
    Connect,
    /// Hand over the plan.
    SendPlan,
    /// Send `PUT running`. Leads to [`Event::Acknowledged`].
    Acknowledge,
    /// Start relaying what there is of the trace. Leads to [`Event::RelayEnded`], eventually.
    StartRelay,
    /// Let the agent start.
    SendGo,
    /// Tell the agent that the services have started.
    SendServicesStarted,
    /// Ask the agent to cancel.
    SendCancel {
        /// Nothing more may run.
        force: bool,
    },
    /// Tell the agent that the job ends this way. Leads to [`Event::AgentClosed`], or to [`Event::DrainTimeout`].
    SendFail(Ending),
    /// Pass the agent's verdict to the relay.
    CloseFromAgent,
    /// Tell the relay that nothing more of the trace can come.
    EndTrace,
    /// Close the connection to the agent, append the last lines to the trace as far as it is known, and pass this verdict to the relay.
    EndLocally(Ending),
    /// Tell the agent that GitLab has the verdict.
    SendReported,
    /// Delete the pod. Leads to [`Event::PodDeleted`].
    DeletePod,
    /// Nothing more happens.
    Done(JobEnd),
}

/// How a job ended for its manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobEnd {
    /// GitLab has our verdict: the one of the agent, or this one of the manager.
    Reported(Option<Ending>),
    /// GitLab wanted nothing more about it.
    Dropped(GoneReason),
    /// Given back before it was acknowledged: GitLab queues it again.
    GivenBack,
    /// Left to its agent, which reports by itself.
    HandedOver,
    /// The verdict could not be delivered.
    Undelivered(String),
}
