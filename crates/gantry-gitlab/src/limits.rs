//! Every number that bounds a conversation with GitLab, each with its reason.

use std::time::Duration;

/// Tries of one call against a server that pushes back, the first included (GitLab Runner 19.4, `network/retry_requester.go`).
pub const INNER_TRIES: u32 = 5;

/// Shortest wait between inner tries where the server names none (GitLab Runner 19.4).
pub const INNER_BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest server-given wait that is obeyed inside one call. GitLab counts requests per minute, so one minute always reaches the next
/// window; the reference obeys any number and can stand still for hours.
pub const MAX_SERVER_WAIT: Duration = Duration::from_secs(60);

/// Longest interval between trace updates a server can ask for (GitLab Runner 19.4: 15 minutes).
pub const MAX_UPDATE_INTERVAL: Duration = Duration::from_secs(900);

/// How often files with certificates and keys are looked at, while requests are made: a new one is used within seconds, and looking costs
/// microseconds.
pub const LOOK_AT_FILES: Duration = Duration::from_secs(1);

/// Time for a connection to be made, TLS included (GitLab Runner 19.4: 30 s to dial, 10 s for the handshake).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(40);

/// Time for the head of the answer to `jobs/request`. GitLab holds it for its polling duration, 50 s by default and settable; the reference
/// waits 10 minutes.
pub const REQUEST_JOB_TIMEOUT: Duration = Duration::from_secs(600);

/// Time for registration, verification, removal and token reset: one database transaction each.
pub const RUNNER_CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Time for `PUT jobs/<id>`: Puma ends a request after 60 s, a proxy in front may queue it for a little.
pub const UPDATE_JOB_TIMEOUT: Duration = Duration::from_secs(90);

/// Time for `PATCH trace`: 1 MiB at 10 KiB/s.
pub const PATCH_TRACE_TIMEOUT: Duration = Duration::from_secs(120);

/// Silence in the middle of an answer's body after which it is given up.
pub const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Whole upload of an artifact, where the runner's configuration does not say otherwise (GitLab Runner 19.4: 1 h).
pub const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3600);

/// From the end of an upload's body to its answer; GitLab may copy the file to object storage meanwhile (GitLab Runner 19.4: 10 minutes).
pub const UPLOAD_HEADER_TIMEOUT: Duration = Duration::from_secs(600);

/// Time for the head of a download, which object storage may have to thaw (GitLab Runner 19.4: 10 minutes).
pub const DOWNLOAD_HEAD_TIMEOUT: Duration = Duration::from_secs(600);

/// Tries of an upload (GitLab Runner 19.4), and those of one that was answered 503.
pub const UPLOAD_TRIES: u32 = 3;

/// See [`UPLOAD_TRIES`].
pub const UPLOAD_TRIES_UNAVAILABLE: u32 = 6;

/// Waits between the tries of an upload double from 1 s up to this (GitLab Runner 19.4).
pub const UPLOAD_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Redirects followed for one request (GitLab Runner 19.4 and most browsers allow 10).
pub const MAX_REDIRECTS: u32 = 10;

/// Largest job payload, after decompression. GitLab bounds a CI configuration to a few MiB; the rest are variables. It is held a few times
/// over while it is read.
pub const MAX_JOB_PAYLOAD: usize = 32 * 1024 * 1024;

/// Most JSON values in a job payload. A job with ten thousand variables has a hundred thousand; one value can take 2 bytes there and 32 here.
pub const MAX_JOB_VALUES: usize = 1_000_000;

/// Largest other answer that is read, after decompression; what the protocol sends is a few hundred bytes. The reference drains about as much.
pub const MAX_SMALL_ANSWER: usize = 1024 * 1024;

/// How long the body of an answer is read that only brings words for an error, or nothing: it comes with the head, or is of no use.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Characters of a server's words that are kept for a log line: a proxy may answer with a whole page.
pub const MAX_MESSAGE_CHARS: usize = 300;

/// Idle connections kept per host: polls, traces and states of many jobs share them.
pub const MAX_IDLE_CONNECTIONS: usize = 100;

/// How long an idle connection is kept (GitLab Runner 19.4: 90 s).
pub const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(90);

/// Idle time before TCP probes a connection (GitLab Runner 19.4: 30 s).
pub const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Age of connections where `connection_max_age` does not say otherwise (GitLab Runner 19.4: 15 minutes).
pub const CONNECTION_MAX_AGE: Duration = Duration::from_secs(900);
