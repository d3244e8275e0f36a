//! Jobs as data: what is run, on what runner, what happens meanwhile, and what must come of it.
//! Nothing in a case knows about simulators, so that the same cases hold on a real cluster.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cluster::Need;
use crate::gitlab::{GitLab, Job};
use crate::runner::{Runner, RunnerOptions};
use crate::world::World;

/// How long a case may take that says nothing.
const WITHIN: f64 = 60.0;

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// A job and what must come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Unique in its file.
    pub name: String,
    /// The step `script`.
    #[serde(default)]
    script: Vec<String>,
    /// The step `after_script`.
    #[serde(default)]
    after_script: Vec<String>,
    /// Variables of the job.
    #[serde(default)]
    variables: Vec<Value>,
    /// Other keys of the payload.
    #[serde(default)]
    job: Map<String, Value>,
    /// A runner of its own with these settings; without them the shared one.
    runner: Option<OwnRunner>,
    /// What happens to the job, in this order.
    #[serde(default)]
    during: Vec<Incident>,
    /// What the cluster must have.
    needs: Option<Need>,
    expect: Expect,
}

/// Settings of a runner, each as lines of its configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OwnRunner {
    /// Of `[runners.kubernetes]`, and tables below.
    kubernetes: String,
    /// Of `[[runners]]`.
    runner: String,
    helper_image: Option<String>,
}

/// What must come of a job.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    status: String,
    /// GitLab's failure reason.
    reason: Option<String>,
    exit_code: Option<i64>,
    /// Texts in the log.
    #[serde(default)]
    contains: Vec<String>,
    /// Texts that must not be there.
    #[serde(default)]
    lacks: Vec<String>,
    /// Texts in this order.
    #[serde(default)]
    ordered: Vec<String>,
    /// Whole lines, each of them exactly once.
    #[serde(default)]
    lines: Vec<String>,
    /// Seconds from queue to end.
    within: Option<f64>,
    /// All artifacts there are.
    artifacts: Option<Vec<ExpectedArtifact>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedArtifact {
    filename: String,
    kind: String,
    format: String,
    expire_in: Option<String>,
    /// Content by name in the archive; for other formats under the name `-`.
    #[serde(default)]
    files: BTreeMap<String, String>,
}

