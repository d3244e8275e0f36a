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
use gantry_kube::{Cluster, CreateError, LeftoverPod, PodRef};
use gantry_plan::Pod;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::leftovers::LeftoverRemover;
use crate::member::Shared;
use crate::poller::{self, Polling};
use crate::runner::Runner;
use crate::{redaction, tasks, trial, wiring};

/// How long the answer to the creation of a pod is waited for that nobody needs any more: with it
/// the pod can be removed at once.
const LAST_ANSWER: Duration = Duration::from_secs(10);

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
        match Box::pin(attempt(runner, stop)).await {
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
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
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
    let connecting =
        shared.outside.cluster(wiring::cluster(settings), plan.namespace.clone(), trial::SELECTOR.to_owned());
    let Some(connected) = stop.run_until_cancelled(connecting).await else { return Ok(()) };
    let (cluster, driver) = connected.map_err(|error| chain(&error))?;
    let deadline = Instant::now() + plan.start_timeout.min(settings.boot_verify.timeout);
    let work = async {
        let Some(pod) = made(runner, &cluster, (plan.pod, deadline), stop).await? else { return Ok(()) };
        let started = stop.run_until_cancelled(trial::started(&cluster, &pod, &shared.helper, deadline)).await;
        if let Err(why) = trial::removed(&cluster, &pod, stop).await {
            tracing::warn!(pod = pod.name, "boot_verify: the trial pod could not be removed: {why}");
        }
        started.unwrap_or(Ok(()))
    };
    tokio::select! {
        outcome = work => outcome,
        () = driver => Err("the watch of pods has ended".to_owned()),
    }
}

/// Makes the pod; nothing if told to stop. One that may come without that being known is removed.
async fn made(
    runner: &Runner,
    cluster: &Cluster,
    (pod, deadline): (Pod, Instant),
    stop: &CancellationToken,
) -> Result<Option<PodRef>, String> {
    let late = async {
        stop.cancelled().await;
        sleep(LAST_ANSWER).await;
    };
    let made = tokio::select! {
        made = cluster.create_pod(&pod, deadline, |_| {}) => Some(made),
        () = late => None,
    };
    if matches!(made, None | Some(Err(CreateError::Unreachable { .. }))) {
        let Shared { jobs, stop_jobs, .. } = &*runner.shared;
        let leftovers = LeftoverRemover::new(jobs.clone(), stop_jobs.clone(), redaction::guard(None, []));
        leftovers.remove(cluster.clone(), LeftoverPod::Requested(Box::new(pod)));
    }
    made.transpose().map_err(|error| chain(&error))
}

#[cfg(test)]
mod tests;
