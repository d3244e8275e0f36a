//! Removes pods whose agents have done everything, because their jobs were left to them when a manager went.
//!
//! An agent ends with 0 only when GitLab has its verdict or wants nothing more, so no other proof is needed. Pods that ended otherwise are
//! not touched: they are the only record of what happened.

use std::time::Duration;

use gantry_kube::{Cluster, ContainerState, PodFacts, PodRef};
use gantry_wire::layout::HELPER;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Pods that are in nobody's way may wait this long; one list per namespace and minute is little for an API server.
const PERIOD: Duration = Duration::from_secs(60);

/// Sweeps at once and then every minute, until `stop`.
pub(crate) async fn run(cluster: Cluster, stop: CancellationToken) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sweeping = async {
        loop {
            ticks.tick().await;
            sweep(&cluster).await;
        }
    };
    stop.run_until_cancelled(sweeping).await;
}

async fn sweep(cluster: &Cluster) {
    let selector = format!("{}=true", gantry_plan::LABEL_MANAGED);
    let pods = match cluster.list_pods(&selector).await {
        Ok(pods) => pods,
        Err(error) => {
            tracing::debug!(%error, "pods of earlier jobs cannot be looked for");
            return;
        }
    };
    let done = pods.iter().filter(|pod| is_done(&PodFacts::digest(pod, None))).filter_map(PodRef::of);
    for pod in done {
        match cluster.delete_pod(&pod, None).await {
            Ok(()) => tracing::info!(pod = pod.name, "removed the pod of a job that has reported by itself"),
            Err(error) => tracing::warn!(pod = pod.name, %error, "could not remove a finished pod; trying again later"),
        }
    }
}

/// Whether the agent has ended because there was nothing left to do.
fn is_done(facts: &PodFacts) -> bool {
    let helper = facts.container(HELPER).map(|container| &container.state);
    facts.deletion.is_none() && matches!(helper, Some(ContainerState::Terminated(end)) if end.exit_code == 0)
}

#[cfg(test)]
mod tests {
    use gantry_kube::facts::{ContainerEnd, ContainerFacts};

    use super::*;

    fn pod(state: ContainerState) -> PodFacts {
        let helper = ContainerFacts { name: HELPER.to_owned(), state, ..ContainerFacts::default() };
        PodFacts { containers: vec![helper], ..PodFacts::default() }
    }

    #[test]
    fn only_agents_that_ended_well_are_done() {
        let ended = |exit_code| ContainerState::Terminated(ContainerEnd { exit_code, ..ContainerEnd::default() });
        assert!(is_done(&pod(ended(0))));
        assert!(!is_done(&pod(ended(137))));
        assert!(!is_done(&pod(ContainerState::Running)));
        assert!(!is_done(&PodFacts::default()));
    }
}
