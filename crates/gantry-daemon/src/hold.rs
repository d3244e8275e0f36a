//! Why GitLab should not be asked for a job just now: its pod could not be made, or would not
//! start. Quota and capacity are no failures of jobs, so they are waited for where no job has to
//! wait: in GitLab's queue.

use std::fmt;
use std::time::Duration;

use gantry_kube::{Coverage, Shortage, ShortageKind};
use tokio::time::Instant;

/// How long an API server must have been away: a watch that breaks off is usually back at once.
const AWAY: Duration = Duration::from_secs(10);

/// Pause before the next job for each pod that no node can be found for. A cluster that grows does
/// so for pods that wait, and one pod that fits nowhere must not keep the others away for ever, so
/// that asking becomes slow and never stops.
const UNSCHEDULABLE: Duration = Duration::from_secs(10);

/// Longest such pause.
const UNSCHEDULABLE_MOST: Duration = Duration::from_mins(1);

/// Why no job is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) kind: HoldKind,
    /// For people.
    pub(crate) why: String,
}

/// One for each value of the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HoldKind {
    Quota,
    ApiServer,
    FleetConcurrent,
    Unschedulable,
}

impl HoldKind {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Quota, Self::ApiServer, Self::FleetConcurrent, Self::Unschedulable];

    /// The word of the metric.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Quota => "quota",
            Self::ApiServer => "api_server",
            Self::FleetConcurrent => "fleet_concurrent",
            Self::Unschedulable => "unschedulable",
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Hold {
    /// A fleet has as many jobs as it may.
    pub(crate) fn full(jobs: usize, most: usize) -> Self {
        let why = format!("the fleet has {jobs} of {most} jobs (fleet_concurrent in [gantry])");
        Self { kind: HoldKind::FleetConcurrent, why }
    }
}

/// Why no job should be asked for, if there is a reason. `waiting`: pods for which no node is
/// found, and when a job was asked for last.
pub(crate) fn hold(
    shortage: Option<Shortage>,
    coverage: Coverage,
    (waiting, last_asked): (usize, Option<Instant>),
) -> Option<Hold> {
    if let Some(shortage) = shortage {
        let kind = match shortage.kind {
            ShortageKind::Quota => HoldKind::Quota,
            ShortageKind::Server => HoldKind::ApiServer,
            ShortageKind::Fleet => HoldKind::FleetConcurrent,
        };
        return Some(Hold { kind, why: format!("a pod waits to be made: {}", shortage.message) });
    }
    if let Coverage::Lost { since } = coverage
        && since.elapsed() >= AWAY
    {
        return Some(Hold { kind: HoldKind::ApiServer, why: "the API server cannot be reached".to_owned() });
    }
    slow(waiting, last_asked)
}

/// The more pods wait for a node, the longer it is to the next request.
fn slow(waiting: usize, last_asked: Option<Instant>) -> Option<Hold> {
    let pause = UNSCHEDULABLE.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX)).min(UNSCHEDULABLE_MOST);
    let is_over = last_asked.is_none_or(|at| at.elapsed() >= pause);
    (waiting > 0 && !is_over).then(|| {
        let why = format!("no node is found for {waiting} pods: the next job is asked for every {} s", pause.as_secs());
        Hold { kind: HoldKind::Unschedulable, why }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn asking_becomes_slower_with_each_pod_that_waits_and_never_stops() {
        let asked = Instant::now();
        let holds = |waiting| slow(waiting, Some(asked)).map(|hold| hold.kind);
        assert_eq!([holds(0), holds(1)], [None, Some(HoldKind::Unschedulable)]);
        assert_eq!(slow(9, None), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!([holds(1), holds(2)], [None, Some(HoldKind::Unschedulable)]);
        tokio::time::advance(Duration::from_secs(50)).await;
        assert_eq!([holds(2), holds(1000)], [None, None]);
    }
}
