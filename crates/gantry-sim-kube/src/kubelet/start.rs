//! Getting one container to run: image, specification, runtime, log, hook, probes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use super::{
    hooks,
    logs::Log,
    probes, pull_secrets,
    record::{Ended, Record, Role, Running, State},
    spec,
};
use crate::{
    cluster::Cluster,
    container::{Container, ExitStatus, StartError},
    events::{self, Kind},
    faults::PullError,
    ids,
    image_store::{Found, ImageError, ImageStore},
    kubelet_state::{
        Console, PodHandle,
        images::{self, Pull},
    },
    store::object::text,
};

/// After this a container whose specification could not be completed is tried again.
const CONFIG_RETRY: Duration = Duration::from_secs(5);
/// A post-start hook that does not end would hold the whole pod; kubelet would wait for ever, a
/// simulator need not.
const HOOK_LIMIT: Duration = Duration::from_secs(600);
/// The processes are gone, so their pipes end; if one was passed to somebody else, do not wait for
/// that.
const LOG_LIMIT: Duration = Duration::from_secs(5);
/// Longest termination message, as in kubelet.
const MAX_MESSAGE: usize = 4_096;
/// Longest and most lines of a message made from the log.
const MAX_LOG_MESSAGE: usize = 2_048;
/// The start of a container that never started.
const NEVER: &str = "1970-01-01T00:00:00Z";

/// A container to start.
pub(crate) struct Starting<'s> {
    pub(crate) cluster: &'s Arc<Cluster>,
    pub(crate) handle: &'s Arc<PodHandle>,
    pub(crate) pod: &'s Arc<Value>,
}

