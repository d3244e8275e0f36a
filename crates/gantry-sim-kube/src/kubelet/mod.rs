//! Kubelet: runs the pods that the scheduler gave to the node. This file takes pods onto the node;
//! each has one worker (`worker`), and nobody else changes that pod's status. What is shared with
//! the API server is in `kubelet_state`.

mod disk;
mod env;
mod hooks;
mod logs;
pub(crate) mod node;
mod probes;
mod pull_secrets;
mod record;
mod spec;
mod start;
mod status;
mod stop;
mod volumes;
mod worker;

use std::sync::Arc;

use serde_json::Value;

use crate::{
    cluster::Cluster,
    resources,
    store::{
        Key,
        object::{self, text},
    },
};

pub(crate) use logs::{LogLine, previous, read_lines};
pub(crate) use status::put_condition;

/// Follows the pods of the node until the cluster stops.
pub(crate) async fn run(cluster: Arc<Cluster>) {
    let mut follow = cluster.store.follow();
    let stopping = cluster.tasks.stopping();
    let mut seen = 0;
    loop {
        follow.borrow_and_update();
        if let Ok((changes, upto)) = cluster.store.since(seen) {
            seen = upto;
            for change in changes.iter().filter(|change| change.plural == "pods") {
                if cluster.kubelet.is_news(object::uid(&change.object), change.version) {
                    take(&cluster, &change.object);
                }
            }
        } else {
            // So much happened that the history does not reach back; look at everything.
            let (pods, version) = cluster.store.list(resources::core("pods"), None);
            seen = version;
            for pod in &pods {
                take(&cluster, pod);
            }
            cluster.kubelet.wake_all();
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = follow.changed() => if changed.is_err() { return },
        }
    }
}

/// Starts a worker for a pod that is new on the node, or wakes the one it has.
fn take(cluster: &Arc<Cluster>, pod: &Value) {
    let uid = object::uid(pod);
    if let Some(known) = cluster.kubelet.pod(uid) {
        known.wake.notify_one();
        return;
    }
    let key = Key::of(resources::core("pods"), pod);
    let mine = text(pod, &["spec", "nodeName"]) == cluster.config.node_name;
    let ended = ["Succeeded", "Failed"].contains(&text(pod, &["status", "phase"]));
    // A change may be older than the pod's end, so ask for the pod as it is now.
    let exists = cluster.store.get(&key).is_some_and(|now| object::uid(&now) == uid);
    if !mine || ended || !exists {
        return;
    }
    let handle = cluster.kubelet.admit(uid, key);
    cluster.tasks.spawn(worker::run(Arc::clone(cluster), handle));
}
