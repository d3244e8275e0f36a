//! Kubelet: runs the pods that the scheduler gave to the node. This file keeps the list of pods;
//! each pod has one worker (`worker`), and nobody else changes that pod's status.

mod console;
mod disk;
mod env;
mod hooks;
mod images;
mod logs;
pub(crate) mod node;
mod probes;
mod pull_secrets;
mod record;
mod spec;
mod start;
mod status;
mod stop;
mod volumes;
mod worker;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use crate::{
    cluster::Cluster,
    container::{Container, ContainerSpec, Programs, Runtime, StartError},
    resources,
    store::{
        Key,
        object::{self, text},
    },
};

pub(crate) use console::Console;
pub(crate) use images::matches;
pub(crate) use logs::{LogLine, previous, read_lines};
pub(crate) use status::put_condition;

/// What kubelet says when it evicts a pod because the node's disk is full.
pub(crate) const LOW_ON_DISK: &str =
    "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 1Gi. ";

/// How many accidents can wait for one pod's worker.
const ACCIDENT_QUEUE: usize = 16;

/// Something that a test makes happen to a pod.
#[derive(Debug, Clone)]
pub(crate) enum PodFault {
    /// The node runs short of something and kubelet evicts the pod.
    Evict { reason: String, message: String },
    /// The kernel kills a container's processes for want of memory; an empty name means the first
    /// container.
    OutOfMemory { container: String },
}

/// What the API server and the worker share about one pod.
#[derive(Debug)]
pub(crate) struct PodHandle {
    pub(crate) uid: String,
    pub(crate) key: Key,
    pub(crate) directory: PathBuf,
    /// Tells the worker that the object changed.
    wake: Notify,
    /// The version that came of the worker's last report, which is no news to it.
    reported: AtomicU64,
    /// Running containers by name: what `exec` can enter.
    running: Mutex<BTreeMap<String, Container>>,
    /// Their streams, for `attach`.
    consoles: Mutex<BTreeMap<String, Arc<Console>>>,
    pod_faults: mpsc::Sender<PodFault>,
    inbox: Mutex<Option<mpsc::Receiver<PodFault>>>,
}

