//! Stopping a pod's containers: hook, TERM, grace, KILL.

use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    hooks,
    record::{Record, Running},
    spec,
};
use crate::{
    cluster::Cluster,
    events::{self, Kind},
};

const KILL: i32 = 9;
const TERM: i32 = 15;
/// A hook gets at least this long even when the grace period is over, as kubelet gives it.
const LEAST_HOOK: Duration = Duration::from_secs(2);
/// A killed process is gone at once; a log still has to be read to its end. Waiting longer would
/// only hold the pod.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// Stops all running containers of a pod together. The grace period can get shorter while it runs.
pub(crate) async fn all(
    cluster: &Cluster,
    pod: &Value,
    records: &[Record],
    deadline: tokio::sync::watch::Receiver<Instant>,
) {
    let running = records.iter().filter_map(|record| Some((record.name.as_str(), record.running()?)));
    join_all(running.map(|(name, running)| one(cluster, pod, name, running, deadline.clone()))).await;
}

async fn one(
    cluster: &Cluster,
    pod: &Value,
    name: &str,
    running: &Running,
    mut deadline: tokio::sync::watch::Receiver<Instant>,
) {
    if running.exit.borrow().is_some() {
        return;
    }
    let message = format!("Stopping container {name}");
    let mut telling = events::kubelet(Kind::Normal, "Killing", &message);
    telling.field = spec::field_path(pod, name);
    events::record(cluster, pod, &telling);
    let mut ended = running.exit.clone();
    let first_deadline = *deadline.borrow();
    let gentle = async {
        pre_stop(cluster, pod, name, running, first_deadline).await;
        let _ = running.container.kill(TERM);
        std::future::pending::<()>().await;
    };
    let over = async {
        loop {
            let until = *deadline.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                changed = deadline.changed() => if changed.is_err() {
                    tokio::time::sleep_until(until).await;
                    return;
                },
            }
        }
    };
    let gone = tokio::select! {
        _ = ended.wait_for(Option::is_some) => true,
        () = gentle => false,
        () = over => false,
    };
    if !gone {
        let _ = running.container.kill(KILL);
        let _ = tokio::time::timeout(AFTER_KILL, ended.wait_for(Option::is_some)).await;
    }
}

async fn pre_stop(cluster: &Cluster, pod: &Value, name: &str, running: &Running, deadline: Instant) {
    let Some(container) = spec::find(pod, name) else { return };
    let Some(action) = container.pointer("/lifecycle/preStop") else { return };
    let limit = deadline.saturating_duration_since(Instant::now()).max(LEAST_HOOK);
    let host = cluster.config.advertised_ip(cluster.address);
    if let Err(why) = hooks::perform(&running.container, container, action, host, limit).await {
        let message = format!("PreStopHook failed: {why}");
        events::record(cluster, pod, &events::kubelet(Kind::Warning, "FailedPreStopHook", &message));
    }
}
