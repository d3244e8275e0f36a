//! What may come of a job: a table of what happened to it, or around it, and the ends that this
//! allows. A job may always come to what its own program says. Whatever it comes to must also be
//! true: a success has run all its scripts, a code is that of a script, a time-out has passed.

use std::time::Duration;

use crate::invariants::{Judged, STUCK};
use crate::ledger::Harm;
use crate::programs::{MISSING, Outcome};

/// How a job ended, in kinds that are told apart here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Success,
    Canceled,
    /// A script of the user, or fetching the sources, has failed.
    Script,
    TimedOut,
    /// GitLab has taken the job back, or was told that nothing of it has run, as often as it tries
    /// again by itself.
    NeverBegun,
    /// GitLab has heard nothing of it for too long.
    Forgotten,
    /// Any other failure, which the runner has reported.
    System,
}

impl End {
    pub(crate) fn of(status: &str, reason: &str) -> Option<Self> {
        Some(match (status, reason) {
            ("success", _) => Self::Success,
            ("canceled", _) => Self::Canceled,
            ("failed", "script_failure") => Self::Script,
            ("failed", "job_execution_timeout") => Self::TimedOut,
            ("failed", "runner_provisioning_timeout" | "scheduler_failure") => Self::NeverBegun,
            ("failed", STUCK) => Self::Forgotten,
            ("failed", _) => Self::System,
            _ => return None,
        })
    }
}

/// Something that happened, and the ends that it allows.
pub(crate) struct Row {
    pub(crate) when: &'static str,
    is_so: fn(&Judged<'_>) -> bool,
    ends: &'static [End],
}

/// An outage of this length may outlast a job's token, with all the tries that were under way.
const TOKEN_LEEWAY: Duration = Duration::from_secs(200);

/// Outages of this length together, or requests about a job that fail for so long, may leave an
/// acknowledgement without an answer for as long as it is tried.
pub(crate) const UNANSWERED: Duration = Duration::from_secs(100);

/// A manager that lives for so long ends a job that it has found, whatever its pod shows: the time
/// that a pod has to start, a minute more, and what the looks at it take.
const LONG_ENOUGH: Duration = Duration::from_secs(300);

/// What ends a pod, or a container of it.
pub(crate) const POD_HARMS: [Harm; 5] =
    [Harm::PodDeleted, Harm::Evicted, Harm::HelperKilled, Harm::BuildKilled, Harm::OutOfMemory];

/// Nothing that is not in here excuses an end that is not the job's own.
const TABLE: [Row; 15] = [
    Row {
        when: "somebody canceled it",
        is_so: |job| job.was_hit_by(&[Harm::Canceled]),
        ends: &[End::Canceled, End::Success, End::Script, End::TimedOut],
    },
    Row {
        when: "its pod or a container of it was ended",
        is_so: |job| job.was_hit_by(&POD_HARMS),
        ends: &[End::System, End::Success, End::Script, End::TimedOut],
    },
    Row {
        when: "its pod was deleted while no manager was there, so that nothing is left of it",
        is_so: |job| job.was_hit_by(&[Harm::PodDeleted]) && job.troubles.manager_lost,
        ends: &[End::Forgotten, End::NeverBegun],
    },
    Row {
        when: "its pod was ended or it has not begun, managers were killed, and its time-out was over before one lived for long enough",
        is_so: |job| {
            let needs_manager = job.was_hit_by(&POD_HARMS) || job.facts.tries.is_empty();
            needs_manager && job.troubles.manager_killed && job.longest_life < LONG_ENOUGH
        },
        ends: &[End::Forgotten],
    },
    Row { when: "its pod cannot start", is_so: |job| job.program.outcome() == Outcome::NoPod, ends: &[End::System] },
    Row {
        when: "its agent is alone and cannot see that a service is missing",
        is_so: |job| {
            (job.troubles.manager_lost || job.troubles.api)
                && job.program.lacks_service()
                && !job.program.image.contains(MISSING)
        },
        ends: &[End::Success, End::Script, End::TimedOut],
    },
    Row {
        when: "an image takes long to come, and no script has begun",
        is_so: |job| job.program.is_slow() && job.facts.starts.is_empty(),
        ends: &[End::System],
    },
    Row {
        when: "the API server was in trouble, and nothing has begun",
        is_so: |job| job.troubles.api && job.facts.tries.is_empty(),
        ends: &[End::System],
    },
    Row {
        when: "its manager left or was lost, and nothing has begun",
        is_so: |job| job.troubles.manager_lost && job.facts.tries.is_empty(),
        ends: &[End::System, End::NeverBegun],
    },
    Row {
        when: "its manager was killed, or left and could not reach GitLab in time, before there was a pod to tell of it",
        is_so: |job| {
            let is_untold = job.troubles.manager_killed
                || job.troubles.manager_lost && (job.troubles.gitlab || job.troubles.gitlab_slow);
            is_untold && job.facts.pods.is_empty()
        },
        ends: &[End::Forgotten],
    },
    Row {
        when: "its manager was lost, and pods cannot reach GitLab",
        is_so: |job| job.troubles.manager_lost && job.troubles.pods_are_blind,
        ends: &[End::Forgotten],
    },
    Row {
        when: "GitLab was in trouble, and nothing has begun",
        is_so: |job| job.troubles.gitlab && job.facts.tries.is_empty(),
        ends: &[End::NeverBegun],
    },
    Row {
        when: "GitLab left an acknowledgement unanswered for as long as it is tried",
        is_so: |job| job.was_unheard(),
        ends: &[End::NeverBegun],
    },
    Row {
        when: "GitLab was away for longer than a token lives",
        is_so: |job| job.troubles.gitlab_away >= TOKEN_LEEWAY,
        ends: &[End::Forgotten],
    },
    Row {
        when: "its time-out is short",
        is_so: |job| job.program.timeout < Duration::from_secs(3600),
        ends: &[End::TimedOut],
    },
];

/// The rows that allow this end.
pub(crate) fn because(job: &Judged<'_>, end: End) -> Vec<&'static str> {
    TABLE.iter().filter(|row| row.ends.contains(&end) && (row.is_so)(job)).map(|row| row.when).collect()
}
