//! Every number that bounds a relay, each with its reason.

use std::time::Duration;

use crate::allowance::Rate;

/// Between two pieces of a trace until the server asks for another interval (GitLab Runner 19.4: 3
/// s).
pub(crate) const UPDATE_INTERVAL: Duration = Duration::from_secs(3);

/// Silence after which `PUT running` is sent while nobody watches (GitLab Runner 19.4: 30 s,
/// always). The answer is how a silent job learns that it was canceled. GitLab may drop a job after
/// 15 minutes of silence.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The same while somebody watches, who may want to cancel: 15 requests a minute, of the 200 that
/// GitLab allows.
pub(crate) const KEEP_ALIVE_WATCHED: Duration = Duration::from_secs(4);

/// The longest interval that GitLab asks for while somebody watches the log (it asks for 3 s then,
/// else for 60, older ones for 30).
pub(crate) const WATCHED_INTERVAL: Duration = Duration::from_secs(5);

/// Pieces of the trace, however much there is to send. GitLab allows 200 requests a minute for each
/// job, states and artifacts included (`runner_jobs_api`); this is 160 in the first minute and 60
/// in every other one, so 100 MiB go at once and then 1 MiB a second.
pub(crate) const PATCHES: Rate = Rate { burst: 100, every: Duration::from_secs(1) };

/// Silence of a job after which its next output does not wait for the interval.
pub const SILENCE: Duration = Duration::from_millis(500);

/// How long output that does not wait for the interval is collected: what is printed together goes
/// out together.
pub(crate) const COLLECT: Duration = Duration::from_millis(60);

/// The same for the first output of a stage while nobody watches: short stages share a request.
pub(crate) const COLLECT_UNWATCHED: Duration = Duration::from_millis(400);

/// Pieces that go out early because a silence has ended. Ten, and then no more than the keep-alives
/// that they take the place of.
pub(crate) const AFTER_SILENCE: Rate = Rate { burst: 10, every: KEEP_ALIVE };

/// Pieces that go out early because a section of the log has begun, as each stage does. A job has
/// about ten stages; scripts can begin sections as well, and get one a minute.
pub(crate) const NEW_SECTION: Rate = Rate { burst: 12, every: Duration::from_mins(1) };

/// First wait after a failed update; doubles.
pub(crate) const RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest wait after a failed update: a GitLab that comes back hears from every job within a
/// minute.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(60);

/// Largest body of one PATCH (GitLab Runner 19.4: 1 MiB).
pub const MAX_PATCH: usize = gantry_core::limits::MAX_PATCH;

/// Largest PATCH that asks how much of a trace GitLab has: a byte that it has already is the same
/// one, and no line is as short.
pub(crate) const FEELER: usize = 1;

/// Bytes held that GitLab has not confirmed: four pieces of the largest size. While it is full
/// nothing more is read, and the trace waits in the pod's file.
pub(crate) const WINDOW: usize = 4 * MAX_PATCH;

/// No trace is longer. As much again can still be counted with, so that no place and length of what
/// callers and GitLab say are too much together.
pub(crate) const MOST_TRACE: u64 = u64::MAX / 2;

/// How long nothing of a full window is taken before the rest of the trace is read all the same, to
/// hear the verdict behind it. What has no room is left out, and asked for again once there is.
pub(crate) const STUCK: Duration = Duration::from_mins(2);

/// Pieces in a row that GitLab may refuse with a status that no waiting changes (400, 404, 413, …)
/// before the final state goes out without the rest of the log: a right state matters more than a
/// full log.
pub(crate) const FINAL_REFUSALS: u32 = 5;

/// Pieces that are refused (403) between states that GitLab takes, with nothing else between them,
/// before only the log counts as refused. Where one of two servers is in maintenance mode and each
/// request meets either by chance, this many come together once in a million times.
pub(crate) const REFUSED_ROUNDS: u32 = 10;

/// How long that must go on. Each process of GitLab keeps its settings for a minute, so maintenance
/// mode begins and ends in all of them within that; a restart of all servers takes minutes.
pub(crate) const REFUSED_TIME: Duration = Duration::from_mins(5);

/// Shortly before the job token ends the final state goes out even if the log is not complete: a
/// piece of the log has half of this time, with all its tries, and the state the rest.
pub const LAST_CHANCE: Duration = Duration::from_mins(1);

/// Between two `PUT pending` while a job is prepared, of which GitLab needs one every two minutes
/// (`acknowledge.rs`): two may get lost.
pub(crate) const PENDING_INTERVAL: Duration = Duration::from_secs(30);

/// How long `PUT running` is tried against a server that does not answer: GitLab's own limit for an
/// acknowledgement.
pub(crate) const ACKNOWLEDGE_WINDOW: Duration = Duration::from_secs(120);

/// How long the answer of one try is waited for, and what a try counts of that at most: three that
/// are not answered fit, and a process that sleeps in one has not tried for all that time.
pub(crate) const ACKNOWLEDGE_TRY: Duration = Duration::from_secs(40);

/// A keep-alive that is late by this much shows that the process has slept, or that GitLab takes
/// nothing: both are reasons to ask how the job stands.
pub(crate) const SLEPT: Duration = Duration::from_secs(10);

/// How often the same part of the trace is asked for while other parts keep coming: a caller needs
/// a moment to turn back.
pub(crate) const WANT_REPEAT: Duration = Duration::from_secs(5);

/// Pieces of the trace are joined up to this size: copying it costs less than a request, and
/// keeping a piece of its own costs 32 bytes.
pub(crate) const JOINED_PIECES: usize = 4 * 1024;
