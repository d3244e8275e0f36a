//! What befalls a pod from outside: a node that has too little of something, a fault that was asked
//! for, its own deadline.

use std::{convert::Infallible, sync::atomic::Ordering, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use super::Worker;
use crate::{
    events::{self, Kind},
    faults::{Coming, PodFault},
    kubelet::{
        disk,
        record::{self, Restart, Role},
        status::{self, Failure},
    },
    store::{Verdict, object},
};

impl Worker {
    /// Evicts the pod if it uses more disk than it may.
    pub(super) async fn measure(&mut self) {
        let over = record::finished(&self.records, Restart::of(&self.pod));
        if over || self.whole.failed.is_some() || self.whole.stopping {
            self.measure = None;
        }
        if self.measure.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.measure = Some(Instant::now() + self.cluster.config.eviction_period);
        let usage = disk::measure(&self.handle, &self.pod).await;
        if let Some(message) = disk::excess(&self.pod, &usage) {
            self.suffer(PodFault::Evict { reason: "Evicted".to_owned(), message }).await;
        }
    }

    /// Asks whether a fault wants something to happen to this pod.
    pub(super) fn fault(&mut self) {
        let running: Vec<&str> = self
            .records
            .iter()
            .filter(|record| record.running().is_some() && record.role != Role::Init)
            .map(|record| record.name.as_str())
            .collect();
        if running.is_empty() || self.whole.failed.is_some() || self.whole.stopping {
            return;
        }
        let since = *self.running_since.get_or_insert_with(Instant::now);
        let key = &self.handle.key;
        match self.cluster.faults.pod_fault(&key.namespace, &key.name, &running, since) {
            Some(Coming::Now(pod_fault)) => self.pod_fault = Some(pod_fault),
            Some(Coming::At(at)) => self.look_at(Some(at)),
            None => {}
        }
    }

    pub(super) async fn exceed(&mut self) {
        self.deadline = None;
        if self.whole.failed.is_some() || record::finished(&self.records, Restart::of(&self.pod)) {
            return;
        }
        let message = "Pod was active on the node longer than the specified deadline";
        events::record(&self.cluster, &self.pod, &events::kubelet(Kind::Normal, "DeadlineExceeded", message));
        self.whole.failed = Some(Failure { reason: "DeadlineExceeded".to_owned(), message: message.to_owned() });
        let grace = self.grace();
        self.stop(grace).await;
    }

    pub(super) async fn suffer(&mut self, pod_fault: PodFault) {
        match pod_fault {
            PodFault::Evict { reason, message } => {
                events::record(&self.cluster, &self.pod, &events::kubelet(Kind::Warning, &reason, &message));
                self.whole.failed = Some(Failure { reason, message: message.clone() });
                self.stop(Duration::ZERO).await;
                if self.cluster.config.disruption_conditions {
                    self.disrupted(&message);
                } else {
                    self.whole.wiped = true;
                }
            }
            PodFault::OutOfMemory { container } => {
                let hit = self.records.iter().find(|record| {
                    record.running().is_some()
                        && (record.name == container || (container.is_empty() && record.role == Role::Main))
                });
                if let Some(record) = hit
                    && let Some(running) = record.running()
                {
                    record.oom.store(true, Ordering::Relaxed);
                    let _ = running.container.kill_all();
                }
            }
        }
    }

    fn disrupted(&self, message: &str) {
        let stamp = self.cluster.clock.stamp();
        let done: Result<_, Infallible> = self.cluster.store.modify(&self.handle.key, |pod| {
            let mut new = pod.clone();
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": message,
            });
            status::put_condition(&mut new["status"], condition, &stamp);
            Ok(if object::uid(pod) == self.handle.uid { Verdict::Replace(new) } else { Verdict::Keep })
        });
        drop(done);
    }
}