impl Starting<'_> {
    fn tell(&self, kind: Kind, reason: &str, message: &str, container: &str) {
        let mut telling = events::kubelet(kind, reason, message);
        telling.field = spec::field_path(self.pod, container);
        events::record(self.cluster, self.pod, &telling);
    }

    /// Gets the image. `false` when it cannot be had now; the record then says why.
    pub(crate) async fn pull(&self, record: &mut Record) -> bool {
        let policy = spec::find(self.pod, &record.name).map_or("", |container| text(container, &["imagePullPolicy"]));
        let image = record.image.clone();
        let pull = self.pull_outcome(&image, policy, &record.name).await;
        let name = record.name.clone();
        match pull {
            Pull::Present => {
                let message = format!("Container image {image:?} already present on machine");
                self.tell(Kind::Normal, "Pulled", &message, &name);
            }
            Pull::Takes(time) => {
                self.tell(Kind::Normal, "Pulling", &format!("Pulling image {image:?}"), &name);
                tokio::time::sleep(time).await;
                self.pulled(&image, time, &name);
            }
            Pull::Took(time) => self.pulled(&image, time, &name),
            Pull::Fails { reason, message, after } => {
                if reason == "ErrImagePull" {
                    self.tell(Kind::Normal, "Pulling", &format!("Pulling image {image:?}"), &name);
                    tokio::time::sleep(after).await;
                    let told = format!("Failed to pull image {image:?}: {message}");
                    self.tell(Kind::Warning, "Failed", &told, &name);
                }
                self.tell(Kind::Warning, "Failed", &format!("Error: {reason}"), &name);
                record.pull_failures += 1;
                record.retry = Some(Instant::now() + images::backoff(record.pull_failures));
                record.state = State::Waiting { reason, message };
                return false;
            }
        }
        record.pull_failures = 0;
        true
    }

    /// What getting the image takes, faults included; waits while a fault makes the pull slow.
    async fn pull_outcome(&self, image: &str, policy: &str, name: &str) -> Pull {
        let faults = &self.cluster.faults;
        let mut slow = false;
        let begun = Instant::now();
        if policy != "Never" {
            slow = faults.is_slow(image);
            if slow {
                self.tell(Kind::Normal, "Pulling", &format!("Pulling image {image:?}"), name);
                faults.slow_pull(image).await;
            }
            if let Some(PullError { reason, message }) = faults.pull_error(image) {
                let (usual_reason, usual) = images::not_found(image);
                let reason = reason.unwrap_or_else(|| usual_reason.to_owned());
                return Pull::Fails { reason, message: message.unwrap_or(usual), after: Duration::ZERO };
            }
        }
        let secrets = pull_secrets::find(self.cluster, self.pod, image);
        if !secrets.missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                secrets.missing.join(", ")
            );
            events::record(
                self.cluster,
                self.pod,
                &events::kubelet(Kind::Warning, "FailedToRetrieveImagePullSecret", &message),
            );
        }
        let outcome = self.cluster.kubelet.images.look_up(image, policy, &secrets.logins);
        match (outcome, self.cluster.kubelet.images.store()) {
            (Pull::Present, Some(store)) => self.unpack(&**store, image, policy, name).await,
            (Pull::Present, None) if slow => Pull::Took(begun.elapsed()),
            (outcome, _) => outcome,
        }
    }

    /// Gets an image that has files of its own.
    async fn unpack(&self, store: &dyn ImageStore, image: &str, policy: &str, name: &str) -> Pull {
        let images = &self.cluster.kubelet.images;
        let fails =
            |ImageError(message)| Pull::Fails { reason: "ErrImagePull".to_owned(), message, after: Duration::ZERO };
        match store.find(image).await {
            Err(error) => fails(error),
            Ok(Found::HostTools) => Pull::Present,
            Ok(Found::Image(found)) if policy != "Always" => {
                images.keep(image, found);
                Pull::Present
            }
            Ok(_) if policy == "Never" => images::never_pulled(image),
            Ok(_) => {
                self.tell(Kind::Normal, "Pulling", &format!("Pulling image {image:?}"), name);
                let begun = Instant::now();
                match store.pull(image).await {
                    Err(error) => fails(error),
                    Ok(pulled) => {
                        images.keep(image, pulled);
                        Pull::Took(begun.elapsed())
                    }
                }
            }
        }
    }

    fn pulled(&self, image: &str, time: Duration, name: &str) {
        self.cluster.kubelet.images.pulled(image);
        let message = format!(
            "Successfully pulled image {image:?} in {time:?} ({time:?} including waiting). Image size: 1 bytes."
        );
        self.tell(Kind::Normal, "Pulled", &message, name);
    }

    /// Starts the container, whose image is there.
    pub(crate) async fn run(&self, record: &mut Record) {
        let Some(container) = spec::find(self.pod, &record.name) else { return };
        record.retry = None;
        record.oom = Arc::default();
        let made = match spec::container(self.cluster, self.handle, self.pod, container) {
            Ok(made) => made,
            Err(message) => {
                self.tell(Kind::Warning, "Failed", &format!("Error: {message}"), &record.name);
                record.retry = Some(Instant::now() + CONFIG_RETRY);
                record.state = State::Waiting { reason: "CreateContainerConfigError".to_owned(), message };
                return;
            }
        };
        if let State::Ended(ended) = &record.state {
            record.last = Some(ended.clone());
        }
        if record.last.is_some() {
            record.restarts += 1;
        }
        let id = ids::container_id();
        self.tell(Kind::Normal, "Created", &format!("Created container: {}", record.name), &record.name);
        match self.cluster.kubelet.containers.start(made).await {
            Ok(started) => {
                self.tell(Kind::Normal, "Started", &format!("Started container {}", record.name), &record.name);
                self.started(record, started, id, container).await;
            }
            Err(error) => self.not_started(record, id, &error),
        }
    }

    fn not_started(&self, record: &mut Record, id: String, error: &StartError) {
        let message = format!(
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create \
             failed: unable to start container process: error during container init: {error}"
        );
        self.tell(Kind::Warning, "Failed", &format!("Error: {message}"), &record.name);
        if error.is_users_fault() {
            record.state = State::Ended(Ended {
                id,
                code: error.exit_code(),
                reason: "StartError".to_owned(),
                message,
                started: NEVER.to_owned(),
                finished: self.cluster.clock.stamp(),
            });
        } else {
            tracing::warn!(
                container = record.name,
                error = error as &dyn std::error::Error,
                "cannot start a container"
            );
            record.retry = Some(Instant::now() + CONFIG_RETRY);
            record.state = State::Waiting { reason: "CreateContainerError".to_owned(), message };
        }
    }

    async fn started(&self, record: &mut Record, container: Container, id: String, spec: &Value) {
        let (exited, exit) = watch::channel(None);
        let running = Running {
            container: container.clone(),
            id: id.clone(),
            started: self.cluster.clock.stamp(),
            exit,
            ready: Arc::new(AtomicBool::new(!probes::has(spec, "readinessProbe"))),
            started_up: Arc::new(AtomicBool::new(!probes::has(spec, "startupProbe"))),
        };
        let flag = |field: &str| spec[field] == Value::Bool(true);
        let console = Arc::new(Console::new(container.clone(), (flag("stdinOnce"), flag("tty"))));
        self.handle.running().insert(record.name.clone(), container.clone());
        self.handle.consoles().insert(record.name.clone(), Arc::clone(&console));
        let monitor = Monitor {
            cluster: Arc::clone(self.cluster),
            handle: Arc::clone(self.handle),
            name: record.name.clone(),
            id,
            started: running.started.clone(),
            from_log: text(spec, &["terminationMessagePolicy"]) == "FallbackToLogsOnError",
            oom: Arc::clone(&record.oom),
        };
        self.cluster.tasks.spawn(monitor.run(console, exited));
        record.state = State::Running(running.clone());
        if let Some(action) = spec.pointer("/lifecycle/postStart") {
            let host = self.cluster.config.advertised_ip(self.cluster.address);
            if let Err(why) = hooks::perform(&running.container, spec, action, host, HOOK_LIMIT).await {
                let message = format!("PostStartHook failed: {why}");
                self.tell(Kind::Warning, "FailedPostStartHook", &message, &record.name);
                let _ = running.container.kill_all();
            }
        }
        let probed = ["startupProbe", "readinessProbe", "livenessProbe"].iter().any(|probe| probes::has(spec, probe));
        if probed && record.role != Role::Init {
            let cluster = Arc::clone(self.cluster);
            let handle = Arc::clone(self.handle);
            self.cluster.tasks.spawn(probes::run(cluster, handle, Arc::clone(self.pod), (running, spec.clone())));
        }
    }
}

