//! The life of one pod on the node. Like kubelet, it looks at its containers on a tick and reports
//! first, then starts what is due; while an image is pulled nothing of the pod is reported. It is
//! the only writer of the pod's status.

mod pod_faults;

use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::future::select_all;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    disk,
    record::{self, Record, Restart, State},
    start::Starting,
    status::{self, Whole},
    stop, volumes,
};
use crate::{
    cluster::Cluster,
    events::{self, Kind},
    faults::PodFault,
    kubelet_state::{PodHandle, images},
    store::{
        Verdict,
        object::{self, items},
    },
};

/// How long a pod that was removed by force, or whose time is over, may still end by itself.
const FORCED_GRACE: Duration = Duration::from_secs(1);
/// Volumes that cannot be made yet are tried again after this.
const MOUNT_RETRY: Duration = Duration::from_secs(2);
/// Projected files are written anew this often, so that tokens (which live for a little over an
/// hour) never run out.
const REFRESH: Duration = Duration::from_secs(40 * 60);

struct Worker {
    cluster: Arc<Cluster>,
    handle: Arc<PodHandle>,
    pod: Arc<Value>,
    records: Vec<Record>,
    whole: Whole,
    inbox: mpsc::Receiver<PodFault>,
    pod_fault: Option<PodFault>,
    mounted: bool,
    /// Look again at this time.
    look: Option<Instant>,
    deadline: Option<Instant>,
    refresh: Instant,
    /// When the disk is measured next; absent where the pod has no limit.
    measure: Option<Instant>,
    /// Since when containers of the pod run.
    running_since: Option<Instant>,
}

/// Runs a pod until it is gone.
pub(super) async fn run(cluster: Arc<Cluster>, handle: Arc<PodHandle>) {
    if let (Some(inbox), Some(pod)) = (handle.take_inbox(), current(&cluster, &handle)) {
        let seconds = pod["spec"]["activeDeadlineSeconds"].as_u64();
        let mut worker = Worker {
            records: Record::all(&pod),
            whole: Whole {
                started: cluster.clock.stamp(),
                host_ip: cluster.config.advertised_ip(cluster.address).to_string(),
                ..Whole::default()
            },
            inbox,
            pod_fault: None,
            mounted: false,
            look: None,
            deadline: seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
            refresh: Instant::now() + REFRESH,
            measure: disk::is_limited(&pod).then(|| Instant::now() + cluster.config.eviction_period),
            running_since: None,
            cluster: Arc::clone(&cluster),
            handle: Arc::clone(&handle),
            pod,
        };
        worker.life().await;
    }
    // Mounts in the containers are gone with them, so only the pod's own files are removed.
    if cluster.kubelet.containers.have_files()
        && let Err(error) = tokio::fs::remove_dir_all(&handle.directory).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(%error, "a pod's directory was not removed");
    }
    cluster.kubelet.forget(&handle.uid);
}

/// The pod as the API has it; `None` when it is gone.
fn current(cluster: &Cluster, handle: &PodHandle) -> Option<Arc<Value>> {
    cluster.store.get(&handle.key).filter(|pod| object::uid(pod) == handle.uid)
}

