//! Where the pods of a run live: in a simulated cluster that the run starts, or in one that
//! somebody has given.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::binaries::{ARM64_HELPER, Binaries};
use crate::helm::Helm;
use crate::kube::Kube;
use crate::kubectl::Kubectl;
use crate::openbao::OpenBao;
use crate::process::Process;
use crate::prometheus::Prometheus;
use crate::registry::Registry;

/// Names the file with the cluster that was given, as for every Kubernetes client.
const KUBECONFIG: &str = "KUBECONFIG";

/// The address of this machine for pods of that cluster, where it is not the one from which this
/// machine reaches the API server.
const HOST: &str = "GANTRY_TEST_HOST";

/// How long the simulator may take to start.
const START: Duration = Duration::from_secs(30);

/// Images whose pull takes a while: patterns of names, and seconds. All others that are not on the
/// node are missing.
pub(crate) const PULLS: [(&str, u64); 3] = [("slowest-", 60), ("slower-", 12), ("slow-", 5)];

/// Images that want a login.
pub(crate) struct Private {
    /// What their names begin with, behind `library/`.
    pub(crate) prefix: &'static str,
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
}

/// All there are.
pub(crate) const PRIVATE: Private = Private { prefix: "private-", user: "robot", password: "pull-me-5ecret" };

/// The runner's image, in a node's list.
const RUNNER_IMAGE: &str = "docker.io/gantry/runner:latest";
/// The image for arm64, in the same list.
const ARM64_IMAGE: &str = "docker.io/library/arm64:1";
const MISSING: &str = "missing*";

/// Which cluster a run wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClusterChoice {
    /// The one of this project, started for the run.
    #[default]
    Simulated,
    /// The one of `KUBECONFIG`.
    Given,
}

/// What not every cluster has.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Images that take long to pull.
    SlowImages,
    /// Faults on demand.
    Faults,
    /// A node on this machine whose kubelet and volumes can be harmed.
    NodeFaults,
    /// The runner's own image on its nodes, and what is needed to deploy and to watch it: kubectl
    /// and Prometheus on this machine.
    OwnImages,
    /// The runner's own image on its nodes, and helm and kubectl on this machine.
    Helm,
    /// kubectl on this machine.
    Kubectl,
    /// OpenBao on this machine.
    OpenBao,
    /// podman on this machine.
    Podman,
    /// Images that want a login.
    PrivateImages,
    /// Images that want a login, and a kubelet that says of which pull secret there is none.
    PullSecretEvents,
    /// Images that want a login, and pods that can be held back by scheduling gates.
    SchedulingGates,
    /// Pod Security.
    PodSecurity,
    /// Policies that are asked when an object is made, and webhooks.
    Admission,
    /// Requests and limits of a whole pod, and a kernel that holds them.
    PodResources,
    /// A node that starts programs for arm64, and an image of them.
    Arm64,
    /// More than the simulator has: other nodes, images with a user or without a shell, storage.
    RealNodes,
}

impl Need {
    /// What to say of a cluster that does not have it.
    pub fn words(self) -> &'static str {
        match self {
            Self::SlowImages => "images that take long to pull",
            Self::Faults => "faults on demand",
            Self::NodeFaults => "node that may be harmed: that of tests/cluster/up, as root",
            Self::OwnImages => "image of the runner, or this machine no Prometheus or kubectl 1.21",
            Self::Helm => "image of the runner, or this machine no helm or kubectl 1.21",
            Self::Kubectl => "use without kubectl 1.21 on this machine",
            Self::OpenBao => "use without OpenBao on this machine, which `.ci/run stores` builds",
            Self::Podman => "use without podman on this machine",
            Self::PrivateImages => "images that want a login",
            Self::PullSecretEvents => "images that want a login, or no events about pull secrets",
            Self::SchedulingGates => "images that want a login, or no scheduling gates",
            Self::PodSecurity => "Pod Security",
            Self::Admission => "policies of admission",
            Self::PodResources => "resources of whole pods",
            Self::Arm64 => "node that starts programs for arm64 (.ci/run arm64)",
            Self::RealNodes => "real nodes, or images of our own on them",
        }
    }
}

/// A cluster, and what was started for it.
#[derive(Debug)]
pub struct Cluster {
    /// As its administrator.
    pub kube: Kube,
    /// The address of this machine for pods and for the runner.
    pub host: IpAddr,
    kubeconfig: PathBuf,
    simulator: Option<Process>,
    registry: Option<Registry>,
    own_images: bool,
    arm64: bool,
    /// The second number of its version.
    minor: u32,
}

impl Cluster {
    /// Makes the cluster usable.
    ///
    /// # Errors
    /// It does not start, or cannot be reached.
    pub async fn start(wanted: ClusterChoice, dir: &Path, binaries: &Binaries) -> anyhow::Result<Self> {
        match wanted {
            ClusterChoice::Simulated => Self::simulated(dir, binaries).await,
            ClusterChoice::Given => Self::given().await,
        }
    }