/// Follows one run of a container to its end.
struct Monitor {
    cluster: Arc<Cluster>,
    handle: Arc<PodHandle>,
    name: String,
    id: String,
    started: String,
    from_log: bool,
    oom: Arc<AtomicBool>,
}

impl Monitor {
    async fn run(self, console: Arc<Console>, exited: watch::Sender<Option<Ended>>) {
        let container = &console.container;
        let path = self.handle.log_path(&self.name);
        let output = container.take_output();
        let pumps = async {
            let Some((stdout, stderr)) = output else { return };
            let log = match Log::create(path, self.cluster.clock).await {
                Ok(log) => log,
                Err(error) => {
                    tracing::warn!(%error, container = self.name, "cannot keep the container's log");
                    return;
                }
            };
            let errors = async {
                if let Some(stderr) = stderr {
                    Arc::clone(&log).pump("stderr", stderr, &console.stderr).await;
                }
            };
            tokio::join!(Arc::clone(&log).pump("stdout", stdout, &console.stdout), errors);
        };
        tokio::pin!(pumps);
        let status = tokio::select! {
            status = container.wait() => {
                let _ = tokio::time::timeout(LOG_LIMIT, &mut pumps).await;
                status
            }
            () = &mut pumps => container.wait().await,
        };
        console.close();
        self.handle.running().remove(&self.name);
        self.handle.consoles().remove(&self.name);
        exited.send_replace(Some(self.ended(status).await));
    }

    async fn ended(&self, status: ExitStatus) -> Ended {
        // Container runtimes say so when any process was killed for want of memory, however the
        // container ended.
        let oom = status.oom_kills > 0 || status.oom_killed || self.oom.load(Ordering::Relaxed);
        let reason = match status.code {
            _ if oom => "OOMKilled",
            0 => "Completed",
            _ => "Error",
        };
        Ended {
            id: self.id.clone(),
            code: status.code,
            reason: reason.to_owned(),
            message: self.message(status.code).await,
            started: self.started.clone(),
            finished: self.cluster.clock.stamp(),
        }
    }

    /// What the container left as its last words.
    async fn message(&self, code: i32) -> String {
        if !self.cluster.kubelet.containers.have_files() {
            return String::new();
        }
        let written = tokio::fs::read(spec::message_path(&self.handle, &self.name)).await.unwrap_or_default();
        if !written.is_empty() {
            let start = written.len().saturating_sub(MAX_MESSAGE);
            return String::from_utf8_lossy(&written[start..]).into_owned();
        }
        if code == 0 || !self.from_log {
            return String::new();
        }
        let path = self.handle.log_path(&self.name);
        let Ok((lines, _)) = super::read_lines(&path, 0).await else { return String::new() };
        let mut text = Vec::new();
        for line in lines {
            text.extend_from_slice(&line.text);
            if line.whole {
                text.push(b'\n');
            }
        }
        let start = text.len().saturating_sub(MAX_LOG_MESSAGE);
        String::from_utf8_lossy(&text[start..]).into_owned()
    }
}
