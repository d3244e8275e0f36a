//! GitLab, a cluster, one runner that most tests share, and what must be true of all of it at the
//! end.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::cluster::{Cluster, ClusterChoice};
use crate::gitlab::{GitLab, Job};
use crate::kube::Kube;
use crate::process::{Process, last_lines};
use crate::recorder::Recorder;
use crate::runner::{Runner, RunnerOptions};
use crate::until::until;
use crate::{repository, trace};

/// With it runners may register.
const REGISTRATION_TOKEN: &str = "GR1348941e2e-registration";

/// A second project, with the same content, which no job token opens; and the access token that
/// does.
const OTHER_PROJECT: &str = "group/other";
const CLONE_TOKEN: &str = "glpat-e2e-of-group-other";

/// How long the simulated GitLab may take to start.
const START: Duration = Duration::from_secs(30);

/// How long pods may take to go after the last job has ended.
const LEFTOVERS: Duration = Duration::from_secs(40);

/// How long each process may take to end when nothing runs any more.
const END: Duration = Duration::from_secs(10);

/// Jobs of the shared runner at once.
const CONCURRENT: u32 = 24;

/// What jobs run in that do not care.
pub const IMAGE: &str = "debian:12";

/// Shorter values occur by chance.
const SHORTEST_SECRET: usize = 8;

/// GitLab, a cluster, and the shared runner.
#[derive(Debug)]
pub struct World {
    /// The simulated GitLab.
    pub gitlab: GitLab,
    /// The cluster, as its administrator.
    pub kube: Kube,
    cluster: Cluster,
    namespaces: RefCell<Vec<String>>,
    binaries: Binaries,
    shared: OnceCell<Runner>,
    secrets: RefCell<Vec<String>>,
    logs: RefCell<Vec<PathBuf>>,
    /// Rules of the protocol that may be broken for a job.
    excused: RefCell<Vec<(u64, &'static str)>>,
    jobs: Cell<u64>,
    recorder: Recorder,
    gitlab_process: Process,
    dir: RefCell<Option<TempDir>>,
    path: PathBuf,
}

impl World {
    /// Starts everything, with its files in `dir`.
    ///
    /// # Errors
    /// Something does not start; the message has its output.
    pub async fn start(wanted: ClusterChoice, binaries: Binaries, dir: TempDir) -> anyhow::Result<Self> {
        let path = dir.path().to_owned();
        let repository = repository::create(&path)?;
        let cluster = Cluster::start(wanted, &path, &binaries).await?;
        let repo = format!("{}={}", repository::NAME, repository.display());
        let listen = SocketAddr::new(cluster.host, 0).to_string();
        let other = format!("{OTHER_PROJECT}={}", repository.display());
        let clone_token = format!("{CLONE_TOKEN}={OTHER_PROJECT}");
        let args = [
            ["sim", "gitlab", "--listen", &listen, "--registration-token", REGISTRATION_TOKEN],
            ["--repo", &repo, "--repo", &other, "--clone-token", &clone_token],
        ]
        .concat();
        let gitlab = Process::start(
            "sim-gitlab",
            &path,
            &binaries.gantry,
            &args.into_iter().map(str::to_owned).collect::<Vec<_>>(),
        )?;
        let line = gitlab.wait_for_line("simulated GitLab:", START).await?;
        let url = line.split_whitespace().last().context("no URL")?;
        let kube = cluster.kube.clone();
        let world = Self {
            gitlab: GitLab::new(url)?,
            recorder: Recorder::start(&kube),
            kube,
            cluster,
            namespaces: RefCell::default(),
            binaries,
            shared: OnceCell::new(),
            secrets: RefCell::default(),
            logs: RefCell::default(),
            excused: RefCell::default(),
            jobs: Cell::new(0),
            gitlab_process: gitlab,
            dir: RefCell::new(Some(dir)),
            path,
        };
        world.keep_secret(CLONE_TOKEN);
        let options = RunnerOptions { concurrent: CONCURRENT, ..RunnerOptions::new("shared") };
        let shared = Runner::start(&world, &options).await?;
        // Nobody else sets it.
        let _ = world.shared.set(shared);
        Ok(world)
    }

    /// The runner that tests share which need none of their own.
    ///
    /// # Errors
    /// The world is only half made.
    pub fn runner(&self) -> anyhow::Result<&Runner> {
        self.shared.get().context("there is no shared runner yet")
    }

    /// The cluster that the pods are in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Replaces `{run}` by what no other run has: a node keeps the images that it has pulled.
    pub fn unique(&self, text: &str) -> String {
        text.replace("{run}", &std::process::id().to_string())
    }

