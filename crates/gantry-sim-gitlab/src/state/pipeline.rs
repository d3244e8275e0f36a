//! When the jobs of a pipeline may start. Pure: [`step`] looks at the jobs' states and says what to
//! do next; the owner of the jobs does it and asks again until nothing is left to do.

use super::status::Status;
use crate::ci::When;

/// A job as far as its pipeline's order is concerned.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Position of its stage.
    pub(crate) stage: usize,
    /// Nodes it waits for instead of all earlier stages.
    pub(crate) needs: Option<Vec<usize>>,
    pub(crate) when: When,
    /// It can only be skipped.
    pub(crate) not_here: bool,
    /// A failure does not count; a manual job does not block.
    pub(crate) allow_failure: bool,
    pub(crate) status: Status,
}

/// What to do with a job that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    Queue,
    /// Start after its delay.
    Schedule,
    Skip,
    /// Wait for a person.
    WaitForPlay,
}

/// The jobs that leave `Created` now.
pub(crate) fn step(nodes: &[Node]) -> Vec<(usize, Move)> {
    let waiting = nodes.iter().enumerate().filter(|(_, node)| node.status == Status::Created);
    waiting.filter_map(|(index, node)| Some((index, decide(node, nodes)?))).collect()
}

fn decide(node: &Node, nodes: &[Node]) -> Option<Move> {
    if node.not_here {
        return Some(Move::Skip);
    }
    let before: Vec<&Node> = match &node.needs {
        Some(needs) => needs.iter().filter_map(|&index| nodes.get(index)).collect(),
        None => nodes.iter().filter(|other| other.stage < node.stage).collect(),
    };
    let in_order_of_needs = node.needs.is_some();
    if !before.iter().all(|other| settled(other, in_order_of_needs)) {
        return None;
    }
    let failed = before.iter().any(|other| other.status == Status::Failed && !other.allow_failure);
    let canceled = before.iter().any(|other| other.status == Status::Canceled && !other.allow_failure);
    // Behind a whole stage a skipped job is as good as none; behind a named need it is missing.
    let missing = in_order_of_needs && before.iter().any(|other| other.status == Status::Skipped);
    let good = !failed && !canceled && !missing;
    Some(match node.when {
        When::Always => Move::Queue,
        When::OnFailure if failed => Move::Queue,
        When::OnSuccess if good => Move::Queue,
        When::Manual if good => Move::WaitForPlay,
        When::Delayed if good => Move::Schedule,
        _ => Move::Skip,
    })
}

/// Does nobody have to wait for this job any more? A manual job that may fail does not hold up its
/// stage, but a job that names it as a need waits until somebody plays it.
fn settled(node: &Node, needed: bool) -> bool {
    node.status.is_final() || (node.status == Status::Manual && node.allow_failure && !needed)
}

/// The state of the whole pipeline.
pub(crate) fn overall(nodes: &[Node]) -> &'static str {
    let any = |wanted: &[Status]| nodes.iter().any(|node| wanted.contains(&node.status));
    let all = |wanted: &[Status]| nodes.iter().all(|node| wanted.contains(&node.status));
    let counts = |wanted: Status| nodes.iter().any(|node| node.status == wanted && !node.allow_failure);
    if any(&[Status::Canceling]) {
        "canceling"
    } else if any(&[Status::Running]) {
        "running"
    } else if any(&[Status::Pending]) {
        let started = any(&[Status::Success, Status::Failed, Status::Canceled]);
        if started { "running" } else { "pending" }
    } else if any(&[Status::Scheduled]) {
        "scheduled"
    } else if counts(Status::Manual) {
        "manual"
    } else if any(&[Status::Created]) {
        if any(&[Status::Manual]) { "manual" } else { "created" }
    } else if counts(Status::Failed) {
        "failed"
    } else if counts(Status::Canceled) {
        "canceled"
    } else if all(&[Status::Skipped]) {
        "skipped"
    } else if all(&[Status::Manual, Status::Skipped]) {
        "manual"
    } else {
        "success"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(stage: usize, status: Status) -> Node {
        Node { stage, needs: None, when: When::OnSuccess, not_here: false, allow_failure: false, status }
    }

    #[test]
    fn stages_run_in_order() {
        let mut nodes = vec![node(0, Status::Created), node(0, Status::Created), node(1, Status::Created)];
        assert_eq!(step(&nodes), [(0, Move::Queue), (1, Move::Queue)]);
        nodes[0].status = Status::Success;
        nodes[1].status = Status::Running;
        assert_eq!(step(&nodes), []);
        assert_eq!(overall(&nodes), "running");
        nodes[1].status = Status::Success;
        assert_eq!(step(&nodes), [(2, Move::Queue)]);
    }

    #[test]
    fn a_failure_skips_later_stages_except_those_that_wait_for_one() {
        let mut nodes =
            vec![node(0, Status::Failed), node(1, Status::Created), node(1, Status::Created), node(1, Status::Created)];
        nodes[2].when = When::OnFailure;
        nodes[3].when = When::Always;
        assert_eq!(step(&nodes), [(1, Move::Skip), (2, Move::Queue), (3, Move::Queue)]);
        nodes[0].allow_failure = true;
        assert_eq!(step(&nodes), [(1, Move::Queue), (2, Move::Skip), (3, Move::Queue)]);
    }

    #[test]
    fn needs_replace_the_stage_order() {
        let mut nodes = vec![node(0, Status::Running), node(0, Status::Success), node(1, Status::Created)];
        nodes[2].needs = Some(vec![1]);
        assert_eq!(step(&nodes), [(2, Move::Queue)]);
        nodes[2].needs = Some(vec![]);
        assert_eq!(step(&nodes), [(2, Move::Queue)]);
        nodes[2].needs = Some(vec![0]);
        assert_eq!(step(&nodes), []);
        nodes[0].status = Status::Skipped;
        assert_eq!(step(&nodes), [(2, Move::Skip)]);
    }

    #[test]
    fn a_job_that_is_not_run_here_is_skipped_at_once_and_holds_up_nobody() {
        let mut nodes = vec![node(0, Status::Created), node(1, Status::Created), node(2, Status::Created)];
        nodes[1].not_here = true;
        assert_eq!(step(&nodes), [(0, Move::Queue), (1, Move::Skip)]);
        nodes[0].status = Status::Success;
        nodes[1].status = Status::Skipped;
        assert_eq!(step(&nodes), [(2, Move::Queue)]);
    }

    #[test]
    fn a_manual_job_blocks_only_if_it_may_not_fail() {
        let mut nodes = vec![node(0, Status::Created), node(1, Status::Created)];
        nodes[0].when = When::Manual;
        assert_eq!(step(&nodes), [(0, Move::WaitForPlay)]);
        nodes[0].status = Status::Manual;
        assert_eq!(step(&nodes), []);
        assert_eq!(overall(&nodes), "manual");
        nodes[0].allow_failure = true;
        assert_eq!(step(&nodes), [(1, Move::Queue)]);
    }

    #[test]
    fn overall_state_follows_the_jobs_that_count() {
        let mut nodes = vec![node(0, Status::Success), node(1, Status::Failed)];
        assert_eq!(overall(&nodes), "failed");
        nodes[1].allow_failure = true;
        assert_eq!(overall(&nodes), "success");
        nodes[1].status = Status::Canceled;
        nodes[1].allow_failure = false;
        assert_eq!(overall(&nodes), "canceled");
        nodes[1].status = Status::Canceling;
        assert_eq!(overall(&nodes), "canceling");
    }
}
