//! Every number of the helper that bounds something, each with the reason for its size.

use std::time::Duration;

/// Events that wait for the engine. Output comes in pieces of [`OUTPUT_CHUNK`], of which this is 1
/// MiB; user code in the place of the shim may send frames of [`SHIM_FRAME`], and this bounds what
/// such a flood can hold in memory to 16 MiB.
pub(crate) const INBOX: usize = 16;

/// Largest piece of output that travels at once: the usual capacity of a pipe.
pub(crate) const OUTPUT_CHUNK: usize = 64 * 1024;

/// Most that is read of the environment that a shell hands over: more than the kernel lets any
/// process have, with the usual limit of stacks.
pub(crate) const HANDED_ENVIRONMENT: u64 = 8 << 20;

/// Largest frame taken from the shim, whose bytes are not trusted: an output piece with room to
/// spare.
pub(crate) const SHIM_FRAME: usize = 1024 * 1024;

/// Frames that wait for a manager connection's writer: answers only, the trace is read from its
/// file.
pub(crate) const MANAGER_ANSWERS: usize = 32;

/// Most time between two pieces of the trace while a job goes on printing. Who watches a log gets
/// it every three seconds; and it is well below what the relay takes for a silence.
pub(crate) const BUNDLE_TIME: Duration = Duration::from_millis(250);

/// The same after the first piece: the relay collects for 60 ms what is printed together.
pub(crate) const BUNDLE_AT_FIRST: Duration = Duration::from_millis(20);

/// Time without a piece after which a job does not go on printing: what the relay calls a silence.
pub(crate) const BUNDLE_OVER: Duration = gantry_relay::limits::SILENCE;

/// Bytes of the trace that do not wait: a job that prints so many each time is worth waking for.
pub(crate) const BUNDLE_BYTES: u64 = 16 * 1024;

/// How long a manager that takes nothing any more is still heard: what it sent before it went is in
/// the socket already.
pub(crate) const LAST_FRAMES: Duration = Duration::from_secs(1);

/// Connections that are kept while somebody is in charge: managers that ask, and are refused, come
/// again.
pub(crate) const MANAGER_CONNECTIONS: usize = 4;

/// How long a manager that has lost its connection may take to come back before another one may
/// have the job: a few tries to connect.
pub(crate) const COMES_BACK: Duration = Duration::from_secs(3);

/// Silence of a connected manager after which one that knows it to be gone may have the job: more
/// than the pause between two pings.
pub(crate) const PRESUMED_GONE: Duration = Duration::from_secs(12);

/// Names of superseded managers that are remembered: a pod sees one for each restart during its
/// life.
pub(crate) const SUPERSEDED_MANAGERS: usize = 64;

/// Orders that wait for the shim: a run, a kill and an exit can be under way at once.
pub(crate) const SHIM_ORDERS: usize = 8;

/// What managers say that is kept until there is a plan: lines for the trace, mostly.
pub(crate) const EARLY_MESSAGES: usize = 64;

/// Quiet after which an unfinished line is shown: long enough to keep progress bars in one line,
/// short enough for a waiting reader.
pub(crate) const PARTIAL_LINE: Duration = Duration::from_millis(500);

/// Longest sleep of the engine. Timers run on a clock that stops with the machine, deadlines do
/// not: this is how late one may be noticed.
pub(crate) const TICK: Duration = Duration::from_secs(10);

/// How long the manager may take to say why the build container is gone, or does not come, before
/// the agent closes the job without a cause.
pub(crate) const CAUSE_OF_DEATH: Duration = Duration::from_secs(10);

/// What a shim may take beyond the grace of a kill to say that the script has ended, before it
/// counts as lost.
pub(crate) const KILL_ANSWER: Duration = Duration::from_secs(10);

/// Which part of what is left of a job the grace of a kill may take at most, as a divisor: a
/// quarter is all of a usual grace in a job that has two minutes left, and leaves the rest to
/// `after_script` in one that has less.
pub(crate) const GRACE_SHARE: u32 = 4;

/// How often the shim looks for processes that others have started while it signalled those it had
/// seen. Each look leaves none of those that it has seen able to start another, so more than a few
/// are needed only against something that multiplies on purpose.
pub(crate) const SCANS: usize = 32;

/// How long a process that read from a pipe has to end by itself after the last writer has, before
/// it gets TERM: one to two of these.
pub(crate) const READERS_PAUSE: Duration = Duration::from_millis(500);

/// Pause between two tries to end what has survived a KILL: it is waiting for a device, or was
/// started meanwhile.
pub(crate) const KILL_PAUSE: Duration = Duration::from_millis(50);

/// How long the end of a script may take after KILL before what is left counts as unstoppable. Must
/// be less than [`KILL_ANSWER`].
pub(crate) const KILL_GIVE_UP: Duration = Duration::from_secs(3);