impl PodHandle {
    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Container>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn consoles(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Console>>> {
        self.consoles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a container's log is.
    pub(crate) fn log_path(&self, container: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{container}.log"))
    }
}

/// What the node's containers are made of.
#[derive(Debug)]
pub(crate) enum Containers {
    /// Local processes, with directories as volumes and files as logs.
    Processes(Runtime),
    /// Futures of the program that embeds the cluster. There are no volumes and no logs.
    Programs(Arc<dyn Programs>),
}

impl Containers {
    /// Whether pods have files on this machine.
    pub(crate) fn have_files(&self) -> bool {
        matches!(self, Self::Processes(_))
    }

    async fn start(&self, spec: ContainerSpec) -> Result<Container, StartError> {
        match self {
            Self::Processes(runtime) => runtime.start(spec).await,
            Self::Programs(programs) => Ok(Container::of_programs(programs, spec)),
        }
    }
}

/// The node agent's shared state.
#[derive(Debug)]
pub(crate) struct Kubelet {
    containers: Containers,
    directory: PathBuf,
    started: Instant,
    period: Duration,
    pods: Mutex<BTreeMap<String, Arc<PodHandle>>>,
    images: images::Images,
}

impl Kubelet {
    /// Kubelet with what its containers are made of; pods' files go below `directory`.
    pub(crate) fn new(containers: Containers, directory: &Path, config: &crate::Config) -> Self {
        Self {
            containers,
            directory: directory.to_owned(),
            started: Instant::now(),
            period: config.sync_period.max(Duration::from_millis(1)),
            pods: Mutex::default(),
            images: images::Images::new(config),
        }
    }

    fn pods(&self) -> MutexGuard<'_, BTreeMap<String, Arc<PodHandle>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod with that uid, if it is on this node.
    pub(crate) fn pod(&self, uid: &str) -> Option<Arc<PodHandle>> {
        self.pods().get(uid).cloned()
    }

    /// A running container of a pod. It is found as soon as its process runs, whatever the pod's
    /// status says.
    pub(crate) fn container(&self, uid: &str, name: &str) -> Option<Container> {
        self.pod(uid)?.running().get(name).cloned()
    }

    /// The streams of a running container.
    pub(crate) fn console(&self, uid: &str, name: &str) -> Option<Arc<Console>> {
        self.pod(uid)?.consoles().get(name).cloned()
    }

    /// Lets every pod's worker look at its pod.
    pub(crate) fn wake_all(&self) {
        self.pods().values().for_each(|pod| pod.wake.notify_one());
    }

    /// Makes something happen to a pod; the error is a sentence for the client.
    pub(crate) async fn pod_fault(&self, uid: &str, pod_fault: PodFault) -> Result<(), String> {
        let pod = self.pod(uid).ok_or("the pod is not on the node (yet, or any more)")?;
        pod.pod_faults.send(pod_fault).await.map_err(|_| "the pod has ended".to_owned())
    }

    /// The next moment at which kubelet looks at its containers.
    fn next_look(&self) -> Instant {
        let now = Instant::now();
        let periods = now.duration_since(self.started).as_nanos() / self.period.as_nanos().max(1) + 1;
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        self.started.checked_add(self.period.saturating_mul(periods)).unwrap_or(now + self.period)
    }
}

/// Follows the pods of the node until the cluster stops.
pub(crate) async fn run(cluster: Arc<Cluster>) {
    let mut follow = cluster.store.follow();
    let stopping = cluster.tasks.stopping();
    let mut seen = 0;
    loop {
        follow.borrow_and_update();
        if let Ok((changes, upto)) = cluster.store.since(seen) {
            seen = upto;
            for change in changes.iter().filter(|change| change.plural == "pods") {
                let known = cluster.kubelet.pod(object::uid(&change.object));
                if known.is_none_or(|known| known.reported.load(Ordering::Relaxed) != change.version) {
                    take(&cluster, &change.object);
                }
            }
        } else {
            // So much happened that the history does not reach back; look at everything.
            let (pods, version) = cluster.store.list(resources::core("pods"), None);
            seen = version;
            for pod in &pods {
                take(&cluster, pod);
            }
            cluster.kubelet.wake_all();
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = follow.changed() => if changed.is_err() { return },
        }
    }
}

/// Starts a worker for a pod that is new on the node, or wakes the one it has.
fn take(cluster: &Arc<Cluster>, pod: &Value) {
    let uid = object::uid(pod);
    if let Some(known) = cluster.kubelet.pod(uid) {
        known.wake.notify_one();
        return;
    }
    let key = Key::of(resources::core("pods"), pod);
    let mine = text(pod, &["spec", "nodeName"]) == cluster.config.node_name;
    let ended = ["Succeeded", "Failed"].contains(&text(pod, &["status", "phase"]));
    // A change may be older than the pod's end, so ask for the pod as it is now.
    let exists = cluster.store.get(&key).is_some_and(|now| object::uid(&now) == uid);
    if !mine || ended || !exists {
        return;
    }
    let (pod_faults, inbox) = mpsc::channel(ACCIDENT_QUEUE);
    let handle = Arc::new(PodHandle {
        uid: uid.to_owned(),
        key,
        directory: cluster.kubelet.directory.join(uid),
        wake: Notify::new(),
        reported: AtomicU64::new(0),
        running: Mutex::default(),
        consoles: Mutex::default(),
        pod_faults,
        inbox: Mutex::new(Some(inbox)),
    });
    cluster.kubelet.pods().insert(uid.to_owned(), Arc::clone(&handle));
    cluster.tasks.spawn(worker::run(Arc::clone(cluster), handle));
}
