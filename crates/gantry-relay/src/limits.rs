//! Every number that bounds a relay, each with its reason.

use std::time::Duration;

/// Between two pieces of a trace until the server asks for another interval (GitLab Runner 19.4: 3 s).
pub const UPDATE_INTERVAL: Duration = Duration::from_secs(3);

/// Silence after which `PUT running` is sent (GitLab Runner 19.4: 30 s). GitLab may drop a job after 15 minutes of it.
pub const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// First wait after a failed update; doubles.
pub const RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest wait after a failed update: a GitLab that comes back hears from every job within a minute.
pub const RETRY_MAX: Duration = Duration::from_secs(60);

/// Largest body of one PATCH (GitLab Runner 19.4: 1 MiB).
pub const MAX_PATCH: usize = gantry_core::limits::MAX_PATCH;

/// Bytes held that GitLab has not confirmed: four pieces of the largest size. While it is full nothing more is read, and the trace waits in the pod's file.
pub const WINDOW: usize = 4 * MAX_PATCH;

/// Pieces in a row that GitLab may refuse with a status that no waiting changes (400, 404, 413, …) before the final state goes out without
/// the rest of the log: a right state matters more than a full log.
pub const FINAL_REFUSALS: u32 = 5;

/// Shortly before the job token ends the final state goes out even if the log is not complete: there is time for an inner round of tries for
/// the log and one for the state.
pub const LAST_CHANCE: Duration = Duration::from_mins(1);

/// `PUT pending` while a job is prepared: GitLab takes it back after 2 minutes without one, so two may get lost.
pub const PENDING_INTERVAL: Duration = Duration::from_secs(30);

/// How long `PUT running` is tried against a server that does not answer: GitLab's own limit for an acknowledgement.
pub const ACKNOWLEDGE_WINDOW: Duration = Duration::from_secs(120);

/// How often the same part of the trace is asked for while other parts keep coming: a caller needs a moment to turn back.
pub const WANT_REPEAT: Duration = Duration::from_secs(5);

/// Pieces of the trace are joined up to this size: copying it costs less than a request, and keeping a piece of its own costs 32 bytes.
pub const JOINED_PIECES: usize = 4 * 1024;
