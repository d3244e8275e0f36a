//! How long a job waits for what, each with its reason.

use std::time::Duration;

/// After this time without an agent the job is acknowledged early, so that its log shows what it
/// waits for.
pub(super) const SLOW: Duration = Duration::from_secs(15);

/// How long an agent that must be dead, or was told to end, may still say something before the
/// manager ends the job.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// Between two looks at a pod whose time to start is over, while the API server cannot say whether
/// its services have started. The watch may be behind, and what was not seen proves nothing.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A connection that held less than this is not made again at once, but after as much time: an
/// agent that closes every connection must not be asked in a tight loop.
pub(crate) const BRIEF: Duration = Duration::from_secs(1);

/// How long the agent of a found pod is looked for whose helper has not started, as far as its
/// status says: that is up to a second behind, and on a busy node more.
pub(super) const FIND: Duration = Duration::from_secs(5);

/// The same for a job that GitLab shows as running, which it may be: a kubelet that cannot write
/// and an API server that refuses every exec are back within this time, as a rule. GitLab would
/// begin such a job a second time.
pub(super) const FIND_RUNNING: Duration = Duration::from_secs(60);

/// How long an agent is claimed that has another manager, as far as it knows. One that has been cut
/// off is known to be gone sooner; whoever lives is left alone, and its jobs are looked at again
/// later.
pub(super) const CLAIM: Duration = Duration::from_secs(10);

/// How long a hand-over may go on once the runner was told to leave its jobs: a plan that was sent
/// is accepted, and a job started, in milliseconds, unless somebody does not answer.
pub(super) const HAND_OVER: Duration = Duration::from_millis(1500);

/// How long a job may hold up a runner that leaves its jobs: a verdict is delivered and a pod
/// deleted in less, unless GitLab or the API server does not answer. With what the process itself
/// takes this stays below five seconds.
pub(crate) const LEAVE: Duration = Duration::from_secs(3);