impl Worker {
    async fn life(&mut self) {
        loop {
            self.kubelet_up().await;
            let Some(pod) = current(&self.cluster, &self.handle) else {
                self.stop(FORCED_GRACE).await;
                return;
            };
            self.pod = pod;
            if object::is_terminating(&self.pod) {
                self.terminate().await;
                return;
            }
            if let Some(pod_fault) = self.pod_fault.take() {
                self.suffer(pod_fault).await;
            }
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.exceed().await;
            }
            self.measure().await;
            self.sync().await;
            self.fault();
            self.wait().await;
        }
    }

    /// One look at the pod: take notice, report, start.
    async fn sync(&mut self) {
        self.look = None;
        for record in &mut self.records {
            if record.notice() && record.restarts > 0 {
                record.retry = Some(Instant::now() + images::backoff(record.restarts));
            }
        }
        self.report();
        let policy = Restart::of(&self.pod);
        if self.whole.failed.is_some() || self.whole.stopping {
            return;
        }
        if record::finished(&self.records, policy) {
            self.finish().await;
            return;
        }
        if !self.mount() {
            return;
        }
        self.back_off();
        let (due, retry) = record::due(&self.records, policy, Instant::now());
        self.look_at(retry);
        for index in due {
            if !self.start(index).await {
                return;
            }
            self.look_at(Some(self.cluster.kubelet.next_look()));
        }
    }

    /// Waits while kubelet is away. If the node has crashed, its containers are dead.
    async fn kubelet_up(&mut self) {
        if self.cluster.faults.crashed() {
            for running in self.records.iter().filter_map(Record::running) {
                let _ = running.container.kill_all();
            }
        }
        self.cluster.faults.kubelet_up().await;
    }

    /// Side containers end when the work is done.
    async fn finish(&mut self) {
        if self.records.iter().any(|record| record.running().is_some()) {
            let grace = self.grace();
            self.stop(grace).await;
            self.look_at(Some(self.cluster.kubelet.next_look()));
        }
    }

    fn look_at(&mut self, at: Option<Instant>) {
        self.look = match (self.look, at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    fn mount(&mut self) -> bool {
        if self.mounted && Instant::now() < self.refresh {
            return true;
        }
        let made = if !self.cluster.kubelet.containers.have_files() {
            Ok(())
        } else if self.mounted {
            volumes::refresh(&self.cluster, &self.handle, &self.pod)
        } else {
            volumes::make(&self.cluster, &self.handle, &self.pod)
        };
        self.refresh = Instant::now() + REFRESH;
        match made {
            Ok(()) => {
                self.mounted = true;
                self.whole.pod_ip = Some(self.whole.host_ip.clone());
            }
            Err(why) => {
                events::record(&self.cluster, &self.pod, &events::kubelet(Kind::Warning, "FailedMount", &why));
                self.refresh = Instant::now();
                self.look_at(Some(Instant::now() + MOUNT_RETRY));
            }
        }
        self.mounted
    }

    /// What has just been reported as failed is from now on shown as waiting for its next try.
    fn back_off(&mut self) {
        let now = Instant::now();
        let handle = &self.handle;
        let mut told = Vec::new();
        for record in &mut self.records {
            let Some(retry) = record.retry.filter(|retry| *retry > now) else { continue };
            match &record.state {
                State::Waiting { reason, message } if reason == "ErrImagePull" => {
                    let image = format!("Back-off pulling image {:?}", record.image);
                    told.push(image.clone());
                    record.state = State::Waiting {
                        message: format!("{image}: {reason}: {message}"),
                        reason: "ImagePullBackOff".to_owned(),
                    };
                }
                State::Ended(ended) => {
                    let seconds = retry.saturating_duration_since(now).as_secs_f32().ceil();
                    let place = format!("{}_{}({})", handle.key.name, handle.key.namespace, handle.uid);
                    let message =
                        format!("back-off {seconds}s restarting failed container={} pod={place}", record.name);
                    told.push(format!("Back-off restarting failed container {} in pod {place}", record.name));
                    record.last = Some(ended.clone());
                    record.state = State::Waiting { reason: "CrashLoopBackOff".to_owned(), message };
                }
                _ => {}
            }
        }
        if !told.is_empty() {
            self.look_at(Some(self.cluster.kubelet.next_look()));
        }
        for message in told {
            events::record(&self.cluster, &self.pod, &events::kubelet(Kind::Warning, "BackOff", &message));
        }
    }

    /// Starts one container; `false` when something more important came up meanwhile.
    async fn start(&mut self, index: usize) -> bool {
        let Some(mut record) = self.records.get(index).cloned() else { return true };
        let (cluster, handle, pod) = (Arc::clone(&self.cluster), Arc::clone(&self.handle), Arc::clone(&self.pod));
        let starting = Starting { cluster: &cluster, handle: &handle, pod: &pod };
        let pulled = tokio::select! {
            pulled = starting.pull(&mut record) => pulled,
            () = self.interrupted() => return false,
        };
        if pulled {
            starting.run(&mut record).await;
        }
        if let Some(place) = self.records.get_mut(index) {
            *place = record;
        }
        true
    }

    /// Ready when the pod is to end: removed, being removed, past its deadline, or hit by an
    /// accident.
    async fn interrupted(&mut self) {
        loop {
            tokio::select! {
                () = self.handle.wake.notified() => {
                    if current(&self.cluster, &self.handle).is_none_or(|pod| object::is_terminating(&pod)) {
                        // The main loop must see this wake-up too.
                        self.handle.wake.notify_one();
                        return;
                    }
                }
                Some(pod_fault) = self.inbox.recv() => {
                    self.pod_fault = Some(pod_fault);
                    return;
                }
                () = until(self.deadline.filter(|_| self.whole.failed.is_none())) => return,
            }
        }
    }

    /// Waits until there is something to look at.
    async fn wait(&mut self) {
        let mut exits: Vec<watch::Receiver<_>> =
            self.records.iter().filter_map(|record| Some(record.running()?.exit.clone())).collect();
        if self.pod_fault.is_some() {
            return;
        }
        // Nobody reads the files of a pod that has ended.
        let runs = !exits.is_empty();
        loop {
            let any_exit = async {
                if exits.is_empty() {
                    pending::<()>().await;
                }
                let waits = exits.iter_mut().map(|exit| Box::pin(exit.wait_for(Option::is_some)));
                drop(select_all(waits).await);
            };
            tokio::select! {
                () = self.handle.wake.notified() => {
                    match current(&self.cluster, &self.handle) {
                        Some(pod) if !object::is_terminating(&pod) => self.pod = pod,
                        _ => return,
                    }
                    self.look_at(Some(self.cluster.kubelet.next_look()));
                }
                Some(pod_fault) = self.inbox.recv() => {
                    self.pod_fault = Some(pod_fault);
                    return;
                }
                () = any_exit => {
                    // One is enough; the others are noticed at the same look.
                    exits.clear();
                    self.look_at(Some(self.cluster.kubelet.next_look()));
                }
                () = until(self.look) => return,
                () = until(self.deadline.filter(|_| self.whole.failed.is_none())) => return,
                () = tokio::time::sleep_until(self.refresh), if self.mounted && runs => return,
                () = until(self.measure) => return,
            }
        }
    }

    fn report(&self) {
        let stamp = self.cluster.clock.stamp();
        let mut before = String::new();
        let done: Result<_, Infallible> = self.cluster.store.modify(&self.handle.key, |pod| {
            if object::uid(pod) != self.handle.uid {
                return Ok(Verdict::Keep);
            }
            object::version_text(pod).clone_into(&mut before);
            Ok(Verdict::Status(status::status(pod, &self.records, &self.whole, &stamp)))
        });
        // Only a version that this report has made: what else has changed is news.
        if let Ok(Some(pod)) = done
            && object::version_text(&pod) != before
        {
            let version = object::version_text(&pod).parse().unwrap_or(0);
            self.handle.reported.store(version, Ordering::Relaxed);
        }
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(self.pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30))
    }

    /// Stops every container and waits for their ends, at most a little longer than the grace
    /// period, which gets shorter when the API says so.
    async fn stop(&mut self, grace: Duration) {
        self.whole.stopping = true;
        let begun = Instant::now();
        let (shorten, deadline) = watch::channel(begun + grace);
        let records = self.records.clone();
        let stopped = stop::all(&self.cluster, &self.pod, &records, deadline);
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => break,
                () = self.handle.wake.notified() => {
                    let now = current(&self.cluster, &self.handle);
                    let seconds = match &now {
                        Some(pod) => pod["metadata"]["deletionGracePeriodSeconds"].as_u64(),
                        None => Some(0),
                    };
                    if let Some(seconds) = seconds {
                        let until = begun + Duration::from_secs(seconds);
                        shorten.send_if_modified(|deadline| {
                            let sooner = until < *deadline;
                            *deadline = until.min(*deadline);
                            sooner
                        });
                    }
                }
            }
        }
        for record in &mut self.records {
            record.notice();
        }
    }

    /// The pod is being removed: stop, report, and tell the API that it may go.
    async fn terminate(&mut self) {
        let seconds = self.pod["metadata"]["deletionGracePeriodSeconds"].as_u64();
        let grace = seconds.map_or_else(|| self.grace(), Duration::from_secs);
        self.stop(grace).await;
        self.cluster.faults.kubelet_up().await;
        self.report();
        let done: Result<_, Infallible> = self.cluster.store.modify(&self.handle.key, |pod| {
            if object::uid(pod) != self.handle.uid {
                return Ok(Verdict::Keep);
            }
            if items(pod, &["metadata", "finalizers"]).is_empty() {
                return Ok(Verdict::Remove);
            }
            let mut new = pod.clone();
            new["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            Ok(Verdict::Replace(new))
        });
        drop(done);
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}
