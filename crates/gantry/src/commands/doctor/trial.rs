//! The pod of a job that only says hello: planned as any other, and with `--pod` made, reached,
//! asked whether it sees GitLab, and removed.

use std::time::Duration;

use gantry_core::error_chain::chain;
use gantry_core::job::JobSpec;
use gantry_daemon::wiring;
use gantry_gitlab::Client;
use gantry_kube::{AttachRequest, HelperBinaries, PodRef, Purpose, facts};
use gantry_plan::{JobPlan, LABEL_MANAGED};
use serde_json::json;
use tokio::time::Instant;

use super::Patient;
use super::finding::Finding;

/// A cluster that would take a trial pod.
pub(super) struct Trialable {
    pub(super) cluster: gantry_kube::Cluster,
    pub(super) driver: gantry_kube::Driver,
}

/// Where a helper is in its container, in the order in which it is looked for: pushed, or of the
/// image.
const HELPER_COMMAND: &str =
    "h=/gantry-agent/gantry-helper; [ -x \"$h\" ] || h=gantry-helper; exec \"$h\" reach \"$0\"";

/// Containers of the pod whose start is waited for.
const CONTAINERS: [&str; 2] = ["helper", "build"];

/// How long the removal of the pod may take before it is said to be left behind.
const REMOVAL: Duration = Duration::from_secs(30);

/// Plans the trial pod.
pub(super) fn plan(patient: &Patient<'_>, image: Option<&str>) -> Result<JobPlan, String> {
    let runner = patient.runner;
    let context = wiring::context(&patient.system_id, &wiring::hostname(), &wiring::alone(patient.settings));
    let context = gantry_plan::Context { suffix: suffix(), ..context };
    let named = image.map(str::to_owned).or_else(|| runner.kubernetes.image.clone().filter(|image| !image.is_empty()));
    if let Some(image) = named {
        return planned(patient, &context, &image);
    }
    // Jobs bring their own image. Whatever the helper has will do for the build container: it needs
    // no more than a shell.
    let first = planned(patient, &context, "helper")?;
    let spec = first.pod.spec.as_ref();
    let helper = spec.and_then(|spec| spec.containers.iter().find(|container| container.name == CONTAINERS[0]));
    let helper = helper.and_then(|container| container.image.clone()).unwrap_or_default();
    planned(patient, &context, &helper)
}

fn planned(patient: &Patient<'_>, context: &gantry_plan::Context, image: &str) -> Result<JobPlan, String> {
    let mut settings = patient.runner.clone();
    // The list is for jobs, and this image may be the operator's own choice.
    settings.kubernetes.allowed_images.clear();
    let mut plan = gantry_plan::plan(&job(&settings.url, image)?, &settings, context, &gantry_plan::Links::default())
        .map_err(|error| chain(&error))?;
    let labels = plan.pod.metadata.labels.get_or_insert_default();
    // Not the daemon's: it would adopt or remove it.
    labels.retain(|name, _| name != LABEL_MANAGED);
    labels.insert("gantry.dev/doctor".to_owned(), "true".to_owned());
    Ok(plan)
}

/// A job without sources and with nothing to do.
pub(in crate::commands) fn job(url: &str, image: &str) -> Result<JobSpec, String> {
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

/// Letters that tell this pod from others.
fn suffix() -> String {
    let bits = gantry_core::chance::bits();
    format!("{:08x}", bits & 0xffff_ffff)
}

/// Makes the pod, looks, and removes it.
pub(super) async fn examine(
    patient: &Patient<'_>,
    trialable: Trialable,
    helper: &HelperBinaries,
    image: Option<&str>,
) -> Vec<Finding> {
    let plan = match plan(patient, image) {
        Ok(plan) => plan,
        Err(why) => return vec![Finding::error("pod", why, "change the setting or the --image that it names")],
    };
    let Trialable { cluster, driver } = trialable;
    let looking = look(patient, &cluster, &plan, helper);
    tokio::select! {
        findings = looking => findings,
        () = driver => vec![Finding::error("pod", "the watch of pods has ended", "try again")],
    }
}

async fn look(
    patient: &Patient<'_>,
    cluster: &gantry_kube::Cluster,
    plan: &JobPlan,
    helper: &HelperBinaries,
) -> Vec<Finding> {
    let begun = Instant::now();
    let deadline = begun + plan.start_timeout;
    let pod = match cluster.create_pod(&plan.pod, deadline, |_| {}).await {
        Ok(pod) => pod,
        Err(error) => return vec![Finding::error("pod", chain(&error), "what the message says")],
    };
    let mut findings = Vec::new();
    match started(cluster, &pod, helper, deadline).await {
        Ok(()) => {
            let seconds = begun.elapsed().as_secs_f64();
            let found = format!("a trial pod started in {seconds:.1} s: images are there, the helper runs");
            findings.push(Finding::ok("pod", found));
            findings.push(sees_gitlab(patient, cluster, &pod).await);
        }
        Err(why) => {
            let change = "what the message says; the images are `image` and helper_image, the time poll_timeout and prepare_timeout";
            findings.push(Finding::error("pod", format!("a trial pod does not start: {why}"), change));
        }
    }
    findings.extend(removed(cluster, &pod).await);
    findings
}

async fn started(
    cluster: &gantry_kube::Cluster,
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
    let waiting = status.until(|pod_state| pod_state.facts().is_some_and(all_started).then_some(()));
    if tokio::time::timeout_at(deadline, waiting).await == Ok(Some(())) {
        return Ok(());
    }
    let reasons = status.current().facts().map(facts::pending_reasons).unwrap_or_default();
    Err(format!("the build container has not started in time {}", reasons.join("; ")))
}

/// Whether the agent could report by itself.
async fn sees_gitlab(patient: &Patient<'_>, cluster: &gantry_kube::Cluster, pod: &PodRef) -> Finding {
    let url = patient.runner.url.as_str();
    let options = wiring::gitlab(patient.runner, &patient.directories, patient.settings.connection_max_age);
    let ca = Client::new(options).ok().and_then(|client| client.ca_pem()).unwrap_or_default();
    let input = format!("{}\n\n", ca.trim_end());
    let command = ["sh", "-c", HELPER_COMMAND, url];
    let change = "let pods reach GitLab: cluster DNS, NetworkPolicy, proxies of the pods ([[runners]] environment); \
                  a job whose manager is gone reports by itself from there, and jobs fetch their sources and artifacts";
    match cluster.run_in(pod, CONTAINERS[0], &command, input.as_bytes()).await {
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

async fn removed(cluster: &gantry_kube::Cluster, pod: &PodRef) -> Option<Finding> {
    let removing = cluster.delete_pod(pod, Some(0));
    let why = match tokio::time::timeout(REMOVAL, removing).await {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => chain(&error),
        Err(_) => format!("it is still there after {} s", REMOVAL.as_secs()),
    };
    let change = format!("kubectl delete pod -n {} {}", cluster.namespace(), pod.name);
    Some(Finding::warning("pod", format!("the trial pod could not be removed: {why}"), change))
}
