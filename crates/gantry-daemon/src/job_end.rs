//! How a job ends for its manager, and what ends it from outside.

use std::time::Duration;

use gantry_core::{Ending, Verdict};
use gantry_relay::GoneReason;
use gantry_wire::usage::Usage;

/// What becomes of running jobs when the runner stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StopJobs {
    /// They are left to their agents.
    Leave,
    /// They end; the text is the signal.
    End(String),
}

/// How a job ended.
#[derive(Clone, Debug)]
pub(crate) struct JobSummary {
    /// For the manager.
    pub(crate) end: JobEnd,
    /// What GitLab was told, if it was told anything.
    pub(crate) verdict: Option<Verdict>,
    /// From the moment it was taken.
    pub(crate) duration: Duration,
    /// From the moment it was taken until the agent had the plan; absent if it never did.
    pub(crate) pod_start: Option<Duration>,
    /// What its build container has used, as far as its agent has said.
    pub(crate) usage: Option<Usage>,
    /// Whether the pod stays for a while.
    pub(crate) is_kept: bool,
}

/// How a job ended for its manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobEnd {
    /// GitLab has our verdict: the one of the agent, or this one of the manager.
    Reported(Option<Ending>),
    /// GitLab wanted nothing more about it.
    Dropped(GoneReason),
    /// Left to its agent, which reports by itself.
    HandedOver,
    /// GitLab could not be told about it in the time of a runner that leaves: pod and ticket stay,
    /// and tell the next manager.
    LeftToNext,
    /// The verdict could not be delivered.
    Undelivered(String),
    /// It has a manager, another one than us: nothing of it was touched.
    Owned,
    /// Nothing can be known of it: no agent answers and there is no ticket. Its pod is left as it
    /// is.
    Unknown,
    /// Its manager may only not have come to its agent yet: nothing touched.
    TooEarly,
}

impl JobEnd {
    /// Whether nobody needs anything of its pod any more.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Reported(_) | Self::Dropped(_) | Self::Undelivered(_) => true,
            Self::HandedOver | Self::LeftToNext | Self::Owned | Self::Unknown | Self::TooEarly => false,
        }
    }
}
