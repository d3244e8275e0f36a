//! The trial pod: planned as that of any other job, and with `--pod` made, reached, asked whether
//! it sees GitLab, and removed.

use gantry_core::error_chain::chain;
use gantry_daemon::{trial, wiring};
use gantry_gitlab::Client;
use gantry_kube::{Cluster, CreateError, Driver, HelperBinaries, PodRef, facts};
use gantry_plan::JobPlan;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Subject;
use super::finding::Finding;
use super::own_namespace;
use crate::commands::LAST_ANSWER;

/// A cluster that would take a trial pod.
pub(super) struct Trialable {
    pub(super) cluster: Cluster,
    pub(super) driver: Driver,
}

/// Where a helper is in its container, in the order in which it is looked for: pushed, or of the
/// image.
const HELPER_COMMAND: &str =
    "h=/gantry-agent/gantry-helper; [ -x \"$h\" ] || h=gantry-helper; exec \"$h\" reach \"$0\"";

/// Plans the trial pod.
pub(super) fn plan(subject: &Subject<'_>, image: Option<&str>) -> Result<JobPlan, String> {
    let context = wiring::context(&subject.system_id, &wiring::hostname(), &wiring::alone(subject.settings));
    trial::plan(&own_namespace::without_names(subject.runner), &context, image)
}

/// Makes the pod, looks, and removes it.
pub(super) async fn examine(
    subject: &Subject<'_>,
    trialable: Trialable,
    helper: &HelperBinaries,
    image: Option<&str>,
    stop: &CancellationToken,
) -> Vec<Finding> {
    let plan = match plan(subject, image) {
        Ok(plan) => plan,
        Err(why) => return vec![Finding::error("pod", why, "change the setting or the --image that it names")],
    };
    let Trialable { cluster, driver } = trialable;
    tracing::info!(
        "making a trial pod in namespace {} and waiting for it, for at most {} s",
        cluster.namespace(),
        plan.start_timeout.as_secs()
    );
    let looking = look(subject, &cluster, &plan, helper, stop);
    tokio::select! {
        findings = looking => findings,
        () = driver => vec![Finding::error("pod", "the watch of pods has ended", "try again")],
    }
}

async fn look(
    subject: &Subject<'_>,
    cluster: &Cluster,
    plan: &JobPlan,
    helper: &HelperBinaries,
    stop: &CancellationToken,
) -> Vec<Finding> {
    let begun = Instant::now();
    let deadline = begun + plan.start_timeout;
    let Some(made) = made(cluster, plan, deadline, stop).await else {
        let name = plan.pod.metadata.name.as_deref().unwrap_or_default();
        let change = format!("kubectl delete pod --ignore-not-found -n {} {name}", cluster.namespace());
        return vec![Finding::error(
            "pod",
            "interrupted while a trial pod was being made, which may still come",
            change,
        )];
    };
    let pod = match made {
        Ok(pod) => pod,
        Err(error) => return vec![Finding::error("pod", chain(&error), "what the message says")],
    };
    let waits_for = || {
        let state = cluster.watch_pod(&pod).current();
        state.facts().map(facts::pending_reasons).unwrap_or_default().join("; ")
    };
    let starting = Box::pin(trial::started(cluster, &pod, helper, deadline));
    let seeing = Box::pin(sees_gitlab(subject, cluster, &pod));
    let mut findings = tried(starting, waits_for, seeing, (begun, stop)).await;
    if let Err(why) = trial::removed(cluster, &pod, stop).await {
        let change = format!("kubectl delete pod -n {} {}", cluster.namespace(), pod.name);
        findings.push(Finding::warning("pod", format!("the trial pod could not be removed: {why}"), change));
    }
    findings
}

/// What the pod that was begun shows, step by step; an interrupt takes back no step that was done.
async fn tried(
    starting: impl Future<Output = Result<(), String>>,
    waits_for: impl FnOnce() -> String,
    seeing: impl Future<Output = Finding>,
    (begun, stop): (Instant, &CancellationToken),
) -> Vec<Finding> {
    match stop.run_until_cancelled(starting).await {
        Some(Ok(())) => {
            let seconds = begun.elapsed().as_secs_f64();
            let found = format!("a trial pod started in {seconds:.1} s: images are there, the helper runs");
            let seen = stop.run_until_cancelled(seeing).await;
            let interrupted =
                || Finding::error("network", "interrupted before the trial pod had answered", "call it again");
            vec![Finding::ok("pod", found), seen.unwrap_or_else(interrupted)]
        }
        Some(Err(why)) => {
            let change = "what the message says; the images are `image` and helper_image, the time poll_timeout and prepare_timeout";
            vec![Finding::error("pod", format!("a trial pod does not start: {why}"), change)]
        }
        None => {
            let found = format!("interrupted before the trial pod had started {}", waits_for());
            vec![Finding::error("pod", found.trim_end(), "call it again")]
        }
    }
}

/// Makes the pod. An interrupt leaves the request a moment, so that it is known whether there is a
/// pod to remove; `None`: nobody knows.
async fn made(
    cluster: &Cluster,
    plan: &JobPlan,
    deadline: Instant,
    stop: &CancellationToken,
) -> Option<Result<PodRef, CreateError>> {
    let making = cluster.create_pod(&plan.pod, deadline, |_| {});
    tokio::pin!(making);
    tokio::select! {
        made = &mut making => Some(made),
        () = stop.cancelled() => tokio::time::timeout(LAST_ANSWER, making).await.ok(),
    }
}

/// Whether the agent could report by itself.
async fn sees_gitlab(subject: &Subject<'_>, cluster: &Cluster, pod: &PodRef) -> Finding {
    let url = subject.runner.url.as_str();
    let options = wiring::gitlab(subject.runner, &subject.directories, subject.settings.connection_max_age);
    let ca = Client::new(options).ok().and_then(|client| client.ca_pem()).unwrap_or_default();
    let input = format!("{}\n\n", ca.trim_end());
    let command = ["sh", "-c", HELPER_COMMAND, url];
    let change = "let pods reach GitLab: cluster DNS, NetworkPolicy, proxies of the pods ([[runners]] environment); \
                  a job whose manager is gone reports by itself from there, and jobs fetch their sources and artifacts";
    match cluster.run_in(pod, trial::HELPER, &command, input.as_bytes()).await {
        Ok(said) if said.success => Finding::ok("network", format!("the pod reaches {url}: {}", said.stdout.trim())),
        Ok(said) => {
            let why = if said.stdout.trim().is_empty() { said.end } else { said.stdout.trim().to_owned() };
            Finding::error("network", format!("the pod does not reach {url}: {why}"), change)
        }
        Err(error) => {
            let found = format!("whether the pod reaches {url} could not be found out: {error}");
            Finding::warning("network", found, "try again")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn an_interrupt_takes_back_no_step_that_was_done() {
        let stop = CancellationToken::new();
        let hanging = async {
            stop.cancel();
            pending().await
        };
        let found = tried(ready(Ok(())), String::new, hanging, (Instant::now(), &stop)).await;
        let [pod, network] = found.as_slice() else { panic!("{found:?}") };
        assert!(pod.found.starts_with("a trial pod started in "), "{pod:?}");
        let interrupted = Finding::error("network", "interrupted before the trial pod had answered", "call it again");
        assert_eq!(*network, interrupted);
        let waits_for = || "(the image is pulled)".to_owned();
        let found = tried(pending(), waits_for, pending(), (Instant::now(), &stop)).await;
        assert_eq!(found[0].found, "interrupted before the trial pod had started (the image is pulled)");
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
