//! Every number of the helper that bounds something, each with the reason for its size.

use std::time::Duration;

/// Events that wait for the engine. Output comes in pieces of [`OUTPUT_CHUNK`], so this bounds what a flood can hold in memory to 1 MiB.
pub(crate) const INBOX: usize = 16;

/// Largest piece of output that travels at once: the usual capacity of a pipe.
pub(crate) const OUTPUT_CHUNK: usize = 64 * 1024;

/// Largest frame taken from the shim, whose bytes are not trusted: an output piece with room to spare.
pub(crate) const SHIM_FRAME: usize = 1024 * 1024;

/// Frames that wait for a manager connection's writer: answers only, the trace is read from its file.
pub(crate) const MANAGER_ANSWERS: usize = 32;

/// How long a manager that takes nothing any more is still heard: what it sent before it went is in the socket already.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// Orders that wait for the shim: a run, a kill and an exit can be under way at once.
pub(crate) const SHIM_ORDERS: usize = 8;

/// What managers say that is kept until there is a plan: lines for the trace, mostly.
pub(crate) const EARLY_MESSAGES: usize = 64;

/// Quiet after which an unfinished line is shown: long enough to keep progress bars in one line, short enough for a waiting reader.
pub(crate) const PARTIAL_LINE: Duration = Duration::from_millis(500);

/// Longest sleep of the engine. Timers run on a clock that stops with the machine, deadlines do not: this is how late one may be noticed.
pub(crate) const TICK: Duration = Duration::from_secs(10);

/// How long the manager may take to say why the build container is gone, or does not come, before the agent closes the job without a cause.
pub(crate) const CAUSE_OF_DEATH: Duration = Duration::from_secs(10);

/// What a shim may take beyond the grace of a kill to say that the script has ended, before it counts as lost.
pub(crate) const KILL_ANSWER: Duration = Duration::from_secs(10);

/// How often the shim looks for processes that others have started while it signalled those it had seen. Each look leaves none of those
/// that it has seen able to start another, so more than a few are needed only against something that multiplies on purpose.
pub(crate) const SCANS: usize = 32;

/// How long a process that read from a pipe has to end by itself after the last writer has, before it gets TERM: one to two of these.
pub(crate) const READERS_PAUSE: Duration = Duration::from_millis(500);

/// Pause between two tries to end what has survived a KILL: it is waiting for a device, or was started meanwhile.
pub(crate) const KILL_PAUSE: Duration = Duration::from_millis(50);

/// How long the end of a script may take after KILL before what is left counts as unstoppable. Must be less than [`KILL_ANSWER`].
pub(crate) const KILL_PATIENCE: Duration = Duration::from_secs(3);

/// Quiet after which a script that has ended is not waited for any longer, although something still holds its output open: a `tee` that
/// the script wrote through needs less, and a server in the background never closes it.
pub(crate) const STRAGGLERS_QUIET: Duration = Duration::from_millis(100);

/// Output of background processes that waits for the agent, in pieces of [`OUTPUT_CHUNK`]. A full queue slows them down.
pub(crate) const BACKGROUND_OUTPUT: usize = 2;

/// How long the agent waits for the shim to leave after it was told to.
pub(crate) const SHIM_GOODBYE: Duration = Duration::from_secs(2);

/// How long a shim tries to reach the agent. The agent listens before the shim's binary exists, so this only covers a slow node.
pub(crate) const SHIM_CONNECT: Duration = Duration::from_secs(60);

/// Pause between tries to connect to a socket that is not there yet.
pub(crate) const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// How long a bridge waits for the agent's socket: the agent has just been started in a container that has just been started.
pub(crate) const BRIDGE_CONNECT: Duration = Duration::from_secs(15);

/// How long a bridge may take to deliver what is left once one of its sides has ended.
pub(crate) const BRIDGE_FAREWELL: Duration = Duration::from_secs(5);

/// Bytes that a bridge holds per direction.
pub(crate) const BRIDGE_BUFFER: usize = 64 * 1024;

