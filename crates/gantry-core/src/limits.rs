//! Numbers that bound something and that more than one crate must agree on, each with the reason
//! for its size. What concerns one crate alone is in that crate's own `limits.rs`.

use std::time::Duration;

/// Job time-out where GitLab sends none (GitLab Runner 19.4: 7200 s).
pub const DEFAULT_JOB_TIMEOUT: Duration = Duration::from_secs(7200);

/// Longest time-out taken from a job: GitLab allows at most one month. Beyond it arithmetic on
/// clocks is at risk, not any job.
pub const MAX_JOB_TIMEOUT: Duration = Duration::from_secs(31 * 24 * 3600);

/// Bytes of a job log where `output_limit` does not say otherwise (GitLab Runner 19.4: 4 MiB).
pub const DEFAULT_OUTPUT_LIMIT: u64 = 4 * 1024 * 1024;

/// Largest frame between manager, agent and shim. A PodPlan carries scripts and variables, which
/// GitLab bounds to a few MiB.
pub const MAX_FRAME: usize = 32 * 1024 * 1024;

/// Largest payload of a `trace` frame: small enough to interleave with pings on a slow line, large
/// enough for 30 MB/s over one stream.
pub const TRACE_CHUNK: usize = 64 * 1024;

/// Largest body of one `PATCH trace` (GitLab Runner 19.4: 1 MiB).
pub const MAX_PATCH: usize = 1024 * 1024;

/// How often each side of a manager connection says something. Proxies cut streams that are idle
/// for 50 to 60 s.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Silence after which a manager connection is given up: two missed pings and a little more.
pub const RELAY_SILENCE: Duration = Duration::from_secs(25);

/// How long an agent waits for a plan before it ends. A manager that dies before the hand-over must
/// not leave the pod behind for hours.
pub const AGENT_WITHOUT_PLAN: Duration = Duration::from_secs(600);

/// How long a shim may take to say hello once its container runs: an `exec` and a `connect`, on a
/// node that is very busy.
pub const SHIM_HELLO: Duration = Duration::from_secs(60);

/// Limit of `after_script` where `RUNNER_AFTER_SCRIPT_TIMEOUT` does not say otherwise (GitLab
/// Runner 19.4: 5 minutes).
pub const AFTER_SCRIPT_TIMEOUT: Duration = Duration::from_secs(300);

/// Time between TERM and KILL when a script is stopped, where `script_termination_grace_period`
/// does not say otherwise: as long as Kubernetes gives a pod, which is what tools that release a
/// lock on TERM are made for.
pub const SCRIPT_GRACE: Duration = Duration::from_secs(30);

/// The longest such time: half of [`REPORT_ALLOWANCE`], so that a job that is stopped at its
/// time-out can still be reported.
pub const MAX_SCRIPT_GRACE: Duration = Duration::from_secs(120);

/// Longest time for which the pod of a failed job is kept: a pod that is forgotten must not hold
/// room on its node for days.
pub const MOST_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How long a script's background children may still print something that counts as the script's
/// own.
pub const BACKGROUND_GRACE: Duration = Duration::from_secs(1);

/// What a job may use beyond its time-out to upload artifacts and report. GitLab lets the job token
/// live for the time-out plus 5 minutes.
pub const REPORT_ALLOWANCE: Duration = Duration::from_secs(240);

/// How long a job token lives beyond the job's time-out (GitLab).
pub const JOB_TOKEN_ALLOWANCE: Duration = Duration::from_secs(300);

/// How far the pod's `activeDeadlineSeconds` lies beyond the job's time-out: after every report can
/// have been made.
pub const POD_DEADLINE_SLACK: Duration = Duration::from_secs(600);
