//! The pod of a job that does nothing: planned and started as that of any job, and removed. `gantry
//! doctor` shows by it what works, and `[runners.experimental.boot_verify]` asks for it before a
//! runner takes jobs.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use gantry_config::RunnerSettings;
use gantry_core::chance;
use gantry_core::error_chain::chain;
use gantry_core::job::JobSpec;
use gantry_kube::{AttachRequest, Cluster, HelperBinaries, PodRef, Purpose, facts};
use gantry_plan::{Context, JobPlan, LABEL_MANAGED, Links};
use gantry_wire::layout::BUILD;
pub use gantry_wire::layout::HELPER;
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// Selects trial pods and nothing else.
pub const SELECTOR: &str = "gantry.dev/doctor=true";

/// Containers of the pod whose start is waited for.
const CONTAINERS: [&str; 2] = [HELPER, BUILD];

/// How long looking for pods that others have left behind may take.
const LOOK: Duration = Duration::from_secs(5);

/// How long the removal of the pod may take before it is said to be left behind.
const REMOVAL: Duration = Duration::from_secs(30);

/// How long the removal of all pods together may take that others have left behind.
const LEFTOVERS: Duration = Duration::from_secs(10);

/// So many of them are removed at a time.
const AT_A_TIME: usize = 10;

/// Plans the trial pod, with `image` for its build container; default: the runner's own, else the
/// helper's.
///
/// # Errors
/// Says why no job can be planned.
pub fn plan(runner: &RunnerSettings, context: &Context, image: Option<&str>) -> Result<JobPlan, String> {
    let context = &Context { suffix: chance::letters(8), ..context.clone() };
    let named = image.map(str::to_owned).or_else(|| runner.kubernetes.image.clone().filter(|image| !image.is_empty()));
    if let Some(image) = named {
        return planned(runner, context, &image);
    }
    // Jobs bring their own image. Whatever the helper has will do for the build container: it needs
    // no more than a shell.
    let first = planned(runner, context, "helper")?;
    let spec = first.pod.spec.as_ref();
    let helper = spec.and_then(|spec| spec.containers.iter().find(|container| container.name == HELPER));
    let helper = helper.and_then(|container| container.image.clone()).unwrap_or_default();
    planned(runner, context, &helper)
}

fn planned(runner: &RunnerSettings, context: &Context, image: &str) -> Result<JobPlan, String> {
    let mut settings = runner.clone();
    // The list is for jobs, and this image may be the operator's own choice.
    settings.kubernetes.allowed_images.clear();
    // Nobody makes a namespace for it.
    settings.kubernetes.namespace_per_job = false;
    let mut plan = gantry_plan::plan(&job(&settings.url, image)?, &settings, context, &Links::default())
        .map_err(|error| chain(&error))?;
    let labels = plan.pod.metadata.labels.get_or_insert_default();
    // No daemon's: it would adopt or remove it.
    labels.retain(|name, _| name != LABEL_MANAGED);
    let (name, value) = SELECTOR.split_once('=').unwrap_or((SELECTOR, ""));
    labels.insert(name.to_owned(), value.to_owned());
    // Who finds it when all this is over may remove it (`removed`).
    let starts = i64::try_from(plan.start_timeout.as_secs()).unwrap_or(i64::MAX);
    if let Some(lasts) = plan.pod.spec.as_mut().and_then(|spec| spec.active_deadline_seconds.as_mut()) {
        *lasts = lasts.saturating_add(starts);
    }
    Ok(plan)
}

/// A job without sources and with nothing to do.
///
/// # Errors
/// Says what is wrong with it.
pub fn job(url: &str, image: &str) -> Result<JobSpec, String> {
    let payload = json!({
        "id": 1,
        "token": "no-token-of-a-job",
        "job_info": {"name": "doctor", "stage": "doctor", "project_id": 1, "project_name": "doctor"},
        "git_info": {"repo_url": format!("{}/gantry/doctor.git", url.trim_end_matches('/')), "ref": "doctor",
            "sha": "0".repeat(40)},
        "runner_info": {"timeout": 600},
        "variables": [{"key": "GIT_STRATEGY", "value": "none", "public": true}],
        "image": {"name": image},
        "steps": [{"name": "script", "script": ["true"]}],
    });
    gantry_gitlab::read_job(payload.to_string().as_bytes())
}

