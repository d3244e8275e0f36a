//! The floor: bare pods with the same images as a job's, and what the API server and kubelet take
//! to run something in them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::world::IMAGE;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::bench::{BOUND, Bench, HELPER};

/// Between two tries of an exec of a pod that starts alone: fine enough for what is measured.
const PAUSE: Duration = Duration::from_millis(10);

/// Longer than a try takes: one of a container that just starts may never be answered.
const TRY: Duration = Duration::from_secs(5);

/// Volume of the pod, as a job's builds are on one.
pub(crate) const VOLUME: &str = "/bench";

/// What a script prints when all of it has worked.
const DONE: &str = "all done";

/// A bare pod that runs.
pub(crate) struct BarePod<'a> {
    bench: &'a Bench,
    name: String,
    /// Seconds from its creation to the first byte of an exec in its last container, tried until it
    /// works.
    pub(crate) first_byte: f64,
}

impl<'a> BarePod<'a> {
    /// Creates one; its name is unique among all that are there.
    pub(crate) async fn start(bench: &'a Bench, name: String) -> anyhow::Result<Self> {
        Self::start_among(bench, name, 1).await
    }

    /// The same for one of so many that start together: the tries of all must not be what slows
    /// them down.
    pub(crate) async fn start_among(bench: &'a Bench, name: String, count: usize) -> anyhow::Result<Self> {
        let container = |name: &str, image: &str| {
            json!({
                "name": name, "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", "sleep 3600"],
                "volumeMounts": [{"name": "bench", "mountPath": VOLUME}],
            })
        };
        let pod = json!({
            "metadata": {"name": name},
            "spec": {
                "containers": [container("helper", HELPER), container("build", IMAGE)],
                "volumes": [{"name": "bench", "emptyDir": {}}],
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
            },
        });
        let pause = PAUSE * u32::try_from(count)?;
        let began = Instant::now();
        bench.world.kube.create_pod(&bench.runner.namespace, &pod).await?;
        let mut pod = Self { bench, name, first_byte: 0.0 };
        let first = async {
            loop {
                let said = timeout(TRY, pod.exec("echo x")).await;
                if matches!(said, Ok(Ok(text)) if text == "x\n") {
                    break;
                }
                sleep(pause).await;
            }
        };
        timeout(BOUND, first).await.context("the bare pod does not start")?;
        pod.first_byte = began.elapsed().as_secs_f64();
        Ok(pod)
    }

    /// What a script prints.
    pub(crate) async fn exec(&self, script: &str) -> anyhow::Result<String> {
        self.bench.world.kube.exec(&self.bench.runner.namespace, &self.name, "build", script).await
    }

    /// Seconds that a script takes which must work.
    pub(crate) async fn timed(&self, script: &str) -> anyhow::Result<f64> {
        let began = Instant::now();
        let output = self.exec(&format!("set -e\n{script}\necho {DONE}")).await?;
        let took = began.elapsed().as_secs_f64();
        ensure!(output.ends_with(&format!("{DONE}\n")), "{script}: {output}");
        Ok(took)
    }

    /// Deletes it.
    pub(crate) async fn delete(self) -> anyhow::Result<()> {
        self.bench.world.kube.delete_pod(&self.bench.runner.namespace, &self.name).await
    }
}
