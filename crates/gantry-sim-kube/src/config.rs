//! What can be chosen about a simulated cluster. Only values: nothing here opens, reads or writes
//! anything.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::{container::ToolView, image_store::ImageStore};

/// How often kubelet looks at its containers and tells the API server what changed, unless
/// configured: real kubelets list their containers once a second.
pub const DEFAULT_SYNC_PERIOD: Duration = Duration::from_secs(1);

/// What the single node offers to pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocatable {
    /// Processor time in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Ephemeral storage in bytes.
    pub ephemeral_storage_bytes: u64,
    /// How many pods fit at once.
    pub pods: u64,
}

impl Default for Allocatable {
    fn default() -> Self {
        Self { cpu_millis: 16_000, memory_bytes: 64 << 30, ephemeral_storage_bytes: 256 << 30, pods: 1_000 }
    }
}

/// How many changes a watch can look back, unless configured.
const DEFAULT_WATCH_HISTORY: usize = 8_192;

/// How often kubelet looks at what pods have written to the node's disk, unless configured: the
/// eviction manager of real kubelets looks every ten seconds.
pub const DEFAULT_EVICTION_PERIOD: Duration = Duration::from_secs(10);

/// A sub-protocol of remote commands (`pods/exec`, `pods/attach`) over WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteProtocol {
    /// `v4.channel.k8s.io`: the final status is a JSON object. Standard input cannot be closed
    /// alone.
    V4,
    /// `v5.channel.k8s.io`, from Kubernetes 1.30 on: channels can be closed.
    V5,
}

impl RemoteProtocol {
    /// Its name in `Sec-WebSocket-Protocol`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4.channel.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
        }
    }
}

/// The tools of a user of this machine, for containers that shall not be hermetic.
#[derive(Clone, Default)]
pub struct HostTools {
    /// Variables that containers have unless their pod says otherwise, such as `PATH`.
    pub env: Vec<(String, String)>,
    /// What they see of the host.
    pub view: ToolView,
    /// Names of containers that get nothing of all this, and what their images have instead.
    pub except: Vec<(String, ImageTools)>,
    /// Names of the containers that fail without their program. All others wait where this machine
    /// lacks it, as they do without a command: it would be in their image. `None`: all fail.
    pub need_programs: Option<Vec<String>>,
}

/// What an image has beside the tools of the system.
#[derive(Clone, Default)]
pub struct ImageTools {
    /// Its variables, such as `PATH`.
    pub env: Vec<(String, String)>,
    /// What it has of the host.
    pub view: ToolView,
}

impl std::fmt::Debug for HostTools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        let mut shown = f.debug_struct("HostTools");
        let except: Vec<&str> = self.except.iter().map(|(name, _)| name.as_str()).collect();
        shown.field("env", &names).field("view", &self.view).field("except", &except);
        shown.field("need_programs", &self.need_programs).finish()
    }
}

impl HostTools {
    /// What a container of this name gets: variables, and what it sees.
    pub(crate) fn of(&self, container: &str) -> (&[(String, String)], &ToolView) {
        match self.except.iter().find(|(name, _)| name == container) {
            Some((_, image)) => (&image.env, &image.view),
            None => (&self.env, &self.view),
        }
    }

    /// Whether a container of this name waits where its program is missing.
    pub(crate) fn may_wait(&self, container: &str) -> bool {
        self.need_programs.as_ref().is_some_and(|names| !names.iter().any(|name| name == container))
    }
}

/// User and password that a registry is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Who asks.
    pub user: String,
    /// What only that user knows.
    pub password: String,
}

/// Images that are had with a login only.
#[derive(Debug, Clone)]
pub struct PrivateImage {
    /// Of their names; `*` matches anything.
    pub pattern: String,
    /// What their registry wants.
    pub login: Login,
}