/// Waits until its containers have started and its agent answers.
///
/// # Errors
/// Says what keeps it from that until the deadline.
pub async fn started(
    cluster: &Cluster,
    pod: &PodRef,
    helper: &HelperBinaries,
    deadline: Instant,
) -> Result<(), String> {
    let watch = cluster.watch_pod(pod);
    let mut status = watch.clone();
    let request = AttachRequest { pod, watch, helper, purpose: Purpose::Start, deadline };
    // Nothing is said to the agent: it is enough that it answers. The connection ends here.
    drop(cluster.connect_agent(request).await.map_err(|error| chain(&error))?);
    let all_started = |facts: &facts::PodFacts| {
        CONTAINERS.iter().all(|name| facts.container(name).is_some_and(facts::ContainerFacts::has_started))
    };
    let waiting = status.until(|state| state.facts().is_some_and(all_started).then_some(()));
    if timeout_at(deadline, waiting).await == Ok(Some(())) {
        return Ok(());
    }
    let reasons = status.current().facts().map(facts::pending_reasons).unwrap_or_default();
    Err(format!("the build container has not started in time {}", reasons.join("; ")))
}

/// Removes it, and unless told to stop those of earlier trials whose process was killed.
///
/// # Errors
/// Says why it may be there still.
pub async fn removed(cluster: &Cluster, pod: &PodRef, stop: &CancellationToken) -> Result<(), String> {
    // How late it is there, the pod itself says: a wrong clock here removes nothing too early. Who
    // may not list pods leaves them.
    let overdue = stop.run_until_cancelled(timeout(LOOK, cluster.overdue_pods(SELECTOR, pod))).await;
    let removed = match timeout(REMOVAL, cluster.delete_pod(pod, Some(0))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("it is still there after {} s", REMOVAL.as_secs())),
    };
    let others = overdue.into_iter().flatten().flatten().flatten().filter(|other| other.uid != pod.uid);
    let remove = |pod: PodRef| async move {
        if cluster.delete_pod(&pod, Some(0)).await.is_ok() {
            tracing::info!(pod = pod.name, "removed a trial pod that an earlier trial had left behind");
        }
    };
    while_there_is_time(others.map(remove).collect(), stop).await;
    removed
}

/// What is not done then, whoever makes the next pod tries again.
async fn while_there_is_time(removals: Vec<impl Future<Output = ()>>, stop: &CancellationToken) {
    let removing = stream::iter(removals).buffer_unordered(AT_A_TIME).count();
    let _ = stop.run_until_cancelled(timeout(LEFTOVERS, removing)).await;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pods_of_others_are_removed_together_in_a_time_that_is_bounded() {
        let stop = CancellationToken::new();
        let (begun, removed) = (Instant::now(), Cell::new(0));
        let removal = |hangs: bool| {
            let removed = &removed;
            async move {
                if hangs {
                    pending::<()>().await;
                }
                removed.set(removed.get() + 1);
            }
        };
        while_there_is_time((0..100).map(|_| removal(false)).collect(), &stop).await;
        assert_eq!((removed.take(), begun.elapsed().as_secs()), (100, 0));
        while_there_is_time((0..100).map(|number| removal(number % 50 == 0)).collect(), &stop).await;
        assert_eq!((removed.take(), begun.elapsed().as_secs()), (98, LEFTOVERS.as_secs()));
        let stopping = async { stop.cancel() };
        tokio::join!(while_there_is_time((0..100).map(|_| removal(true)).collect(), &stop), stopping);
        assert_eq!((removed.take(), begun.elapsed().as_secs()), (0, LEFTOVERS.as_secs()), "it hears the stop");
    }
}