/// Quiet after which a script that has ended is not waited for any longer, although something still
/// holds its output open: a `tee` that the script wrote through needs less, and a server in the
/// background never closes it.
pub(crate) const STRAGGLERS_QUIET: Duration = Duration::from_millis(100);

/// How often the shim looks at what the container uses while a script runs: often enough for
/// compilers and tests, and nothing beside them.
pub(crate) const USAGE_PERIOD: Duration = Duration::from_secs(1);

/// Most files that are counted to say how much a job has written, and how long that may take: a
/// job's end must not wait for a number.
pub(crate) const COUNTED_FILES: u64 = 500_000;
pub(crate) const COUNTING: Duration = Duration::from_secs(2);

/// One try to connect to a service. Within a pod an answer is there at once, or there is nobody.
pub(crate) const SERVICE_DIAL: Duration = Duration::from_secs(2);

/// Pause between two tries: first short, because most services are there within a second, then
/// longer.
pub(crate) const SERVICE_PAUSE: Duration = Duration::from_millis(100);
pub(crate) const SERVICE_PAUSE_MOST: Duration = Duration::from_secs(1);

/// Output of background processes that waits for the agent, in pieces of [`OUTPUT_CHUNK`]. A full
/// queue slows them down.
pub(crate) const BACKGROUND_OUTPUT: usize = 2;

/// How long the agent waits for the shim to leave after it was told to.
pub(crate) const SHIM_GOODBYE: Duration = Duration::from_secs(2);

/// How long a shim tries to reach the agent. The agent listens before the shim's binary exists, so
/// this only covers a slow node.
pub(crate) const SHIM_CONNECT: Duration = Duration::from_secs(60);

/// Pause between tries to connect to a socket that is not there yet.
pub(crate) const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// How long a bridge waits for the agent's socket: the agent has just been started in a container
/// that has just been started.
pub(crate) const BRIDGE_CONNECT: Duration = Duration::from_secs(15);

/// How long a bridge may take to deliver what is left once one of its sides has ended.
pub(crate) const BRIDGE_FAREWELL: Duration = Duration::from_secs(5);

/// Bytes that a bridge holds per direction.
pub(crate) const BRIDGE_BUFFER: usize = 64 * 1024;

/// Largest variable that `execve` takes, name and value and two bytes together (Linux:
/// `MAX_ARG_STRLEN`, 32 pages).
pub(crate) const EXEC_VARIABLE: usize = 128 * 1024;

/// Bytes of environment that are handed to `execve`. Linux allows a quarter of the stack limit,
/// usually 2 MiB, arguments included.
pub(crate) const EXEC_TOTAL: usize = 1536 * 1024;

/// Largest `GITLAB_ENV` file that is read: more could not be handed to a process anyway.
pub(crate) const GITLAB_ENV_FILE: u64 = 1024 * 1024;

/// Largest description of work that a moving child reads.
pub(crate) const MOVER_JOB: u64 = 4 * 1024 * 1024;

/// Stages of one plan. GitLab allows a few dozen steps; a plan beyond this is not one of ours.
pub(crate) const STAGES: usize = 1000;

/// How long a closed job waits to be reported, beyond the job's own time-out: as long as the pod's
/// own deadline lets it live.
pub(crate) const REPORT_WAIT: Duration = gantry_core::limits::POD_DEADLINE_SLACK;

/// How often a download is begun (GitLab Runner 19.4: once and two more times).
pub(crate) const DOWNLOAD_TRIES: u32 = 3;

/// A part of artifacts that come in parts, and how many come at once. GitLab is asked for each, so
/// a part is large; four connections fill what one would leave.
pub(crate) const ARTIFACT_PART: u64 = 64 * 1024 * 1024;
pub(crate) const ARTIFACT_PARTS_AT_ONCE: usize = 4;

/// Pause between them (GitLab Runner 19.4).
pub(crate) const DOWNLOAD_PAUSE: Duration = Duration::from_secs(1);

/// How long an agent that has its plan waits to be told to start. A manager has an answer of GitLab
/// within two minutes or goes on without, and one that adopts the job needs as long again.
pub(crate) const AGENT_WITHOUT_GO: Duration = Duration::from_secs(600);

/// What is added to the plan's `self_report_after`, by job, so that the pods of one dead manager do
/// not all start at once.
pub(crate) const SELF_REPORT_SPREAD: Duration = Duration::from_secs(30);

/// The same once the verdict is ready: there is nothing to gain from waiting but one duplicate
/// request.
pub(crate) const SELF_REPORT_VERDICT: Duration = Duration::from_secs(10);

/// The same while the pod is being ended, which usually takes 30 s.
pub(crate) const SELF_REPORT_TERMINATING: Duration = Duration::from_secs(2);

