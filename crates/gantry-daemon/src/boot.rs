//! `[runners.experimental.boot_verify]`: a runner asks for jobs only once a pod as that of a job
//! has started, so that a deployment that cannot work becomes not ready and takes no job.
//!
//! Each runner proves itself once in a process: a change of the file does not stop one that has.
//! Where GitLab Runner ends with an error, this goes on trying: other runners of the file work, and
//! what is missing may come.

use std::sync::Arc;
use std::time::Duration;

use gantry_core::error_chain::chain;
use gantry_core::go_duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::poller::{self, Polling};
use crate::runner::Runner;
use crate::{tasks, trial, wiring};

/// Lets a runner ask for jobs, once it may.
pub(crate) fn begin(runner: Arc<Runner>, polling: Arc<Polling>, stop: CancellationToken) {
    let name = &runner.settings.name;
    if !runner.settings.boot_verify.enabled || runner.shared.health.is_proven(name) {
        return poller::begin(&runner, &polling);
    }
    runner.shared.health.unproven(name, "its trial pod has not started yet");
    // A process that ends waits for the removal of the pod.
    let tracker = runner.shared.jobs.clone();
    tasks::spawn(tracker.track_future(async move {
        if prove(&runner, &stop).await {
            poller::begin(&runner, &polling);
        }
    }));
}

/// Tries until a trial pod has started; `false` if told to stop before.
async fn prove(runner: &Runner, stop: &CancellationToken) -> bool {
    let (settings, name) = (&runner.settings.boot_verify, runner.settings.name.as_str());
    let mut pause = settings.min_backoff;
    loop {
        let begun = Instant::now();
        match attempt(runner, stop).await {
            _ if stop.is_cancelled() => return false,
            Ok(()) => {
                let seconds = begun.elapsed().as_secs_f64();
                tracing::info!("boot_verify: a trial pod of runner {name:?} has started in {seconds:.1} s");
                runner.shared.health.proven(name);
                return true;
            }
            Err(why) => {
                let next = go_duration::format(pause);
                tracing::error!(
                    "runner {name:?} takes no jobs, as boot_verify demands: its trial pod does not start: {why}; it is tried again in {next}"
                );
                runner.shared.health.unproven(name, &why);
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return false;
        }
        pause = longer(pause, settings.max_backoff);
    }
}

/// Twice as long, up to a limit.
fn longer(pause: Duration, most: Duration) -> Duration {
    pause.saturating_mul(2).min(most.max(pause))
}

/// Makes one trial pod, waits for it, and removes it.
async fn attempt(runner: &Runner, stop: &CancellationToken) -> Result<(), String> {
    let (shared, settings) = (&runner.shared, &runner.settings);
    let context = gantry_plan::Context {
        patch_files: wiring::patch_files(settings),
        ..wiring::context(&shared.system_id, &shared.manager_host, &shared.alone)
    };
    let plan = trial::plan(settings, &context, None)?;
    let access = wiring::cluster(settings);
    let connected = shared.outside.cluster(access, plan.namespace.clone(), trial::SELECTOR.to_owned()).await;
    let (cluster, driver) = connected.map_err(|error| chain(&error))?;
    let deadline = Instant::now() + plan.start_timeout.min(settings.boot_verify.timeout);
    let work = async {
        let pod = cluster.create_pod(&plan.pod, deadline, |_| {}).await.map_err(|error| chain(&error))?;
        let started = stop.run_until_cancelled(trial::started(&cluster, &pod, &shared.helper, deadline)).await;
        if let Err(why) = trial::removed(&cluster, &pod).await {
            tracing::warn!(pod = pod.name, "boot_verify: the trial pod could not be removed: {why}");
        }
        started.unwrap_or(Ok(()))
    };
    tokio::select! {
        outcome = work => outcome,
        () = driver => Err("the watch of pods has ended".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::longer;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let [one, four, ten] = [1, 4, 10].map(Duration::from_secs);
        assert_eq!(longer(one, ten), 2 * one);
        assert_eq!(longer(2 * four, ten), ten);
        assert_eq!(longer(ten, ten), ten);
        assert_eq!(longer(ten, four), ten, "a first pause beyond the limit stays as it is");
    }
}
