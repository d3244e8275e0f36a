//! What the manager knows beside the job and the runner's settings.

use gantry_core::{ClientIdentity, Secret};
use gantry_wire::plan::{Alone, ProxyPlan};
use gantry_wire::session::JobSession;
use gantry_wire::ticket::TicketKey;

use crate::PatchFiles;

/// The manager process that a pod belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// A name that no other process has: lower-case letters and digits.
    pub name: String,
    /// It says on its pods that it lives, so that others may conclude something from its silence.
    pub beats: bool,
}

/// What the manager knows beside the job and the runner's settings.
#[derive(Clone, Debug)]
pub struct Context {
    /// Name in the first line of the job log.
    pub name: String,
    /// Version of the reference whose behaviour jobs see (`CI_RUNNER_VERSION`).
    pub version: String,
    /// Our own version (`CI_RUNNER_REVISION`).
    pub revision: String,
    /// `http.userAgent` of git.
    pub git_user_agent: String,
    /// `os/arch` of the manager.
    pub executable_arch: String,
    /// The manager's host name.
    pub manager_host: String,
    /// The manager's system id.
    pub system_id: String,
    /// Slot of the job among all of its runner.
    pub concurrent_id: u32,
    /// Slot of the job among those of its project.
    pub concurrent_project_id: u32,
    /// Eight characters `[a-z0-9]` that make the pod's name unique.
    pub suffix: String,
    /// `X-Request-Id` of the answer that brought the job.
    pub correlation_id: Option<String>,
    /// Roots with which jobs verify GitLab's certificate, PEM.
    pub tls_ca_pem: Option<String>,
    /// Additional roots of the runner's configuration, PEM.
    pub configured_ca_pem: Option<String>,
    /// The client's certificate and key of the runner's configuration.
    pub identity: Option<ClientIdentity>,
    /// The manager's proxies, if it has any.
    pub proxies: Option<ProxyPlan>,
    /// What the agent does when no manager speaks to it.
    pub alone: Alone,
    /// This manager.
    pub owner: Owner,
    /// `[gantry] fleet`, where the file says one.
    pub fleet: Option<String>,
    /// What the pod's ticket is sealed with.
    pub ticket_key: TicketKey,
    /// How GitLab enters the job, where it was offered that. Where a shell begins is the plan's to
    /// say.
    pub session: Option<JobSession>,
    /// When GitLab handed out the job, in milliseconds since 1970.
    pub taken_unix_ms: u64,
    /// The Docker configuration of the manager's user, with logins for registries: its path and its
    /// text.
    pub docker_config: Option<(String, Secret)>,
    /// The files that patches of pods come from ([`patch_files`]).
    pub patch_files: PatchFiles,
    /// Whether the manager may write on pods, as far as it knows: pods that are kept need that.
    pub may_mark: bool,
    /// Whether a pod can be held back until its Secret is there: the manager may patch pods, and
    /// the API server knows scheduling gates.
    pub holds_pods: bool,
}

impl Context {
    /// That of an imaginary manager: for tests, benchmarks and fuzzing, which change what they are
    /// about.
    pub fn example() -> Self {
        Self {
            name: "gantry".to_owned(),
            version: "19.4.0".to_owned(),
            revision: "0".to_owned(),
            git_user_agent: "gantry".to_owned(),
            executable_arch: "linux/amd64".to_owned(),
            manager_host: "manager-0".to_owned(),
            system_id: "r_0123456789ab".to_owned(),
            concurrent_id: 0,
            concurrent_project_id: 0,
            suffix: "k3v9q2xd".to_owned(),
            correlation_id: None,
            tls_ca_pem: None,
            configured_ca_pem: None,
            identity: None,
            proxies: None,
            alone: Alone::default(),
            owner: Owner { name: "0123456789abcdef".to_owned(), beats: true },
            fleet: None,
            ticket_key: TicketKey::derive(&"an example's key".into()),
            session: None,
            taken_unix_ms: 1_790_000_000_000,
            docker_config: None,
            patch_files: PatchFiles::new(),
            may_mark: true,
            holds_pods: false,
        }
    }
}