/// Pause before the agent's own relay starts again after it gave up.
pub(crate) const SELF_REPORT_PAUSE: Duration = Duration::from_secs(60);

/// Pieces of the trace on their way to the agent's own relay.
pub(crate) const SELF_REPORT_INPUTS: usize = 4;

/// Reports of the agent's own relay that wait; they are levels, so few suffice.
pub(crate) const SELF_REPORT_REPORTS: usize = 8;

/// Tries of the final state that are made in any case (GitLab Runner 19.4,
/// `job_status_final_update_retry_limit`).
pub(crate) const FINAL_TRIES: u32 = 10;

/// Largest `.gitmodules` that is read for its URLs, and `.git` of a submodule: entries of a few
/// hundred bytes, for thousands of submodules.
pub(crate) const GITMODULES: u64 = 1024 * 1024;

/// How deep submodules of submodules are looked at for their URLs. More levels than people make; a
/// tree cannot lead round in a circle.
pub(crate) const SUBMODULE_LEVELS: u32 = 10;

/// Most of a git index that is copied: about a hundred bytes for each tracked file, for tens of
/// millions of files.
pub(crate) const INDEX: u64 = 4 * 1024 * 1024 * 1024;

/// Linked directories on the path to one artifact that a pattern leads through. People make one or
/// two; more come from links that lead round in a circle, or from trees of packages that link to
/// each other, which have more paths than anybody could visit.
pub(crate) const ARTIFACT_LINKS: u32 = 4;

/// A part of a file that one thread deflates at once: long enough that a part costs nothing beside
/// its bytes, and 1 % of what they shrink to.
pub(crate) const PACK_PART: usize = 512 * 1024;

/// Threads that deflate. More would not be used: eight fill any connection.
pub(crate) const PACK_WORKERS: usize = 8;

/// Parts in memory for each of those threads, so that none waits for the others: 12 MiB for all,
/// and half of that again where they work.
pub(crate) const PACK_PARTS_PER_WORKER: usize = 3;

/// An archive on its way to GitLab, in pieces of this size and so many of them: what the network
/// takes while the next part is packed.
pub(crate) const ARCHIVE_PIECE: usize = 256 * 1024;
pub(crate) const ARCHIVE_PIECES: usize = 8;

/// Threads that compress a tar archive, and how much each takes at once, in bytes: 4 of them with
/// what comes in and goes out stay below 40 MiB, and fill any connection.
pub(crate) const TAR_WORKERS: usize = 4;
pub(crate) const TAR_JOB: u32 = 2 * 1024 * 1024;

/// How much of what is before it a thread looks at again, as the library counts: a 32nd of the
/// window, which is 64 KiB at the usual level. Its own choice is four times that, and takes a tenth
/// of the time for some thousandths of the bytes.
pub(crate) const TAR_OVERLAP: u32 = 4;

/// Files whose entries are made at once, those that are read whole for that, and such blocks in
/// memory for each thread that reads: 16 MiB for four of them.
pub(crate) const TAR_BLOCK: usize = 32;
pub(crate) const TAR_SMALL: usize = 64 * 1024;
pub(crate) const TAR_BLOCKS_PER_READER: usize = 2;

/// Bytes of a larger file that are read at once.
pub(crate) const TAR_BUFFER: usize = 256 * 1024;

/// Files that are held open to be sent as they are, which need no more than a quarter of the
/// descriptors that a process has by default. Those beyond are compressed.
pub(crate) const TAR_APART_FILES: usize = 256;

/// How much of such a file is looked at to know that nothing makes it smaller: a sample of each 4
/// MiB, of a file of any size between so many.
pub(crate) const TAR_SAMPLE: usize = 16 * 1024;
pub(crate) const TAR_SAMPLE_EVERY: u64 = 4 * 1024 * 1024;
pub(crate) const TAR_SAMPLES: (u64, u64) = (8, 256);

/// Bytes of a file on a volume after which the disk is told to take them: it is busy meanwhile, and
/// the end of the file need not wait for all of them.
pub(crate) const SYNC_PIECE: usize = 16 * 1024 * 1024;

/// Entries of one archive. The largest caches that people keep have a million.
pub(crate) const UNPACKED_ENTRIES: u64 = 10_000_000;

/// Bytes of a name of an archive that an error shows: more than people's paths have, and no screen
/// full of one that means harm.
pub(crate) const SHOWN_NAME: usize = 200;

/// Bytes of the headers of one entry of a tar archive: a path of 4 KiB and a link of 4 KiB, and
/// attributes that nobody needs here.
pub(crate) const TAR_HEADER: usize = 2 * 1024 * 1024;

