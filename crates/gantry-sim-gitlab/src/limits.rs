//! Every bound of the simulator, each with the sentence that derives it. Nothing else in the crate
//! may invent a number.

use std::time::Duration;

/// Largest `jobs/request` body: GitLab's proxy refuses more than 32 KiB with 413.
pub(crate) const JOB_REQUEST_BODY: usize = 32 * 1024;
/// Largest JSON body of any other call: a raw job payload with long scripts fits, a runaway client
/// does not.
pub(crate) const JSON_BODY: usize = 4 * 1024 * 1024;
/// Largest single trace PATCH: runners send at most 1 MiB, other clients may send more; a whole
/// default log (4 MiB) fits.
pub(crate) const PATCH_BODY: usize = 16 * 1024 * 1024;
/// Largest trace of one job; GitLab's own default for the instance limit is 100 MB.
pub(crate) const TRACE: u64 = 100 * 1024 * 1024;
/// Largest single artifact: large enough for real builds, small enough for a laptop's temp
/// directory.
pub(crate) const ARTIFACT: u64 = 1024 * 1024 * 1024;
/// Largest dotenv report, unpacked (GitLab's default limit, 5 KiB).
pub(crate) const DOTENV: u64 = 5 * 1024;
/// Most variables in one dotenv report (GitLab's default limit).
pub(crate) const DOTENV_VARIABLES: usize = 150;
/// What is read of a file or a process at once, to be sent, and written to a file: with 4 KiB the
/// wait for each next piece would take eight times as long as the sending.
pub(crate) const AT_ONCE: usize = 256 * 1024;
/// Artifacts of one job: GitLab has about 35 file types and keeps one of each.
pub(crate) const ARTIFACTS_PER_JOB: usize = 64;
/// Requests kept in the journal; about 1 KiB each, so some 10 MiB at most when bodies are small.
pub(crate) const JOURNAL: usize = 10_000;
/// JSON bodies up to this size are kept in the journal; a verify or a PUT is under 2 KiB.
pub(crate) const JOURNAL_BODY: usize = 8 * 1024;
/// Violations kept; the first ones explain the later ones, so new ones are dropped once the list is
/// full.
pub(crate) const VIOLATIONS: usize = 1_000;
/// Jobs one simulator remembers: a day of heavy testing; each holds its whole trace in memory.
pub(crate) const JOBS: usize = 100_000;
/// Registered runners: a runner that registers at every start, restarted every minute for a week.
pub(crate) const RUNNERS: usize = 10_000;
/// Managers (system ids) remembered per runner; the one heard from longest ago makes room.
pub(crate) const MANAGERS_PER_RUNNER: usize = 1_000;
/// How often a job that nobody acknowledged, or that the scheduler lost, is tried again without a
/// `retry` of its own (GitLab server, automatic retries).
pub(crate) const DEFAULT_RETRIES: u32 = 2;
/// The window in which requests are counted for rate limits, and what `Retry-After` says (GitLab
/// server: one minute).
pub(crate) const RATE_WINDOW: Duration = Duration::from_secs(60);
/// Tokens counted in one window: more than any test has at once, and some 10 MiB at most.
pub(crate) const RATE_KEYS: usize = 100_000;
/// Longest time-out counted for a job (one month, GitLab's own maximum); payloads may say anything.
pub(crate) const JOB_TIMEOUT_SECONDS: u64 = 31 * 24 * 3600;
/// Time-out of a job that names none.
pub(crate) const DEFAULT_JOB_TIMEOUT_SECONDS: u64 = 3600;
/// What GitLab says in `Retry-After` while its database migrates.
pub(crate) const MIGRATION_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Longest lock of a log that a test may ask for: longer than any job lives without its log.
pub(crate) const LOG_LOCK: Duration = Duration::from_secs(24 * 3600);
/// Pipelines, and jobs without one, that the page is shown: the latest ones, as much as anybody
/// reads.
pub(crate) const SHOWN: usize = 50;
/// Branches and tags offered to choose from: more than anybody scrolls through.
pub(crate) const REFS: usize = 200;
/// Faults set at once: every one is looked at for every request.
pub(crate) const FAULTS: usize = 1_000;
/// Longest delay of a fault: longer than any client waits.
pub(crate) const FAULT_DELAY: Duration = Duration::from_secs(24 * 3600);
/// After so many refusals in a row, some ten seconds, the listener counts as lost.
pub(crate) const ACCEPT_FAILURES: u32 = 100;
/// Pause after the system refused to accept a connection, so that a full table of files is not
/// asked in a circle.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest hold of a long poll that GitLab documents; clients time out later than this.
pub(crate) const LONG_POLL: Duration = Duration::from_secs(50);
/// How long `git` may take to answer a question about a repository (reading a commit or a file).
pub(crate) const GIT_QUESTION: Duration = Duration::from_secs(60);
/// How long the git HTTP back end may take until its response headers are complete.
pub(crate) const GIT_HEADERS: Duration = Duration::from_secs(60);
/// Size of the response headers of the git HTTP back end: it writes fewer than ten short lines.
pub(crate) const GIT_HEADER_BYTES: u64 = 16 * 1024;
/// Open connections get this long to finish after a shutdown was asked for; then they are cut.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
/// Largest file read from a repository for a pipeline (`.gitlab-ci.yml` and local includes): GitLab
/// allows 1 MB.
pub(crate) const CI_FILE: usize = 1024 * 1024;
/// Files looked at in a directory that stands for another project: more than large projects have.
pub(crate) const COPIED_FILES: usize = 200_000;
/// Files of an archive that are listed for people: more than anybody scrolls through.
pub(crate) const LISTED_FILES: usize = 5_000;
/// Largest file of an archive that is shown: more than a browser shows quickly.
pub(crate) const SHOWN_FILE: u64 = 32 * 1024 * 1024;
/// Rounds of pipeline progress after one event; each settles at least one job, so this only stops a
/// bug.
pub(crate) const PIPELINE_ROUNDS: usize = 10_000;
/// Connections in memory that wait to be accepted: more than any one moment of a simulation opens.
pub(crate) const PIPES: usize = 1024;
/// Bytes that one connection in memory holds per direction, as much as a socket's usual buffer.
pub(crate) const PIPE: usize = 64 * 1024;
