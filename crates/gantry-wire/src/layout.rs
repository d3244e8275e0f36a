//! Where things are in a job pod: the paths and words that the pod's spec, the agent and the
//! manager must agree on.

/// Volume of `helper` and `build`: shim binary and shim socket. Read-only in `build`.
pub const SHARED_DIR: &str = "/gantry";

/// The shim's binary: the agent's own, copied by the agent at its start.
pub const SHIM_BINARY: &str = "/gantry/gantry-helper";

/// A FIFO: a line in it tells the waiting build container that the shim's binary is there. Made by
/// the helper container where it can.
pub const SHIM_READY: &str = "/gantry/ready";

/// The agent listens here for the one shim of the job.
pub const SHIM_SOCKET: &str = "/gantry/shim.sock";

/// Settings for the git of this job's scripts, which hold its token: not in the builds directory,
/// which may outlive the job.
pub const GIT_CONFIG: &str = "/gantry/git-config";

/// Volume of `helper` alone: a pushed binary, the manager's socket, the trace.
pub const AGENT_DIR: &str = "/gantry-agent";

/// Volume of `helper`, `build` and privileged services, read-only of services that name a file in
/// it: file variables, and what scripts leave for each other. The temporary directory beside the
/// project is a link to it, so that nothing is mounted inside the builds directory and other
/// services see nothing of it.
pub const TEMP_DIR: &str = "/gantry-tmp";

/// Volume of `helper` alone, where the runner keeps a mirror of the project's repository on its
/// nodes.
pub const MIRROR_DIR: &str = "/gantry-mirror";

/// Where the manager pushes its helper if the image has none that fits.
pub const PUSHED_BINARY: &str = "/gantry-agent/gantry-helper";

/// A FIFO: a line in it tells the waiting helper container that the pushed binary is there.
pub const PUSHED_READY: &str = "/gantry-agent/ready";

/// The agent listens here for managers.
pub const MANAGER_SOCKET: &str = "/gantry-agent/manager.sock";

/// The rendered trace.
pub const TRACE_FILE: &str = "/gantry-agent/trace";

/// First word of the line with which a bridge greets the manager; the protocol version follows.
pub const BRIDGE_GREETING: &str = "gantry-bridge";

/// First word of the line with which a container without a fitting helper asks for one; its machine
/// (`uname -m`) and the forms that it can take follow.
pub const PUSH_REQUEST: &str = "gantry-push";

/// The line with which a container says that the program which unpacks the helper is there, and
/// that the helper may come.
pub const PUSH_CONTINUE: &str = "gantry-push-on";

/// First word of the line with which the exec'd shell reports why it cannot go on; text follows.
pub const EXEC_FAILURE: &str = "gantry-error";

/// Exit code of a helper container that nobody has left a plan in, and that has given up waiting:
/// nothing of its job has run.
pub const WITHOUT_PLAN: u8 = 3;

/// Name of the container that runs the agent.
pub const HELPER: &str = "helper";

/// Name of the container that runs the user's scripts.
pub const BUILD: &str = gantry_core::ending::BUILD_CONTAINER;
