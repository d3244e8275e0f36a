//! The job as relays and connections must know it, which are there before it is.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gantry_wire::frame::Adoption;
use gantry_wire::plan::{PodPlan, StartLimit};

use crate::clock::Deadline;

/// What is known of the job, set when there is a plan.
pub(crate) type SharedJob = Arc<OnceLock<KnownJob>>;

/// The job.
#[derive(Clone, Debug)]
pub(crate) struct KnownJob {
    pub(crate) plan: Arc<PodPlan>,
    /// End of its time-out.
    pub(crate) deadline: Deadline,
    /// When the build container must be there, if that is known.
    pub(crate) shim_by: Option<Deadline>,
}

impl KnownJob {
    /// What a manager is told that takes it over, with the time that is left now.
    pub(crate) fn now(&self, shim: bool) -> Adoption {
        let millis = |left: Duration| u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let left = |limit: StartLimit| {
            let remaining_ms = self.shim_by.map_or(limit.remaining_ms, |by| millis(by.remaining()));
            StartLimit { remaining_ms, ..limit }
        };
        Adoption {
            remaining_ms: millis(self.deadline.remaining()),
            start: self.plan.start.filter(|_| !shim).map(left),
            ..Adoption::of(&self.plan)
        }
    }
}
