//! What it means that a pod is there: the one place that decides whether a job is gone on with,
//! reported or given back, and whether its pod is of use. Pure.
//!
//! An agent ends with 0 only when GitLab has its verdict or wants nothing more about the job, and
//! with a code of its own when no manager has ever handed it a plan. Everything else that has ended
//! is a job that nobody has spoken for.

use std::time::Duration;

use gantry_kube::facts::{Phase, Words};
use gantry_kube::{ContainerState, PodFacts};
use gantry_wire::layout::{HELPER, WITHOUT_PLAN};

use crate::site::owners::{self, Owner};

/// How long beyond its time to start a pod is left to a manager that cannot be seen to live.
const MARGIN: Duration = Duration::from_secs(60);

/// What a pod is given that does not say how long its manager waits: longer than anybody
/// configures.
const UNKNOWN_START_TIMEOUT: Duration = Duration::from_hours(2);

/// How long a pod that has ended is left to a manager that cannot be seen to live: a manager
/// reports within seconds, unless GitLab is away.
const REPORTED_BY: Duration = Duration::from_mins(2);

/// Why the kubelet ends pods that may have run, whose containers it then may not show any more
/// (Kubernetes API).
const ENDED_BY_KUBELET: [&str; 7] =
    ["Evicted", "Preempting", "Terminated", "Shutdown", "NodeShutdown", "NodeLost", "DeadlineExceeded"];

/// A pod, and what is known beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundPod<'a> {
    pub(crate) facts: &'a PodFacts,
    /// It belongs to a fleet of ours.
    pub(crate) is_ours: bool,
    pub(crate) owner: Owner,
    /// A job of this process has it.
    pub(crate) is_here: bool,
    /// It was there when this manager first looked.
    pub(crate) was_there: bool,
    /// For how long it has been seen in its present condition, by our own clock.
    pub(crate) lasts: Duration,
    /// The clock on the wall, in seconds since 1970: a pod that is kept says so by it.
    pub(crate) unix_seconds: i64,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It belongs to others.
    Foreign,
    /// It is looked after, or may be.
    Leave,
    /// Its job needs a manager: goes on, is reported or given back, as its agent or its ticket
    /// says.
    Adopt {
        /// Its manager is proven gone, whatever the agent believes.
        replaces: bool,
    },
    /// Nobody needs it, for this reason.
    Remove(&'static str),
}

/// How far a pod's agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It has not started, and has so long for it.
    Unstarted(Duration),
    Runs,
    /// GitLab knows everything.
    Done,
    /// It never got a plan.
    WithoutPlan,
    /// It has ended otherwise, or the whole pod has.
    Dead,
    /// There is no such container: no manager has made this.
    Strange,
}

impl Condition {
    pub(crate) fn of(facts: &PodFacts) -> Self {
        let Some(helper) = facts.container(HELPER) else { return Self::Strange };
        match &helper.state {
            ContainerState::Terminated(end) if end.exit_code == 0 => Self::Done,
            ContainerState::Terminated(end) if end.exit_code == i32::from(WITHOUT_PLAN) => Self::WithoutPlan,
            ContainerState::Terminated(_) => Self::Dead,
            ContainerState::Waiting(_) if !helper.has_started() && !may_have_run(facts) => {
                Self::Unstarted(start_timeout(facts))
            }
            _ if facts.phase.is_over() => Self::Dead,
            ContainerState::Waiting(_) | ContainerState::Running => Self::Runs,
        }
    }

