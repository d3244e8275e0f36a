//! Every number that bounds a conversation over HTTP, whatever it is about, each with its reason.

use std::time::Duration;

/// Tries of one call against a server that pushes back, the first included (GitLab Runner 19.4,
/// `network/retry_requester.go`).
pub(crate) const INNER_TRIES: u32 = 5;

/// First wait between inner tries where the server names none (GitLab Runner 19.4); it and those
/// that follow are shortened by up to half.
pub(crate) const INNER_BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// Longest server-given wait that is obeyed inside one call. GitLab counts requests per minute, so
/// one minute always reaches the next window; the reference obeys any number and can stand still
/// for hours.
pub(crate) const MAX_SERVER_WAIT: Duration = Duration::from_secs(60);

/// Time that one more try needs at least: an answer from the other side of the world, connection
/// and TLS included.
pub(crate) const LEAST_TRY: Duration = Duration::from_secs(1);

/// How often files with certificates and keys are looked at, while requests are made: a new one is
/// used within seconds, and looking costs microseconds.
pub const LOOK_AT_FILES: Duration = Duration::from_secs(1);

/// Time for a connection to be made, TLS included (GitLab Runner 19.4: 30 s to dial, 10 s for the
/// handshake).
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(40);

/// Redirects followed for one request (GitLab Runner 19.4 and most browsers allow 10).
pub const MAX_REDIRECTS: u32 = 10;

/// How long the body of an answer is read that only brings words for an error, or nothing: it comes
/// with the head, or is of no use.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Idle connections kept per host: polls, traces and states of many jobs share them.
pub(crate) const MAX_IDLE_CONNECTIONS: usize = 100;

/// How long an idle connection is kept, each of which takes 26 KiB: longer than a silent job waits
/// between two signs of life, but not until jobs that began together send the next parts of their
/// logs, a minute later (GitLab Runner 19.4: 90 s).
pub(crate) const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle time before TCP probes a connection (GitLab Runner 19.4: 30 s).
pub(crate) const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Age of connections where `connection_max_age` does not say otherwise (GitLab Runner 19.4: 15
/// minutes).
pub(crate) const CONNECTION_MAX_AGE: Duration = Duration::from_secs(900);

/// Most of an answer's body that is read only to keep its connection: what pushes back says so in a
/// few hundred bytes, or with a page.
pub(crate) const MAX_DRAINED: usize = 1024 * 1024;
