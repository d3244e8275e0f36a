//! What kubelet, the API server and the workers of pods share: which pods the node has, their
//! running containers and streams, and the images that are there. It keeps this and decides
//! nothing: that is `kubelet`, which needs the whole cluster.

mod console;
pub(crate) mod images;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use crate::{
    config::Config,
    container::{Container, ContainerSpec, Programs, Runtime, StartError},
    faults::PodFault,
    store::Key,
};

pub(crate) use console::{Attachment, Console, Taps};
use images::Images;

/// How many accidents can wait for one pod's worker.
const ACCIDENT_QUEUE: usize = 16;

/// What the API server and the worker share about one pod.
#[derive(Debug)]
pub(crate) struct PodHandle {
    pub(crate) uid: String,
    pub(crate) key: Key,
    pub(crate) directory: PathBuf,
    /// Tells the worker that the object changed.
    pub(crate) wake: Notify,
    /// The version that came of the worker's last report, which is no news to it.
    pub(crate) reported: AtomicU64,
    /// Running containers by name: what `exec` can enter.
    running: Mutex<BTreeMap<String, Container>>,
    /// Their streams, for `attach`.
    consoles: Mutex<BTreeMap<String, Arc<Console>>>,
    pod_faults: mpsc::Sender<PodFault>,
    inbox: Mutex<Option<mpsc::Receiver<PodFault>>>,
}

impl PodHandle {
    fn new(uid: &str, key: Key, directory: PathBuf) -> Self {
        let (pod_faults, inbox) = mpsc::channel(ACCIDENT_QUEUE);
        Self {
            uid: uid.to_owned(),
            key,
            directory,
            wake: Notify::new(),
            reported: AtomicU64::new(0),
            running: Mutex::default(),
            consoles: Mutex::default(),
            pod_faults,
            inbox: Mutex::new(Some(inbox)),
        }
    }

    /// What is to happen to the pod: for its worker, and so for the first who asks.
    pub(crate) fn take_inbox(&self) -> Option<mpsc::Receiver<PodFault>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn running(&self) -> MutexGuard<'_, BTreeMap<String, Container>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn consoles(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Console>>> {
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

    /// Starts a container.
    pub(crate) async fn start(&self, spec: ContainerSpec) -> Result<Container, StartError> {
        match self {
            Self::Processes(runtime) => runtime.start(spec).await,
            Self::Programs(programs) => Ok(Container::of_programs(programs, spec)),
        }
    }
}

/// The node agent's shared state.
#[derive(Debug)]
pub(crate) struct Kubelet {
    pub(crate) containers: Containers,
    directory: PathBuf,
    started: Instant,
    period: Duration,
    pods: Mutex<BTreeMap<String, Arc<PodHandle>>>,
    pub(crate) images: Images,
}

impl Kubelet {
    /// Kubelet with what its containers are made of; pods' files go below `directory`.
    pub(crate) fn new(containers: Containers, directory: &Path, config: &Config) -> Self {
        Self {
            containers,
            directory: directory.to_owned(),
            started: Instant::now(),
            period: config.sync_period.max(Duration::from_millis(1)),
            pods: Mutex::default(),
            images: Images::new(config),
        }
    }

    fn pods(&self) -> MutexGuard<'_, BTreeMap<String, Arc<PodHandle>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod with that uid, if it is on this node.
    pub(crate) fn pod(&self, uid: &str) -> Option<Arc<PodHandle>> {
        self.pods().get(uid).cloned()
    }

    /// Takes a pod onto the node, for somebody who looks after it from now on.
    pub(crate) fn admit(&self, uid: &str, key: Key) -> Arc<PodHandle> {
        let handle = Arc::new(PodHandle::new(uid, key, self.directory.join(uid)));
        self.pods().insert(uid.to_owned(), Arc::clone(&handle));
        handle
    }

    /// Forgets a pod that is over.
    pub(crate) fn forget(&self, uid: &str) {
        self.pods().remove(uid);
    }

    /// Whether that version of a pod on the node is news: not what came of its worker's own report.
    pub(crate) fn is_news(&self, uid: &str, version: u64) -> bool {
        self.pod(uid).is_none_or(|known| known.reported.load(Ordering::Relaxed) != version)
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
    pub(crate) fn next_look(&self) -> Instant {
        let now = Instant::now();
        let periods = now.duration_since(self.started).as_nanos() / self.period.as_nanos().max(1) + 1;
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        self.started.checked_add(self.period.saturating_mul(periods)).unwrap_or(now + self.period)
    }
}