    /// Whether two conditions are of one kind.
    pub(crate) fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

/// Decides.
pub(crate) fn meaning(found: &FoundPod<'_>) -> Meaning {
    if !found.is_ours {
        return Meaning::Foreign;
    }
    let condition = Condition::of(found.facts);
    let is_going = found.facts.deletion.is_some();
    if let Some(until) = kept_until(found.facts).filter(|_| !is_going) {
        let is_of_use = condition == Condition::Runs && found.unix_seconds < until;
        return if is_of_use {
            Meaning::Leave
        } else {
            Meaning::Remove("its job has failed, and it was kept for a while")
        };
    }
    match condition {
        Condition::Strange => Meaning::Foreign,
        Condition::Done if is_going => Meaning::Leave,
        Condition::Done => Meaning::Remove("its job has reported by itself"),
        _ if found.is_here => Meaning::Leave,
        // While a pod is being ended its agent reports by itself, and what has not started never
        // will.
        Condition::Runs | Condition::Unstarted(_) if is_going => Meaning::Leave,
        Condition::Dead | Condition::WithoutPlan | Condition::Runs | Condition::Unstarted(_) => {
            orphan(found, condition)
        }
    }
}

/// Until when the pod of a job that has failed is kept, in seconds since 1970. One that says so in
/// a way that nobody understands is not.
fn kept_until(facts: &PodFacts) -> Option<i64> {
    Some(facts.mark(gantry_plan::ANNOTATION_KEPT)?.parse().unwrap_or(0))
}

/// One that has something to say still, or might have.
fn orphan(found: &FoundPod<'_>, condition: Condition) -> Meaning {
    let grace = match condition {
        Condition::Unstarted(limit) => limit + MARGIN,
        _ => REPORTED_BY,
    };
    let is_late = found.lasts >= grace;
    match (found.owner, condition) {
        (Owner::Silent, _) => Meaning::Adopt { replaces: true },
        // Its job here has ended, and the pod could not be removed then; or another manager has had
        // it since, whose name we have written over.
        (Owner::Us, _) if is_late => ASK,
        (Owner::Lives | Owner::Us, _) => Meaning::Leave,
        // Who cannot be seen to live may be connected to the agent, which knows.
        (Owner::Presumed | Owner::Unheard, Condition::Runs) if !found.was_there => Meaning::Leave,
        (Owner::Nobody, Condition::Dead | Condition::WithoutPlan) | (_, Condition::Runs) => ASK,
        _ if is_late => ASK,
        _ => Meaning::Leave,
    }
}

/// The agent decides, if there is one.
const ASK: Meaning = Meaning::Adopt { replaces: false };

/// Whether the kubelet has ended a pod of whose containers it says nothing.
fn may_have_run(facts: &PodFacts) -> bool {
    let is_silent =
        facts.containers.iter().all(|container| container.state == ContainerState::Waiting(Words::default()));
    facts.phase != Phase::Pending && is_silent && ENDED_BY_KUBELET.contains(&facts.reason.as_str())
}

/// Whether the manager of a pod that has run for so long, and may be connected to its agent, may
/// not have come to it yet.
pub(crate) fn may_be_on_its_way(facts: &PodFacts, lasts: Duration) -> bool {
    owners::name(facts).is_some() && lasts < start_timeout(facts) + MARGIN
}

/// How long the pod's manager waits for it.
fn start_timeout(facts: &PodFacts) -> Duration {
    let seconds = facts.mark(gantry_plan::ANNOTATION_START_TIMEOUT).and_then(|text| text.parse().ok());
    seconds.map_or(UNKNOWN_START_TIMEOUT, |seconds: u32| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use gantry_kube::ObservedPod;
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> PodFacts {
        let pod = json!({
            "metadata": {"name": "p", "uid": "u", "annotations": {"gantry.dev/start-timeout": "15"}},
            "spec": {"containers": [{"name": "helper"}, {"name": "build"}]},
            "status": status,
        });
        PodFacts::digest(&serde_json::from_value::<ObservedPod>(pod).unwrap(), None)
    }

    fn helper(state: &Value) -> PodFacts {
        pod(&json!({"phase": "Pending", "containerStatuses": [
            {"name": "helper", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state},
        ]}))
    }

    fn ended(code: u8) -> PodFacts {
        helper(&json!({"terminated": {"exitCode": code}}))
    }

    #[test]
    fn how_far_an_agent_is() {
        assert_eq!(Condition::of(&ended(0)), Condition::Done);
        assert_eq!(Condition::of(&ended(WITHOUT_PLAN)), Condition::WithoutPlan);
        assert_eq!([Condition::of(&ended(1)), Condition::of(&ended(137))], [Condition::Dead; 2]);
        assert_eq!(Condition::of(&helper(&json!({"running": {}}))), Condition::Runs);
        assert_eq!(Condition::of(&PodFacts::default()), Condition::Strange);
        let unstarted = Condition::Unstarted(Duration::from_secs(15));
        // No node, no image, refused by the kubelet, an init container that has failed.
        for status in [
            json!({"phase": "Pending"}),
            json!({"phase": "Failed", "reason": "OutOfcpu"}),
            json!({"phase": "Failed", "containerStatuses": [{"name": "helper", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}}]}),
        ] {
            assert_eq!(Condition::of(&pod(&status)), unstarted, "{status}");
        }
        assert_eq!(Condition::of(&pod(&json!({"phase": "Failed", "reason": "Evicted"}))), Condition::Dead);
        let mut old = pod(&json!({"phase": "Pending"}));
        old.marks.clear();
        assert_eq!(Condition::of(&old), Condition::Unstarted(UNKNOWN_START_TIMEOUT));
    }

    /// Everything that a pod can mean, by its condition and its owner: at start at once, then after
    /// its grace.
    #[test]
    fn what_a_pod_means() {
        use Owner::{Lives, Nobody, Presumed, Silent, Unheard, Us};
        const LEAVE: Meaning = Meaning::Leave;
        const TAKE: Meaning = Meaning::Adopt { replaces: true };
        let reported = Meaning::Remove("its job has reported by itself");
        let runs = helper(&json!({"running": {}}));
        let waits = helper(&json!({"waiting": {"reason": "ImagePullBackOff"}}));
        let (done, planless, dead) = (ended(0), ended(WITHOUT_PLAN), ended(137));
        for (facts, owner, [at_once, late]) in [
            (&runs, Us, [LEAVE, ASK]),
            (&runs, Lives, [LEAVE, LEAVE]),
            (&runs, Presumed, [ASK, ASK]),
            (&runs, Unheard, [ASK, ASK]),
            (&runs, Nobody, [ASK, ASK]),
            (&runs, Silent, [TAKE, TAKE]),
            (&dead, Us, [LEAVE, ASK]),
            (&dead, Lives, [LEAVE, LEAVE]),
            (&dead, Presumed, [LEAVE, ASK]),
            (&dead, Unheard, [LEAVE, ASK]),
            (&dead, Nobody, [ASK, ASK]),
            (&dead, Silent, [TAKE, TAKE]),
            (&planless, Us, [LEAVE, ASK]),
            (&planless, Lives, [LEAVE, LEAVE]),
            (&planless, Unheard, [LEAVE, ASK]),
            (&planless, Silent, [TAKE, TAKE]),
            (&waits, Us, [LEAVE, ASK]),
            (&waits, Lives, [LEAVE, LEAVE]),
            (&waits, Presumed, [LEAVE, ASK]),
            (&waits, Unheard, [LEAVE, ASK]),
            (&waits, Nobody, [LEAVE, ASK]),
            (&waits, Silent, [TAKE, TAKE]),
            (&done, Us, [reported, reported]),
            (&done, Lives, [reported, reported]),
            (&done, Unheard, [reported, reported]),
        ] {
            let found = FoundPod {
                facts,
                is_ours: true,
                owner,
                is_here: false,
                was_there: true,
                lasts: Duration::ZERO,
                unix_seconds: 0,
            };
            let long = FoundPod { lasts: Duration::from_mins(10), ..found };
            assert_eq!([meaning(&found), meaning(&long)], [at_once, late], "{owner:?} {:?}", Condition::of(facts));
            // A pod that came later has a manager that can be asked nothing about, and one of
            // others is theirs.
            let later = meaning(&FoundPod { was_there: false, ..found });
            let is_asked = owner == Nobody && at_once == ASK;
            assert_eq!(later, if at_once == ASK && !is_asked { LEAVE } else { at_once }, "{owner:?}");
            assert_eq!(meaning(&FoundPod { is_ours: false, ..long }), Meaning::Foreign);
            let here = meaning(&FoundPod { is_here: true, ..long });
            assert_eq!(here, if late == reported { reported } else { LEAVE });
        }
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_left_until_its_agent_is_dead() {
        let going = |mut facts: PodFacts| {
            let json = json!({"metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"}});
            facts.deletion = serde_json::from_value::<ObservedPod>(json).unwrap().metadata.deletion_timestamp;
            let (owner, lasts) = (Owner::Silent, Duration::ZERO);
            let (is_here, was_there, unix_seconds) = (false, true, 0);
            meaning(&FoundPod { facts: &facts, is_ours: true, owner, is_here, was_there, lasts, unix_seconds })
        };
        assert_eq!(going(helper(&json!({"running": {}}))), Meaning::Leave);
        assert_eq!(going(pod(&json!({"phase": "Pending"}))), Meaning::Leave);
        assert_eq!(going(ended(0)), Meaning::Leave);
        assert_eq!(going(ended(137)), Meaning::Adopt { replaces: true });
    }

    #[test]
    fn a_pod_that_is_kept_stays_for_its_time_and_no_longer_whoever_its_manager_was() {
        let kept = |mut facts: PodFacts, until: &str, is_ours| {
            facts.marks.insert("gantry.dev/keep-until".to_owned(), until.to_owned());
            let (lasts, is_here, was_there, unix_seconds) = (Duration::from_hours(1), false, true, 1000);
            let facts = &facts;
            [Owner::Us, Owner::Lives, Owner::Silent, Owner::Nobody]
                .map(|owner| meaning(&FoundPod { facts, is_ours, owner, is_here, was_there, lasts, unix_seconds }))
        };
        let runs = || helper(&json!({"running": {}}));
        let over = Meaning::Remove("its job has failed, and it was kept for a while");
        assert_eq!(kept(runs(), "1001", true), [Meaning::Leave; 4]);
        assert_eq!(kept(runs(), "1000", true), [over; 4]);
        assert_eq!(kept(ended(0), "1001", true), [over; 4]);
        assert_eq!(kept(runs(), "soon", true), [over; 4]);
        assert_eq!(kept(runs(), "1000", false), [Meaning::Foreign; 4]);
    }

    #[test]
    fn grace_is_that_of_the_pods_own_manager_and_more() {
        let waits = helper(&json!({"waiting": {"reason": "ImagePullBackOff"}}));
        let after = |seconds| {
            let (owner, lasts) = (Owner::Unheard, Duration::from_secs(seconds));
            let (is_here, was_there, unix_seconds) = (false, true, 0);
            meaning(&FoundPod { facts: &waits, is_ours: true, owner, is_here, was_there, lasts, unix_seconds })
        };
        assert_eq!([after(74), after(75)], [Meaning::Leave, Meaning::Adopt { replaces: false }]);
    }
}
