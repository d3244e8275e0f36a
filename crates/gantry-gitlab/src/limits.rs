//! Every number that bounds a conversation with GitLab, each with its reason.

use std::time::Duration;

/// Longest interval between trace updates a server can ask for (GitLab Runner 19.4: 15 minutes).
pub(crate) const MAX_UPDATE_INTERVAL: Duration = Duration::from_secs(900);

/// Time for the head of the answer to `jobs/request`. GitLab holds it for its polling duration, 50
/// s by default and settable; the reference waits 10 minutes.
pub(crate) const REQUEST_JOB_TIMEOUT: Duration = Duration::from_secs(600);

/// Time for registration, verification, removal and token reset: one database transaction each.
pub(crate) const RUNNER_CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Time for an answer that only shows that there is somebody: people wait for it.
pub(crate) const REACH_TIMEOUT: Duration = Duration::from_secs(15);

/// How far ahead the end of a server's certificate is worth a word: as long as people need to get
/// another.
pub const CERTIFICATE_LOOKAHEAD: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Time for the answer to `PUT jobs/<id>`, and to `PATCH trace` beside that for the bytes, while
/// GitLab answers: it does in less than a second. Whoever reads the log sees nothing new meanwhile
/// if the connection is dead, and a job that has ended holds its place. What has arrived all the
/// same does no harm the second time: bytes are refused by their offset, and a final state is
/// answered with the state that the job has.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest such time, for a GitLab that is slow: more than Puma's 60 s and what a proxy queues.
pub const ANSWER_TIMEOUT_MAX: Duration = Duration::from_secs(120);

/// Bytes a second that the slowest network brings to GitLab.
const SLOWEST: u32 = 10 * 1024;

/// Time for `PATCH trace` with so many bytes, of which there are at most 1 MiB, where the answer
/// may take so long.
pub fn patch_trace_timeout(bytes: usize, answer_time: Duration) -> Duration {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    answer_time + Duration::from_secs_f64(f64::from(bytes) / f64::from(SLOWEST))
}

/// Silence in the middle of an answer's body after which it is given up.
pub(crate) const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Whole upload of an artifact, where the runner's configuration does not say otherwise (GitLab
/// Runner 19.4: 1 h).
pub(crate) const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3600);

/// From the end of an upload's body to its answer; GitLab may copy the file to object storage
/// meanwhile (GitLab Runner 19.4: 10 minutes).
pub(crate) const UPLOAD_HEADER_TIMEOUT: Duration = Duration::from_secs(600);

/// Time for the head of a download, which object storage may have to thaw (GitLab Runner 19.4: 10
/// minutes).
pub(crate) const DOWNLOAD_HEAD_TIMEOUT: Duration = Duration::from_secs(600);

/// Tries of an upload (GitLab Runner 19.4), and those of one that was answered 503.
pub(crate) const UPLOAD_TRIES: u32 = 3;

/// See [`UPLOAD_TRIES`].
pub(crate) const UPLOAD_TRIES_UNAVAILABLE: u32 = 6;

/// Waits between the tries of an upload double from 1 s up to this (GitLab Runner 19.4).
pub(crate) const UPLOAD_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Largest job payload, after decompression. GitLab bounds a CI configuration to a few MiB; the
/// rest are variables. It is held a few times over while it is read.
pub const MAX_JOB_PAYLOAD: usize = 32 * 1024 * 1024;

/// Most JSON values in a job payload. A job with ten thousand variables has a hundred thousand; one
/// value can take 2 bytes there and 32 here.
pub(crate) const MAX_JOB_VALUES: usize = 1_000_000;

/// Largest other answer that is read, after decompression; what the protocol sends is a few hundred
/// bytes. The reference drains about as much.
pub(crate) const MAX_SMALL_ANSWER: usize = 1024 * 1024;

/// Characters of a server's words that are kept for a log line: a proxy may answer with a whole
/// page.
pub(crate) const MAX_MESSAGE_CHARS: usize = 300;
