//! What kubelet knows about one container of a pod, and the pure decision which containers to start
//! next.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use crate::{
    container::Container,
    store::object::{items, text},
};

/// When a pod's containers are started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Restart {
    pub(crate) fn of(pod: &Value) -> Self {
        match text(pod, &["spec", "restartPolicy"]) {
            "Never" => Self::Never,
            "OnFailure" => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended with this code runs again.
    pub(crate) fn again(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// The part a container plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Init,
    /// An init container with `restartPolicy: Always`: the next ones start while it runs.
    Sidecar,
    Main,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) id: String,
    pub(crate) code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) started: String,
    pub(crate) finished: String,
}

/// A running container.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) container: Container,
    pub(crate) id: String,
    pub(crate) started: String,
    /// Filled when it has ended and its log is written.
    pub(crate) exit: watch::Receiver<Option<Ended>>,
    /// What the readiness probe says, or true without one.
    pub(crate) ready: Arc<AtomicBool>,
    /// What the start-up probe says, or true without one.
    pub(crate) started_up: Arc<AtomicBool>,
}

/// What a container is doing.
#[derive(Debug, Clone)]
pub(crate) enum State {
    Waiting { reason: String, message: String },
    Running(Running),
    Ended(Ended),
}

/// One container.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) role: Role,
    pub(crate) state: State,
    pub(crate) last: Option<Ended>,
    pub(crate) restarts: u32,
    /// Failed pulls in a row.
    pub(crate) pull_failures: u32,
    /// Not before this.
    pub(crate) retry: Option<Instant>,
    /// An end that was forced from outside as if for want of memory.
    pub(crate) oom: Arc<AtomicBool>,
}

impl Record {
    /// Records of all containers of a pod, init containers first.
    pub(crate) fn all(pod: &Value) -> Vec<Self> {
        let inits = items(pod, &["spec", "initContainers"]).iter().map(|container| {
            let sidecar = text(container, &["restartPolicy"]) == "Always";
            (container, if sidecar { Role::Sidecar } else { Role::Init })
        });
        let has_inits = !items(pod, &["spec", "initContainers"]).is_empty();
        let mains = items(pod, &["spec", "containers"]).iter().map(|container| (container, Role::Main));
        inits
            .chain(mains)
            .map(|(container, role)| {
                let reason = if has_inits { "PodInitializing" } else { "ContainerCreating" };
                Self {
                    name: text(container, &["name"]).to_owned(),
                    image: text(container, &["image"]).to_owned(),
                    role,
                    state: State::Waiting { reason: reason.to_owned(), message: String::new() },
                    last: None,
                    restarts: 0,
                    pull_failures: 0,
                    retry: None,
                    oom: Arc::default(),
                }
            })
            .collect()
    }

    pub(crate) fn running(&self) -> Option<&Running> {
        match &self.state {
            State::Running(running) => Some(running),
            _ => None,
        }
    }

    pub(crate) fn ended(&self) -> Option<&Ended> {
        match &self.state {
            State::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        match &self.state {
            State::Running(running) => running.ready.load(Ordering::Relaxed),
            State::Ended(ended) => self.role == Role::Init && ended.code == 0,
            State::Waiting { .. } => false,
        }
    }

    pub(crate) fn has_started_up(&self) -> bool {
        self.running().is_some_and(|running| running.started_up.load(Ordering::Relaxed))
    }

    /// Takes notice of an end. Returns whether there was one.
    pub(crate) fn notice(&mut self) -> bool {
        let Some(ended) = self.running().and_then(|running| running.exit.borrow().clone()) else { return false };
        self.state = State::Ended(ended);
        true
    }
}

/// Whether all init containers have done their part.
pub(crate) fn initialized(records: &[Record]) -> bool {
    records.iter().all(|record| match record.role {
        Role::Init => record.ended().is_some_and(|ended| ended.code == 0),
        Role::Sidecar => record.has_started_up() || record.ended().is_some(),
        Role::Main => true,
    })
}

/// Whether an init container failed for good.
pub(crate) fn init_failed(records: &[Record], policy: Restart) -> bool {
    policy == Restart::Never
        && records.iter().any(|record| record.role == Role::Init && record.ended().is_some_and(|ended| ended.code != 0))
}

/// Whether nothing of the pod runs or will run again.
pub(crate) fn finished(records: &[Record], policy: Restart) -> bool {
    init_failed(records, policy)
        || (initialized(records)
            && records
                .iter()
                .filter(|record| record.role == Role::Main)
                .all(|record| record.ended().is_some_and(|ended| !policy.again(ended.code))))
}

/// The containers to start now, in order (by index), and when to look again if some have to wait.
pub(crate) fn due(records: &[Record], policy: Restart, now: Instant) -> (Vec<usize>, Option<Instant>) {
    let mut start = Vec::new();
    let mut wake: Option<Instant> = None;
    if finished(records, policy) {
        return (start, wake);
    }
    for (index, record) in records.iter().enumerate() {
        if record.role == Role::Main && !initialized(records) {
            break;
        }
        let wanted = match &record.state {
            State::Waiting { .. } => true,
            State::Running(_) => false,
            State::Ended(ended) => match record.role {
                Role::Init => ended.code != 0,
                Role::Sidecar => true,
                Role::Main => policy.again(ended.code),
            },
        };
        if wanted {
            match record.retry.filter(|retry| *retry > now) {
                Some(retry) => wake = Some(wake.map_or(retry, |wake| wake.min(retry))),
                None => start.push(index),
            }
        }
        let done = match record.role {
            Role::Init => record.ended().is_some_and(|ended| ended.code == 0),
            Role::Sidecar => record.has_started_up(),
            Role::Main => true,
        };
        if !done {
            break;
        }
    }
    (start, wake)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn end(record: &mut Record, code: i32) {
        let text = String::new;
        record.state = State::Ended(Ended {
            id: text(),
            code,
            reason: text(),
            message: text(),
            started: text(),
            finished: text(),
        });
    }

    fn records() -> Vec<Record> {
        Record::all(&json!({"spec": {
            "initContainers": [{"name": "i0"}, {"name": "i1"}],
            "containers": [{"name": "a"}, {"name": "b"}],
        }}))
    }

    #[tokio::test(start_paused = true)]
    async fn init_containers_come_one_by_one() {
        let now = Instant::now();
        let mut records = records();
        assert_eq!(due(&records, Restart::Never, now).0, [0]);
        end(&mut records[0], 0);
        assert_eq!(due(&records, Restart::Never, now).0, [1]);
        end(&mut records[1], 0);
        assert_eq!(due(&records, Restart::Never, now).0, [2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_init_container_ends_the_pod_or_runs_again() {
        let now = Instant::now();
        let mut records = records();
        end(&mut records[0], 1);
        assert!(finished(&records, Restart::Never));
        assert_eq!(due(&records, Restart::Never, now).0, [0; 0]);
        assert_eq!(due(&records, Restart::OnFailure, now).0, [0]);
        let later = now + std::time::Duration::from_secs(10);
        records[0].retry = Some(later);
        assert_eq!(due(&records, Restart::OnFailure, now), (vec![], Some(later)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_that_waits_for_its_image_holds_nobody_back() {
        let now = Instant::now();
        let mut records = Record::all(&json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}));
        records[0].retry = Some(now + std::time::Duration::from_secs(10));
        assert_eq!(due(&records, Restart::Never, now).0, [1]);
        end(&mut records[0], 0);
        end(&mut records[1], 1);
        assert!(finished(&records, Restart::Never) && !finished(&records, Restart::OnFailure));
    }
}