/// Largest variable that `execve` takes, name and value and two bytes together (Linux: `MAX_ARG_STRLEN`, 32 pages).
pub(crate) const EXEC_VARIABLE: usize = 128 * 1024;

/// Bytes of environment that are handed to `execve`. Linux allows a quarter of the stack limit, usually 2 MiB, arguments included.
pub(crate) const EXEC_TOTAL: usize = 1536 * 1024;

/// Largest `GITLAB_ENV` file that is read: more could not be handed to a process anyway.
pub(crate) const GITLAB_ENV_FILE: u64 = 1024 * 1024;

/// Largest description of work that a moving child reads.
pub(crate) const MOVER_JOB: u64 = 4 * 1024 * 1024;

/// Stages of one plan. GitLab allows a few dozen steps; a plan beyond this is not one of ours.
pub(crate) const STAGES: usize = 1000;

/// How long a closed job waits to be reported, beyond the job's own time-out: as long as the pod's own deadline lets it live.
pub(crate) const REPORT_WAIT: Duration = gantry_core::limits::POD_DEADLINE_SLACK;

/// How often a download is begun (GitLab Runner 19.4: once and two more times).
pub(crate) const DOWNLOAD_TRIES: u32 = 3;

/// Pause between them (GitLab Runner 19.4).
pub(crate) const DOWNLOAD_PAUSE: Duration = Duration::from_secs(1);

/// What is added to the plan's patience, by job, so that the pods of one dead manager do not all start at once.
pub(crate) const SELF_REPORT_SPREAD: Duration = Duration::from_secs(30);

/// The same once the verdict is ready: there is nothing to gain from waiting but one duplicate request.
pub(crate) const SELF_REPORT_VERDICT: Duration = Duration::from_secs(10);

/// The same while the pod is being ended, which usually takes 30 s.
pub(crate) const SELF_REPORT_TERMINATING: Duration = Duration::from_secs(2);

/// Pause before the agent's own relay starts again after it gave up.
pub(crate) const SELF_REPORT_PAUSE: Duration = Duration::from_secs(60);

/// Pieces of the trace on their way to the agent's own relay.
pub(crate) const SELF_REPORT_INPUTS: usize = 4;

/// Reports of the agent's own relay that wait; they are levels, so few suffice.
pub(crate) const SELF_REPORT_REPORTS: usize = 8;

/// Tries of the final state that are made in any case (GitLab Runner 19.4, `job_status_final_update_retry_limit`).
pub(crate) const FINAL_TRIES: u32 = 10;

/// Largest `.gitmodules` that is read for its URLs, and `.git` of a submodule: entries of a few hundred bytes, for thousands of submodules.
pub(crate) const GITMODULES: u64 = 1024 * 1024;

/// How deep submodules of submodules are looked at for their URLs. More levels than people make; a tree cannot lead round in a circle.
pub(crate) const SUBMODULE_LEVELS: u32 = 10;

/// Most of a git index that is copied: about a hundred bytes for each tracked file, for tens of millions of files.
pub(crate) const INDEX: u64 = 4 * 1024 * 1024 * 1024;

/// Linked directories on the path to one artifact that a pattern leads through. People make one or two; more come from links that lead
/// round in a circle, or from trees of packages that link to each other, which have more paths than anybody could visit.
pub(crate) const ARTIFACT_LINKS: u32 = 4;

/// A part of a file that one thread deflates at once: long enough that a part costs nothing beside its bytes, and 1 % of what they shrink to.
pub(crate) const PACK_PART: usize = 512 * 1024;

/// Threads that deflate. More would not be used: eight fill any connection.
pub(crate) const PACK_WORKERS: usize = 8;

/// Parts in memory for each of those threads, so that none waits for the others: 12 MiB for all, and half of that again where they work.
pub(crate) const PACK_PARTS_PER_WORKER: usize = 3;

/// An archive on its way to GitLab, in pieces of this size and so many of them: what the network takes while the next part is packed.
pub(crate) const ARCHIVE_PIECE: usize = 256 * 1024;
pub(crate) const ARCHIVE_PIECES: usize = 8;