/// Something that happens to a job once it is as far as this.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Incident {
    when: Moment,
    then: Deed,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Moment {
    /// The job has a pod with a node.
    Pod,
    /// GitLab shows this state.
    Status(String),
    /// A line of the log begins with this.
    Log(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Deed {
    /// Somebody presses the button in GitLab.
    Cancel,
    /// The same where GitLab does not wait for the runner.
    ForceCancel,
    /// Somebody deletes the pod at once.
    DeletePod,
    /// Somebody drains the node: the pod is evicted by request and has its grace period.
    Drain,
    /// The kernel ends the first process of this container for want of memory. The container needs
    /// a limit.
    OutOfMemory(String),
}

/// Makes the first process of a container the one that the kernel ends, and then asks for more
/// memory than there is: files in memory first, which count for the container and for no process in
/// it.
const TAKE_ALL_MEMORY: &str =
    "echo 1000 > /proc/1/oom_score_adj; dd if=/dev/zero of=/dev/shm/all bs=64k count=1000; exec tail /dev/zero";

impl Incident {
    async fn happen(&self, world: &World, runner: &Runner, job: u64, bound: Duration) -> anyhow::Result<()> {
        match &self.when {
            Moment::Pod => drop(world.pod_of(runner, job, bound).await?),
            Moment::Status(status) => {
                drop(world.gitlab.wait_for(job, status, bound, |job| job.status == *status).await?);
            }
            Moment::Log(text) => world.gitlab.wait_for_text(job, &format!("\n{text}"), bound).await?,
        }
        let pod = async || world.pod_of(runner, job, bound).await;
        match &self.then {
            Deed::Cancel => world.gitlab.cancel(job, false).await,
            Deed::ForceCancel => world.gitlab.cancel(job, true).await,
            Deed::DeletePod => world.kube.delete_pod(&runner.namespace, &pod().await?).await,
            Deed::Drain => {
                let pod = pod().await?;
                world.kube.until_running(&runner.namespace, &pod, bound).await?;
                world.kube.evict(&runner.namespace, &pod).await
            }
            Deed::OutOfMemory(container) => {
                world.kube.exec(&runner.namespace, &pod().await?, container, TAKE_ALL_MEMORY).await.map(drop)
            }
        }
    }
}

/// Reads the cases of a file.
///
/// # Errors
/// The file is not as it should be.
pub fn read(text: &str) -> anyhow::Result<Vec<Case>> {
    let file: File = toml::from_str(text)?;
    Ok(file.case)
}

impl OwnRunner {
    async fn start(&self, world: &World, label: &str) -> anyhow::Result<Runner> {
        let mut options = RunnerOptions::new(label);
        options.kubernetes.clone_from(&self.kubernetes);
        options.runner.clone_from(&self.runner);
        if let Some(image) = &self.helper_image {
            options.helper_image = world.unique(image);
        }
        Runner::start(world, &options).await
    }
}

impl Case {
    fn payload(&self) -> Value {
        let mut steps = vec![json!({"name": "script", "script": self.script, "when": "on_success"})];
        if !self.after_script.is_empty() {
            steps.push(
                json!({"name": "after_script", "script": self.after_script, "when": "always", "allow_failure": true}),
            );
        }
        let mut payload = Map::new();
        payload.insert("name".to_owned(), json!(self.name));
        payload.insert("steps".to_owned(), json!(steps));
        payload.insert("variables".to_owned(), json!(self.variables));
        payload.extend(self.job.clone());
        Value::Object(payload)
    }

    /// What the cluster must have for it.
    pub fn needs(&self) -> Option<Need> {
        self.needs
    }

    /// Runs it and compares. `label` is unique among all cases of a run.
    ///
    /// # Errors
    /// Something else came of it; the message has the log.
    pub async fn check(&self, world: &World, label: &str) -> anyhow::Result<()> {
        let own = match &self.runner {
            Some(settings) => Some(settings.start(world, label).await?),
            None => None,
        };
        let runner = own.as_ref().map_or_else(|| world.runner(), Ok)?;
        let within = Duration::from_secs_f64(self.expect.within.unwrap_or(WITHIN));
        let payload = serde_json::from_str(&world.unique(&self.payload().to_string()))?;
        let id = world.post_job(runner, &payload).await?;
        for incident in &self.during {
            incident.happen(world, runner, id, within).await.with_context(|| format!("{incident:?}"))?;
        }
        let (job, log) = world.ended(id, within).await?;
        self.compare(&job, &log).with_context(|| format!("{job:?}\n{log}\n"))?;
        if let Some(expected) = &self.expect.artifacts {
            compare_artifacts(&world.gitlab, job.id, expected).await.with_context(|| format!("{job:?}\n{log}\n"))?;
        }
        world.no_pod_of(runner, id).await
    }

    fn compare(&self, job: &Job, log: &str) -> anyhow::Result<()> {
        let expect = &self.expect;
        ensure!(job.status == expect.status, "status {}, not {}", job.status, expect.status);
        if let Some(reason) = &expect.reason {
            ensure!(job.failure_reason.as_ref() == Some(reason), "reason {:?}, not {reason}", job.failure_reason);
        }
        if let Some(code) = expect.exit_code {
            ensure!(job.exit_code == Some(code), "exit code {:?}, not {code}", job.exit_code);
        }
        compare_log(expect, log)?;
        let last = log.trim_end().lines().last().unwrap_or_default();
        match expect.status.as_str() {
            "success" => ensure!(last == "Job succeeded", "the last line is {last:?}"),
            "failed" => ensure!(last.starts_with("ERROR: Job failed"), "the last line is {last:?}"),
            _ => {}
        }
        Ok(())
    }
}

fn compare_log(expect: &Expect, log: &str) -> anyhow::Result<()> {
    for text in &expect.contains {
        ensure!(log.contains(text.as_str()), "the log lacks {text:?}");
    }
    for text in &expect.lacks {
        ensure!(!log.contains(text.as_str()), "the log has {text:?}");
    }
    for line in &expect.lines {
        let count = log.lines().filter(|other| other == line).count();
        ensure!(count == 1, "the log has the line {line:?} {count} times");
    }
    let mut rest = log;
    for text in &expect.ordered {
        let Some(at) = rest.find(text.as_str()) else { anyhow::bail!("the log lacks {text:?} in this place") };
        rest = &rest[at + text.len()..];
    }
    Ok(())
}

async fn compare_artifacts(gitlab: &GitLab, job: u64, expected: &[ExpectedArtifact]) -> anyhow::Result<()> {
    let artifacts = gitlab.artifacts(job).await?;
    ensure!(artifacts.len() == expected.len(), "artifacts {artifacts:?}");
    for wanted in expected {
        let found = artifacts.iter().find(|artifact| artifact.kind == wanted.kind);
        let found = found.with_context(|| format!("no artifact of type {}: {artifacts:?}", wanted.kind))?;
        let is_right = found.filename == wanted.filename && found.format == wanted.format;
        ensure!(
            is_right
                && found.expire_in.as_deref().unwrap_or_default() == wanted.expire_in.as_deref().unwrap_or_default(),
            "{found:?}"
        );
        let bytes = gitlab.artifact(job, &found.filename).await?;
        let files = contents(&found.format, &bytes)?;
        ensure!(files == wanted.files, "the artifact holds {files:?}");
    }
    Ok(())
}

/// The files in an artifact. Directories count only through their files.
///
/// # Errors
/// It is not of that format.
pub fn contents(format: &str, bytes: &[u8]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    match format {
        "zip" => {
            let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes))?;
            for index in 0..archive.len() {
                let mut entry = archive.by_index(index)?;
                if entry.is_dir() {
                    continue;
                }
                let name = entry.name()?.into_owned();
                let mut text = String::new();
                entry.read_to_string(&mut text)?;
                files.insert(name, text);
            }
        }
        "gzip" => {
            let mut text = String::new();
            flate2::read::MultiGzDecoder::new(bytes).read_to_string(&mut text)?;
            files.insert("-".to_owned(), text);
        }
        _ => drop(files.insert("-".to_owned(), String::from_utf8_lossy(bytes).into_owned())),
    }
    Ok(files)
}
