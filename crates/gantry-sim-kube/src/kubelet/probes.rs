//! Probes of a running container: start-up, readiness, liveness. A probe only sets flags or kills
//! its container; the worker sees the rest.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::Value;

use super::{hooks, record::Running, spec};
use crate::{
    cluster::Cluster,
    events::{self, Kind},
    kubelet_state::PodHandle,
};

/// Whether a container has that probe.
pub(crate) fn has(container: &Value, name: &str) -> bool {
    container.get(name).is_some_and(Value::is_object)
}

/// Probes one container until it ends.
pub(crate) async fn run(
    cluster: Arc<Cluster>,
    handle: Arc<PodHandle>,
    pod: Arc<Value>,
    (running, container): (Running, Value),
) {
    let prober = Prober { cluster, handle, pod, container, running };
    let container = prober.running.container.clone();
    let all = async {
        if has(&prober.container, "startupProbe") {
            prober.start_up().await;
        }
        tokio::join!(prober.readiness(), prober.liveness());
    };
    tokio::select! {
        _ = container.wait() => {}
        () = all => {}
    }
}

struct Prober {
    cluster: Arc<Cluster>,
    handle: Arc<PodHandle>,
    pod: Arc<Value>,
    container: Value,
    running: Running,
}

/// SIGKILL and SIGTERM.
const KILL: i32 = 9;
const TERM: i32 = 15;

impl Prober {
    async fn start_up(&self) {
        let mut failures = 0;
        self.delay("startupProbe").await;
        while let Err(why) = self.once("startupProbe").await {
            failures += 1;
            self.tell("Startup", &why);
            if failures >= self.number("startupProbe", "failureThreshold", 3) {
                self.end("startup").await;
                return;
            }
            self.pause("startupProbe").await;
        }
        self.running.started_up.store(true, Ordering::Relaxed);
        self.handle.wake.notify_one();
    }

    async fn readiness(&self) {
        if !has(&self.container, "readinessProbe") {
            return;
        }
        self.delay("readinessProbe").await;
        let (mut good, mut bad) = (0, 0);
        loop {
            let was = self.running.ready.load(Ordering::Relaxed);
            match self.once("readinessProbe").await {
                Ok(()) => (good, bad) = (good + 1, 0),
                Err(why) => {
                    (good, bad) = (0, bad + 1);
                    self.tell("Readiness", &why);
                }
            }
            let is = if was {
                bad < self.number("readinessProbe", "failureThreshold", 3)
            } else {
                good >= self.number("readinessProbe", "successThreshold", 1)
            };
            if was != is {
                self.running.ready.store(is, Ordering::Relaxed);
                self.handle.wake.notify_one();
            }
            self.pause("readinessProbe").await;
        }
    }

    async fn liveness(&self) {
        if !has(&self.container, "livenessProbe") {
            return;
        }
        self.delay("livenessProbe").await;
        let mut failures = 0;
        loop {
            match self.once("livenessProbe").await {
                Ok(()) => failures = 0,
                Err(why) => {
                    failures += 1;
                    self.tell("Liveness", &why);
                }
            }
            if failures >= self.number("livenessProbe", "failureThreshold", 3) {
                self.end("liveness").await;
                return;
            }
            self.pause("livenessProbe").await;
        }
    }

    fn number(&self, probe: &str, field: &str, otherwise: u64) -> u64 {
        self.container[probe][field].as_u64().unwrap_or(otherwise)
    }

    async fn delay(&self, probe: &str) {
        tokio::time::sleep(Duration::from_secs(self.number(probe, "initialDelaySeconds", 0))).await;
    }

    async fn pause(&self, probe: &str) {
        tokio::time::sleep(Duration::from_secs(self.number(probe, "periodSeconds", 10).max(1))).await;
    }

    async fn once(&self, probe: &str) -> Result<(), String> {
        let limit = Duration::from_secs(self.number(probe, "timeoutSeconds", 1).max(1));
        let host = self.cluster.config.advertised_ip(self.cluster.address);
        hooks::perform(&self.running.container, &self.container, &self.container[probe], host, limit).await
    }

    fn tell(&self, what: &str, why: &str) {
        let message = format!("{what} probe failed: {why}");
        let mut telling = events::kubelet(Kind::Warning, "Unhealthy", &message);
        telling.field = spec::field_path(&self.pod, self.container["name"].as_str().unwrap_or(""));
        events::record(&self.cluster, &self.pod, &telling);
    }

    /// Stops the container, which the restart policy may start again.
    async fn end(&self, what: &str) {
        let name = self.container["name"].as_str().unwrap_or("");
        let message = format!("Container {name} failed {what} probe, will be restarted");
        events::record(&self.cluster, &self.pod, &events::kubelet(Kind::Normal, "Killing", &message));
        let grace = self.pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
        let _ = self.running.container.kill(TERM);
        if tokio::time::timeout(Duration::from_secs(grace), self.running.container.wait()).await.is_err() {
            let _ = self.running.container.kill(KILL);
        }
    }
}
