//! What can be chosen about a simulated cluster. Only values: nothing here opens, reads or writes anything.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// How often kubelet looks at its containers and tells the API server what changed, unless configured: real kubelets
/// list their containers once a second.
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
    /// How long the pull of an image takes: pattern (`*` matches anything) and duration; the first match counts.
    pub pull_delays: Vec<(String, Duration)>,
    /// Patterns of images whose pull fails.
    pub missing_images: Vec<String>,
    /// The program that becomes a container's first process (see the `container` module).
    pub launcher: PathBuf,
    /// Name of the only node.
    pub node_name: String,
    /// The address pods and the node show. `None`: the listening address, or loopback when that is unspecified.
    pub node_ip: Option<IpAddr>,
    /// What the node offers.
    pub allocatable: Allocatable,
    /// How often container states reach the API. Real kubelets: one second.
    pub sync_period: Duration,
    /// Ask for `create` on `pods/exec` for WebSocket upgrades too (Kubernetes 1.35 and newer), not only for `get`.
    pub exec_needs_create: bool,
    /// Answer an exec into a container that does not run with `101` and the error on channel 3, as API servers from 1.30
    /// on do for the v5 sub-protocol, instead of with a plain 500.
    pub exec_errors_after_upgrade: bool,
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
            launcher: launcher.into(),
            node_name: "gantry-sim".to_owned(),
            node_ip: None,
            allocatable: Allocatable::default(),
            sync_period: DEFAULT_SYNC_PERIOD,
            exec_needs_create: false,
            exec_errors_after_upgrade: false,
        }
    }

    /// The address that the node and its pods show.
    pub(crate) fn advertised_ip(&self, bound: SocketAddr) -> IpAddr {
        self.node_ip
            .unwrap_or_else(|| if bound.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { bound.ip() })
    }
}