    /// The name of a namespace that nobody else has.
    pub fn namespace_name(&self, name: &str) -> String {
        if self.cluster.is_given() { format!("gantry-e2e-{}-{name}", std::process::id()) } else { format!("ci-{name}") }
    }

    /// The same, of one that is about to be made and goes when the world ends.
    pub fn namespace(&self, name: &str) -> String {
        let namespace = self.namespace_name(name);
        self.namespaces.borrow_mut().push(namespace.clone());
        namespace
    }

    /// Where everything writes its files.
    pub fn dir(&self) -> &Path {
        &self.path
    }

    /// What is tested.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// With it runners may register.
    pub fn registration_token(&self) -> &str {
        REGISTRATION_TOKEN
    }

    /// From now on nobody may show this text.
    pub fn keep_secret(&self, secret: &str) {
        if secret.len() >= SHORTEST_SECRET {
            self.secrets.borrow_mut().push(secret.to_owned());
        }
    }

    /// Nobody may show a secret in this file.
    pub fn keep_log(&self, path: &Path) {
        self.logs.borrow_mut().push(path.to_owned());
    }

    /// This rule may be broken for a job: its runner was killed in that moment.
    pub fn excuse(&self, job: u64, rule: &'static str) {
        self.excused.borrow_mut().push((job, rule));
    }

    fn is_excused(&self, broken: &Value) -> bool {
        let (job, rule) = (broken["job"].as_u64(), broken["rule"].as_str());
        self.excused.borrow().iter().any(|(excused, of)| job == Some(*excused) && rule == Some(*of))
    }

    /// Queues a job for a runner. Its token and its masked variables become secrets.
    ///
    /// # Errors
    /// GitLab refuses it.
    pub async fn post_job(&self, runner: &Runner, payload: &Value) -> anyhow::Result<u64> {
        let mut payload = payload.clone();
        let object = payload.as_object_mut().context("a job must be an object")?;
        object.entry("tags").or_insert_with(|| json!([runner.tag]));
        if object.get("exact") != Some(&Value::Bool(true)) {
            object.entry("image").or_insert_with(|| json!({"name": IMAGE}));
        }
        if object.get("exact") != Some(&Value::Bool(true)) && !object.contains_key("token") {
            self.jobs.set(self.jobs.get() + 1);
            let token = format!("glcbt-e2e_{:08}_{:08x}", self.jobs.get(), std::process::id());
            self.keep_secret(&token);
            object.insert("token".to_owned(), json!(token));
        }
        for variable in object.get("variables").and_then(Value::as_array).into_iter().flatten() {
            if let (Some(true), Some(value)) = (variable["masked"].as_bool(), variable["value"].as_str()) {
                self.keep_secret(value);
            }
        }
        self.gitlab.post_job(&payload).await
    }

    /// Queues a job of one script for the shared runner.
    ///
    /// # Errors
    /// GitLab refuses it.
    pub async fn script(&self, lines: &[&str]) -> anyhow::Result<u64> {
        self.post_job(self.runner()?, &script(lines)).await
    }

    /// Runs a job on the shared runner to its end; the job and the text of its log.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn run(&self, payload: &Value, bound: Duration) -> anyhow::Result<(Job, String)> {
        self.run_on(self.runner()?, payload, bound).await
    }