/// Bytes that are decompressed, or written to a file, at once, and such blocks on the way from the
/// one to the other: 1 MiB in all.
pub(crate) const UNPACK_BUFFER: usize = 256 * 1024;
pub(crate) const UNPACK_BLOCKS: usize = 2;

/// How much of what is free on a volume an archive may take, in percent: a node whose disk is full
/// ends other people's jobs too.
pub(crate) const UNPACKED_SHARE: u64 = 95;

/// Largest window of a zstd stream, as a power of two in bytes: what the format asks every reader
/// to take without being told is 8 MiB; the strongest levels of the usual tools write up to 128
/// MiB.
pub(crate) const ZSTD_WINDOW_LOG: u32 = 27;

/// Bytes that may follow the end of a tar archive: writers fill up to a record of 10 KiB, some to
/// more.
pub(crate) const TAR_TAIL: u64 = 16 * 1024 * 1024;

/// Bytes of a cache that are asked for at once, and how many such requests are under way: what is
/// in memory of them is 24 MiB at most, and four connections fill what one would leave.
pub(crate) const CACHE_PIECE: u64 = 4 * 1024 * 1024;
pub(crate) const CACHE_PIECES_AT_ONCE: usize = 4;

/// How often such a range is asked for where it breaks off, and the pause before (GitLab Runner
/// 19.4: 2 more tries, 1 s).
pub(crate) const CACHE_PIECE_TRIES: u32 = 3;
pub(crate) const CACHE_PIECE_PAUSE: Duration = Duration::from_secs(1);

/// How long a store may be silent (GitLab Runner 19.4: 30 s for the head of an answer).
pub(crate) const CACHE_IDLE: Duration = Duration::from_secs(30);

/// How often a cache is sent, and the first pause, which doubles (GitLab Runner 19.4: 2 more tries,
/// 1 s).
pub(crate) const CACHE_UPLOAD_TRIES: u32 = 3;
pub(crate) const CACHE_UPLOAD_PAUSE: Duration = Duration::from_secs(1);

/// Most of a refusal that is read: a code and a sentence are some hundred bytes.
pub(crate) const REFUSAL_BODY: usize = 64 * 1024;

/// A part of a cache that is uploaded in parts, and how many are under way: 18 MiB are in memory of
/// them. S3 takes no part below 5 MiB but the last, Google wants a multiple of 256 KiB.
pub(crate) const CACHE_PART: usize = 6 * 1024 * 1024;
pub(crate) const CACHE_PARTS_AT_ONCE: usize = 3;

/// Parts of that size in an upload of S3, whose parts are counted: all caches below 4.6 GiB. Those
/// that follow have the second size, and lie in a temporary file until they are sent.
pub(crate) const CACHE_SMALL_PARTS: u32 = 800;
pub(crate) const CACHE_LARGE_PART: u64 = 1024 * 1024 * 1024;

/// How long an upload is given up that nobody needs. The job waits for it, and a store that does
/// not answer has its own rule for such uploads.
pub(crate) const CACHE_GIVE_UP: Duration = Duration::from_secs(10);

/// How long a part in memory may take to be sent: 50 KB/s are enough.
pub(crate) const CACHE_PART_TIME: Duration = Duration::from_secs(120);

/// Files of more bytes than this are hashed on their own: what a cache says of itself does not wait
/// for them.
pub(crate) const TREE_APART: u64 = 1024 * 1024;

/// Files of a tree whose content is compared by one thread at a time, and bytes of one that are
/// read at once.
pub(crate) const TREE_BLOCK: usize = 64;
pub(crate) const TREE_BUFFER: usize = 128 * 1024;

/// Age of a half-written cache file that nobody writes any more: longer than any job.
pub(crate) const CACHE_FILE_LEFTOVER: Duration = Duration::from_secs(48 * 3600);

/// How long a job may spend with the mirror of its node before it fetches without it: what the
/// first job of a project needs for a history of some gigabytes, and a quarter of the time that
/// jobs have by default.
pub(crate) const MIRROR_TIME: Duration = Duration::from_secs(15 * 60);

/// How long nothing is fetched into a mirror for which that was too much: each job that tries costs
/// its runner as much again, and histories rarely become shorter.
pub(crate) const MIRROR_REST: Duration = Duration::from_secs(24 * 3600);

/// How long a job waits for others that use the same mirror, and how often it looks: the first of
/// many fetches for all of them, and a fetch of its own is never far.
pub(crate) const MIRROR_LOCK: Duration = Duration::from_secs(5 * 60);
pub(crate) const MIRROR_LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Commits that a mirror names to GitLab as known: more than the branches that people work on at
/// once, and one request has room for them.
pub(crate) const MIRROR_TIPS: usize = 256;

/// Packs of a mirror, of which each update adds one, before small ones become one: git looks into
/// each for every object.
pub(crate) const MIRROR_PACKS: usize = 32;
