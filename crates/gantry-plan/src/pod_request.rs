//! Everything that a pod is made from.

use std::time::Duration;

use gantry_config::RunnerSettings;
use gantry_config::settings::pod::PodSpecPatch;
use gantry_core::job::JobSpec;
use gantry_core::variables::Variables;
use gantry_wire::cache::CacheObject;
use gantry_wire::plan::Paths;

use crate::Context;
use crate::mirror::Mirror;
use crate::redact::JobSecrets;
use crate::services::Service;

/// Everything that a pod is made from.
pub(crate) struct PodRequest<'a> {
    pub(crate) job: &'a JobSpec,
    pub(crate) runner: &'a RunnerSettings,
    pub(crate) context: &'a Context,
    pub(crate) variables: &'a Variables,
    /// The same after expansion, with the content of file variables.
    pub(crate) literal: &'a Variables,
    pub(crate) services: &'a [Service],
    pub(crate) paths: &'a Paths,
    pub(crate) timeout: Duration,
    /// Whether each line of the log starts with a time.
    pub(crate) timestamps: bool,
    pub(crate) debug_trace: bool,
    /// What is signed again while the job runs.
    pub(crate) cache_objects: &'a [CacheObject],
    pub(crate) mirror: Option<Mirror<'a>>,
    /// Whether the pod may be held back until its Secret is there.
    pub(crate) may_hold_back: bool,
    pub(crate) job_secrets: &'a JobSecrets,
    /// Whether an entrypoint starts the build container (`FF_KUBERNETES_HONOR_ENTRYPOINT`).
    pub(crate) honors_entrypoint: bool,
    /// Those that apply to this job.
    pub(crate) patches: &'a [PodSpecPatch],
}