    async fn simulated(dir: &Path, binaries: &Binaries) -> anyhow::Result<Self> {
        let kubeconfig = dir.join("kubeconfig");
        let mut args = vec!["sim".to_owned(), "kubernetes".to_owned()];
        let mut option = |name: &str, value: String| args.extend([format!("--{name}"), value]);
        option("listen", "127.0.0.1:0".to_owned());
        option("kubeconfig", kubeconfig.display().to_string());
        option("missing-image", MISSING.to_owned());
        let Private { prefix, user, password } = PRIVATE;
        option("private-image", format!("*/library/{prefix}*={user}:{password}"));
        for (image, seconds) in PULLS {
            option("pull-delay", format!("{image}*={seconds}s"));
        }
        let simulator = Process::start("sim-kubernetes", dir, &binaries.gantry, &args)?;
        simulator.wait_for_line("simulated Kubernetes:", START).await?;
        let kube = Kube::from_kubeconfig(&kubeconfig).await?;
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let minor = minor_version(&kube).await?;
        let simulator = Some(simulator);
        Ok(Self { kube, host, kubeconfig, simulator, registry: None, own_images: false, arm64: false, minor })
    }

    async fn given() -> anyhow::Result<Self> {
        let kubeconfig = std::env::var_os(KUBECONFIG).map(PathBuf::from);
        let kubeconfig = kubeconfig.with_context(|| format!("{KUBECONFIG} names no cluster"))?;
        let kube = Kube::from_kubeconfig(&kubeconfig).await?;
        let host = match std::env::var(HOST) {
            Ok(address) => address.parse().with_context(|| format!("{HOST}: {address:?} is no IP address"))?,
            Err(_) => own_address(kube.url())?,
        };
        // Our own cluster looks for images here; others have registries of their own.
        let (_, nodes) = kube.ask(Method::GET, "/api/v1/nodes?labelSelector=gantry.dev/test-node", None).await?;
        let is_ours = nodes["items"].as_array().is_some_and(|nodes| !nodes.is_empty());
        let registry = if is_ours { Some(Registry::start(host).await?) } else { None };
        let [own_images, arm64] = [RUNNER_IMAGE, ARM64_IMAGE].map(|image| nodes.to_string().contains(image));
        let minor = minor_version(&kube).await?;
        Ok(Self { kube, host, kubeconfig, simulator: None, registry, own_images, arm64, minor })
    }

    /// The host and port of the registry with images that want a login, as their names begin.
    pub fn registry(&self) -> String {
        format!("{}:{}", self.host, crate::registry::PORT)
    }

    /// The name of an image there that no other run has pulled, and the user and password that it
    /// wants.
    pub fn private_image(&self, name: &str) -> (String, &'static str, &'static str) {
        let Private { prefix, user, password } = PRIVATE;
        (format!("{}/library/{prefix}{name}:{}", self.registry(), std::process::id()), user, password)
    }

    /// Whether this cluster has what a test needs.
    pub fn has(&self, need: Need) -> bool {
        match need {
            Need::SlowImages | Need::PrivateImages => self.simulator.is_some() || self.registry.is_some(),
            Need::PullSecretEvents => self.has(Need::PrivateImages) && self.minor >= 25,
            Need::SchedulingGates => self.has(Need::PrivateImages) && self.minor >= 27,
            Need::PodSecurity => self.minor >= 25,
            Need::Admission => self.is_given() && self.minor >= 30,
            Need::PodResources => self.is_given() && self.minor >= 34,
            Need::RealNodes => self.registry.is_some(),
            Need::Arm64 => self.arm64 && std::env::var_os(ARM64_HELPER).is_some(),
            Need::Helm => self.own_images && Kubectl::is_usable() && Helm::is_usable(),
            Need::Kubectl => Kubectl::is_usable(),
            Need::OpenBao => OpenBao::is_usable(),
            Need::Podman => has_podman(),
            Need::Faults => self.simulator.is_some(),
            Need::NodeFaults => self.simulator.is_some() || self.registry.is_some() && is_our_node_here(),
            Need::OwnImages => self.own_images && Kubectl::is_usable() && Prometheus::is_usable(),
        }
    }

    /// Whether it belongs to somebody else, who wants it back as it was.
    pub fn is_given(&self) -> bool {
        self.simulator.is_none()
    }

    /// A command that runs on its node, where there is [`Need::NodeFaults`]: on that of
    /// `tests/cluster/up`, or on this machine where the cluster is simulated.
    pub fn on_node(&self, program: &str) -> Command {
        if self.simulator.is_some() {
            return Command::new(program);
        }
        let mut command = enter();
        command.arg(program);
        command
    }

    /// The file that leads to it.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The simulator's process.
    pub fn process(&self) -> Option<&Process> {
        self.simulator.as_ref()
    }
}

/// What runs a command on the node of `tests/cluster/up`.
fn enter() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/enter"))
}

fn is_our_node_here() -> bool {
    enter().arg("true").output().is_ok_and(|answer| answer.status.success())
}

fn has_podman() -> bool {
    Command::new("podman").arg("info").output().is_ok_and(|answer| answer.status.success())
}

async fn minor_version(kube: &Kube) -> anyhow::Result<u32> {
    let (_, version) = kube.ask(Method::GET, "/version", None).await?;
    let minor = version["minor"].as_str().context("a version without a number")?;
    Ok(minor.trim_end_matches('+').parse()?)
}

/// The address from which this machine reaches a server.
fn own_address(server: &str) -> anyhow::Result<IpAddr> {
    let url = Url::parse(server)?;
    let target = (url.host_str().context("no host")?, url.port_or_known_default().context("no port")?);
    // No packet is sent; the kernel only chooses the way.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(target).with_context(|| format!("there is no way to {server}"))?;
    Ok(socket.local_addr()?.ip())
}