/// Everything that can be chosen about a simulated cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the API server listens (TLS). Port 0 picks a free one.
    pub listen: SocketAddr,
    /// More names or addresses for the server's certificate.
    pub extra_sans: Vec<String>,
    /// Where to write a kubeconfig of the administrator (mode 0600). `None`: nowhere.
    pub kubeconfig: Option<PathBuf>,
    /// Where pods' volumes and logs are kept. `None`: a temporary directory, removed at the end.
    pub state_dir: Option<PathBuf>,
    /// How long the pull of an image takes: pattern (`*` matches anything) and duration; the first
    /// match counts.
    pub pull_delays: Vec<(String, Duration)>,
    /// Patterns of images whose pull fails.
    pub missing_images: Vec<String>,
    /// Images whose registry wants to know who asks.
    pub private_images: Vec<PrivateImage>,
    /// The program that becomes a container's first process (see the `container` module).
    pub launcher: PathBuf,
    /// A user's own tools for containers. `None`: they have those of the system only, as tests need
    /// it.
    pub host_tools: Option<HostTools>,
    /// What gets images with files of their own. `None`: all images stand for the host's tools.
    pub image_store: Option<Arc<dyn ImageStore>>,
    /// Name of the only node.
    pub node_name: String,
    /// The address pods and the node show. `None`: the listening address, or loopback when that is
    /// unspecified.
    pub node_ip: Option<IpAddr>,
    /// What the node offers.
    pub allocatable: Allocatable,
    /// How often container states reach the API. Real kubelets: one second.
    pub sync_period: Duration,
    /// Ask for `create` on `pods/exec` for WebSocket upgrades too (Kubernetes 1.35 and newer), not
    /// only for `get`.
    pub exec_needs_create: bool,
    /// Answer an exec into a container that does not run with `101` and the error on channel 3, as
    /// API servers from 1.30 on do for the v5 sub-protocol, instead of with a plain 500.
    pub exec_errors_after_upgrade: bool,
    /// The sub-protocols that remote commands can use. Servers before 1.30 have only v4.
    pub remote_protocols: Vec<RemoteProtocol>,
    /// How often kubelet compares what pods have written with their limits. Real kubelets: ten
    /// seconds.
    pub eviction_period: Duration,
    /// Say in a pod's conditions why it is being disrupted, as clusters from 1.26 on do; and let an
    /// evicted pod keep its conditions and containers' states, which older kubelets throw away.
    pub disruption_conditions: bool,
    /// Kill all processes of a container when one passes the memory limit, as kubelets from 1.28 on
    /// do where the node has cgroup version 2.
    pub oom_kills_group: bool,
    /// Enforce memory limits by looking at processes even where control groups can be made.
    pub watch_memory: bool,
    /// The version that the server says it is, such as `1.33`.
    pub version: (u32, u32),
    /// How many changes a watch can look back, over all types together. Real API servers keep a
    /// hundred to some thousand of each type; past that a watch is told `410 Expired` and lists
    /// again.
    pub watch_history: usize,
}

impl Config {
    /// A cluster on `listen` with every other choice at its default.
    pub fn new(listen: SocketAddr, launcher: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            extra_sans: Vec::new(),
            kubeconfig: None,
            state_dir: None,
            pull_delays: Vec::new(),
            missing_images: Vec::new(),
            private_images: Vec::new(),
            launcher: launcher.into(),
            host_tools: None,
            image_store: None,
            node_name: "gantry-sim".to_owned(),
            node_ip: None,
            allocatable: Allocatable::default(),
            sync_period: DEFAULT_SYNC_PERIOD,
            exec_needs_create: false,
            exec_errors_after_upgrade: false,
            remote_protocols: vec![RemoteProtocol::V5, RemoteProtocol::V4],
            eviction_period: DEFAULT_EVICTION_PERIOD,
            disruption_conditions: true,
            oom_kills_group: false,
            watch_memory: false,
            version: (1, 33),
            watch_history: DEFAULT_WATCH_HISTORY,
        }
    }

    /// The same, behaving like Kubernetes 1.20 where newer versions differ in what a client can
    /// see.
    #[must_use]
    pub fn like_1_20(self) -> Self {
        Self {
            exec_needs_create: false,
            exec_errors_after_upgrade: false,
            remote_protocols: vec![RemoteProtocol::V4],
            disruption_conditions: false,
            oom_kills_group: false,
            version: (1, 20),
            ..self
        }
    }

    /// The version as objects and answers show it.
    pub(crate) fn version_text(&self) -> String {
        format!("v{}.{}.0-gantry-sim", self.version.0, self.version.1)
    }

    /// The address that the node and its pods show.
    pub(crate) fn advertised_ip(&self, bound: SocketAddr) -> IpAddr {
        self.node_ip
            .unwrap_or_else(|| if bound.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { bound.ip() })
    }
}
