//! Pods that may exist although nobody wants them: their creation or deletion was asked for, and no answer came before it was given up.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use crate::{limits, pods::PodRef, seen::SeenPod};

/// Names of such pods, each with when it was given up. Names are never used twice.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    names: Mutex<BTreeMap<String, Instant>>,
}

impl Doubts {
    fn names(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a pod of this name may come, or be there.
    pub(crate) fn add(&self, name: &str) {
        self.names().insert(name.to_owned(), Instant::now());
    }

    /// Those that are in a complete list and are not being deleted. The ones that it does not show are forgotten once they cannot come any
    /// more.
    pub(crate) fn found(&self, listed: &[SeenPod]) -> Vec<PodRef> {
        let mut names = self.names();
        let shown = |name: &String| listed.iter().any(|pod| pod.metadata.name.as_ref() == Some(name));
        names.retain(|name, since| since.elapsed() < limits::LATE_CREATION || shown(name));
        let doubtful = |pod: &&SeenPod| pod.metadata.name.as_ref().is_some_and(|name| names.contains_key(name));
        let stays = |pod: &&SeenPod| pod.metadata.deletion_timestamp.is_none();
        listed.iter().filter(doubtful).filter(stays).filter_map(PodRef::of).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pod(name: &str) -> SeenPod {
        let mut pod = SeenPod::default();
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.uid = Some(format!("uid of {name}"));
        pod
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_in_doubt_is_found_whenever_it_comes_and_then_forgotten() {
        let doubts = Doubts::default();
        doubts.add("late");
        assert!(doubts.found(&[pod("other")]).is_empty());
        tokio::time::advance(limits::LATE_CREATION.saturating_sub(Duration::from_secs(1))).await;
        let found = doubts.found(&[pod("other"), pod("late")]);
        assert_eq!(found, [PodRef { name: "late".to_owned(), uid: "uid of late".to_owned() }]);
        // The deletion did not work: it is found again, however late.
        tokio::time::advance(limits::LATE_CREATION).await;
        assert_eq!(doubts.found(&[pod("late")]).len(), 1);
        assert!(doubts.found(&[]).is_empty() && doubts.found(&[pod("late")]).is_empty());
    }
}