    /// Runs a job to its end; the job and the text of its log.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn run_on(&self, runner: &Runner, payload: &Value, bound: Duration) -> anyhow::Result<(Job, String)> {
        let id = self.post_job(runner, payload).await?;
        self.ended(id, bound).await
    }

    /// Waits for the end of a job; the job and the text of its log.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn ended(&self, id: u64, bound: Duration) -> anyhow::Result<(Job, String)> {
        let job = self.gitlab.wait_final(id, bound).await?;
        let raw = self.gitlab.raw_trace(id).await?;
        let shown = String::from_utf8_lossy(&raw);
        let secret = self.secrets.borrow().iter().find(|secret| shown.contains(secret.as_str())).cloned();
        anyhow::ensure!(secret.is_none(), "the log of job {id} shows the secret {secret:?}:\n{shown}");
        Ok((job, trace::text(&raw)))
    }

    /// Waits until no pod of a runner is left.
    ///
    /// # Errors
    /// Some are left.
    pub async fn no_pods(&self, runner: &Runner) -> anyhow::Result<()> {
        self.empty(&runner.namespace).await
    }

    async fn empty(&self, namespace: &str) -> anyhow::Result<()> {
        until(&format!("no pod in {namespace}"), LEFTOVERS, async || {
            let pods = self.kube.pods(namespace).await?;
            let names: Vec<&str> =
                pods.iter().filter_map(|pod| pod.pointer("/metadata/name").and_then(Value::as_str)).collect();
            Ok(if names.is_empty() { Ok(()) } else { Err(format!("{names:?}")) })
        })
        .await
    }

    /// The pod of a job, once there is one with a node.
    ///
    /// # Errors
    /// None comes in time.
    pub async fn pod_of(&self, runner: &Runner, job: u64, bound: Duration) -> anyhow::Result<String> {
        until(&format!("the pod of job {job}"), bound, async || {
            let pods = self.kube.pods(&runner.namespace).await?;
            let pod = pods.iter().find(|pod| is_of(pod, job) && pod.pointer("/spec/nodeName").is_some());
            let name = pod.and_then(|pod| pod.pointer("/metadata/name")?.as_str().map(str::to_owned));
            Ok(name.ok_or_else(|| format!("{} other pods", pods.len())))
        })
        .await
    }

    /// Waits until a job has no pod any more.
    ///
    /// # Errors
    /// It is still there.
    pub async fn no_pod_of(&self, runner: &Runner, job: u64) -> anyhow::Result<()> {
        until(&format!("no pod of job {job}"), LEFTOVERS, async || {
            let pods = self.kube.pods(&runner.namespace).await?;
            let left = pods.iter().filter(|pod| is_of(pod, job)).count();
            Ok(if left == 0 { Ok(()) } else { Err(format!("{left} pods")) })
        })
        .await
    }

    /// What must be true when all jobs have ended: no rule of the protocol broken, no pod left, no
    /// secret shown.
    ///
    /// # Errors
    /// It is not true.
    pub async fn is_clean(&self) -> anyhow::Result<()> {
        let mut violations = self.gitlab.violations().await?;
        violations.retain(|broken| !self.is_excused(broken));
        anyhow::ensure!(violations.is_empty(), "rules of the protocol were broken: {violations:#?}");
        let namespaces = self.namespaces.borrow().clone();
        for namespace in &namespaces {
            self.empty(namespace).await?;
        }
        // Only tests without jobs of their own, such as those of `gantry dev`, leave nothing to
        // look at.
        anyhow::ensure!(self.recorder.bytes() > 0 || self.jobs.get() == 0, "the recorder saw no pod at all");
        let secrets = self.secrets.borrow();
        let shown = self.recorder.found(secrets.iter().map(String::as_str));
        anyhow::ensure!(shown.is_empty(), "pods showed secrets: {shown:?}");
        for log in self.logs.borrow().iter() {
            let text = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
            if let Some(secret) = secrets.iter().find(|secret| text.contains(secret.as_str())) {
                anyhow::bail!("{} shows the secret {secret:?}", log.display());
            }
            anyhow::ensure!(!text.contains("panicked at"), "{}: a panic:\n{text}", log.display());
        }
        Ok(())
    }

    /// Ends everything in order: the runner, then what it talks to.
    ///
    /// # Errors
    /// Something does not end in time, or not well.
    pub async fn end(&self) -> anyhow::Result<()> {
        self.recorder.stop();
        if self.cluster.is_given() {
            for namespace in self.namespaces.take() {
                self.kube.delete_namespace(&namespace).await?;
            }
        }
        let shared = self.shared.get().map(|runner| &runner.process);
        for process in shared.into_iter().chain([&self.gitlab_process]).chain(self.cluster.process()) {
            process.signal(Signal::SIGTERM)?;
            let status = process.wait(END).await?;
            anyhow::ensure!(
                status.success(),
                "{} has ended with {status}:\n{}",
                process.name(),
                last_lines(&process.log(), 20)
            );
        }
        Ok(())
    }

    /// Keeps the files, for somebody who wants to know why a test failed.
    pub fn keep_files(&self) -> &Path {
        if let Some(dir) = self.dir.borrow_mut().take() {
            let _ = dir.keep();
        }
        &self.path
    }
}

/// Whether a pod is that of a job: it carries the job's address.
fn is_of(pod: &Value, job: u64) -> bool {
    pod.to_string().contains(&format!("/jobs/{job}\""))
}

/// A job of one script.
pub fn script(lines: &[&str]) -> Value {
    json!({"steps": [{"name": "script", "script": lines}]})
}

/// A job of a script and an `after_script`.
pub fn script_and_after(lines: &[&str], after: &[&str]) -> Value {
    json!({"steps": [{"name": "script", "script": lines}, {"name": "after_script", "script": after, "when": "always"}]})
}
