//! Asks GitLab for jobs, for one runner. A request holds a place for the job it may bring; while
//! others wait for a place it does not let GitLab hold it, so that few places serve many runners in
//! turn.

use std::future::ready;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gantry_core::{Secret, backoff};
use gantry_gitlab::{JobAnswer, JobCredentials, JobRequest, Poll};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::events::{
    GitlabUnavailable, HoldChanged, JobGarbled, JobReceived, NothingReceived, RequestFailed, RequestGivenUp,
    RunnerUnhealthy, Said as _, TokenRefused,
};
use crate::health::Asking;
use crate::hold::{Hold, HoldKind};
use crate::metrics::of;
use crate::registry::KnownRunner;
use crate::runner::{Places, Runner};
use crate::session::{Offered, Sessions};
use crate::tasks;

/// How much each kind of answer changes the number of simultaneous requests (GitLab Runner 19.4,
/// adaptive request concurrency).
const AFTER_PUSH_BACK: f64 = 0.5;
const AFTER_JOB: f64 = 1.1;
const AFTER_NOTHING: f64 = 0.95;

/// Shortest and longest rest after an answer that promises a job and holds none. Whoever sends one,
/// GitLab or a proxy before it, sends the next one just as fast; a minute is short for a repair and
/// long for a log.
const REST_AFTER_BAD_ANSWER_MIN: Duration = Duration::from_secs(1);
const REST_AFTER_BAD_ANSWER_MAX: Duration = Duration::from_mins(1);

/// How long a request is waited for that was under way when its runner ended: longer than GitLab
/// holds one for want of jobs. Until then it has the place that the runner behind it may need.
const LAST_ANSWER: Duration = Duration::from_mins(1);

/// How often it is looked whether a reason to ask for no job has gone: in memory, without a
/// request.
const HOLD_LOOK: Duration = Duration::from_secs(1);

/// What the workers of one runner share.
pub(crate) struct Polling {
    state: Mutex<State>,
    check_interval: Duration,
    ends: PollingEnd,
    /// Wakes workers that rest.
    awake: Notify,
    /// Until the last of them has ended.
    _known: KnownRunner,
}

/// When a runner asks for no more jobs.
#[derive(Clone)]
pub(crate) struct PollingEnd {
    /// It begins no more requests. One that is under way may bring a job, which GitLab fails if
    /// nobody takes it: it is given up only after a while.
    pub(crate) asks: CancellationToken,
    /// The process ends, and gives up what is under way.
    pub(crate) process: CancellationToken,
}

struct State {
    last_update: Option<String>,
    adaptive: f64,
    failures: u32,
    /// Answers in a row that promised a job and held none.
    bad_answers: u32,
    /// Workers beyond the adaptive limit look again when it changes.
    resting_until: Option<Instant>,
    /// Why no worker asks, as it was said last.
    held: Option<HoldKind>,
}

impl Polling {
    pub(crate) fn new(check_interval: Duration, ends: PollingEnd, known: KnownRunner) -> Self {
        let state =
            State { last_update: None, adaptive: 0.0, failures: 0, bad_answers: 0, resting_until: None, held: None };
        Self { state: Mutex::new(state), check_interval, ends, awake: Notify::new(), _known: known }
    }

    /// Forgets that GitLab has refused so often that it is left alone for a while: whoever has the
    /// file read again may have mended why.
    pub(crate) fn revive(&self) {
        let rested = self.with(|state| {
            state.failures = 0;
            state.resting_until.take()
        });
        if rested.is_some() {
            self.awake.notify_waiters();
        }
    }

    fn with<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Starts the workers of a runner. They end as its polling does.
pub(crate) fn begin(runner: &Arc<Runner>, polling: &Arc<Polling>) {
    for worker in 0..runner.settings.request_concurrency.get() {
        tasks::spawn(work(Arc::clone(runner), Arc::clone(polling), worker));
    }
}

/// What a worker may do now.
enum Turn {
    Rests(Duration),
    /// It asks for a job, for which it has these places. On the heap: a worker that waits for them,
    /// as long as jobs run, is small.
    Asks(Box<Places>),
}

/// One of the `request_concurrency` workers of a runner.
async fn work(runner: Arc<Runner>, polling: Arc<Polling>, worker: u32) {
    let PollingEnd { asks, process } = &polling.ends;
    let mut asking = None;
    while !asks.is_cancelled() {
        // From before it is looked whether the worker rests: whoever is woken in between is awake.
        let mut awake = pin!(polling.awake.notified());
        awake.as_mut().enable();
        let turn = turn(&runner, &polling, worker, &mut asking);
        let Some(turn) = asks.run_until_cancelled(turn).await else { return };
        let rest = match turn {
            Turn::Rests(rest) => rest,
            Turn::Asks(places) => {
                asking = Some(runner.shared.health.asks());
                let asked = Box::pin(ask(&runner, &polling, *places));
                let late = async {
                    asks.cancelled().await;
                    sleep(LAST_ANSWER).await;
                };
                tokio::select! {
                    rest = asked => rest,
                    () = process.cancelled() => return,
                    () = late => return RequestGivenUp(&runner.labels.runner).say(),
                }
            }
        };
        tokio::select! {
            () = sleep(rest) => {}
            () = awake => {}
            () = asks.cancelled() => return,
        }
    }
}

/// Waits until a worker may ask, if it may.
async fn turn(runner: &Runner, polling: &Polling, worker: u32, asking: &mut Option<Asking>) -> Turn {
    let labels = of(&runner.labels);
    let rest = polling.with(|state| state.resting_until.map(|until| until.saturating_duration_since(Instant::now())));
    if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
        runner.shared.metrics.worker_feed_failures.with_label_values(&labels).inc();
        return Turn::Rests(rest);
    }
    if worker >= limit(runner, polling) {
        runner.shared.metrics.concurrency_exceeded.with_label_values(&runner.labels.of_polls()).inc();
        *asking = None;
        return Turn::Rests(polling.check_interval);
    }
    let mut places = pin!(runner.places());
    let places = tokio::select! {
        biased;
        places = places.as_mut() => places,
        () = ready(()) => {
            *asking = None;
            places.await
        }
    };
    match places {
        Ok(places) => {
            show_hold(runner, polling, None);
            Turn::Asks(Box::new(places))
        }
        Err(hold) => {
            *asking = None;
            show_hold(runner, polling, Some(&hold));
            Turn::Rests(HOLD_LOOK)
        }
    }
}

/// Asks once; returns how long the worker rests. Dropping it gives up a request in flight: GitLab
/// fails a job that it has just handed out, after two minutes.
async fn ask(runner: &Arc<Runner>, polling: &Polling, places: Places) -> Duration {
    runner.shared.metrics.worker_feeds.with_label_values(&of(&runner.labels)).inc();
    let last_update =
        if runner.shared.slots.is_contended() { None } else { polling.with(|state| state.last_update.clone()) };
    let offered = runner.shared.sessions.as_ref().and_then(Sessions::offer);
    let in_flight = InFlight::new(runner);
    let asked = Instant::now();
    let poll = runner
        .client
        .request_job(JobRequest {
            token: &runner.settings.token,
            system_id: &runner.shared.system_id,
            info: &runner.info,
            last_update: last_update.as_deref(),
            session: offered.as_ref().map(|offered| &offered.offer),
        })
        .await;
    drop(in_flight);
    // A token that was exchanged or removed is refused, and that is no news of this runner.
    let brings_job = matches!(poll.answer, JobAnswer::Job(_) | JobAnswer::Undecodable { .. });
    if polling.ends.asks.is_cancelled() && !brings_job {
        if matches!(poll.answer, JobAnswer::NoJob | JobAnswer::Forbidden { .. }) {
            runner.shared.health.answered();
        }
        return Duration::ZERO;
    }
    learn(runner, polling, &poll);
    // The interval lies between two beginnings: a request that GitLab held until something changed
    // is followed by the next one at once.
    take(runner, polling, poll.answer, (offered, places)).saturating_sub(asked.elapsed())
}

/// Says why no job is asked for, when that changes.
fn show_hold(runner: &Runner, polling: &Polling, hold: Option<&Hold>) {
    let kind = hold.map(|hold| hold.kind);
    let before = polling.with(|state| std::mem::replace(&mut state.held, kind));
    if before != kind {
        HoldChanged(hold).tell(&runner.shared.metrics, &runner.labels);
    }
}

/// How many workers may ask at once.
fn limit(runner: &Runner, polling: &Polling) -> u32 {
    let configured = runner.settings.request_concurrency.get();
    let flag = runner.settings.feature_flags.get("FF_USE_ADAPTIVE_REQUEST_CONCURRENCY").copied();
    let adaptive = polling.with(|state| state.adaptive);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the configured number first"
    )]
    let used = if flag == Some(false) { configured } else { adaptive.ceil().clamp(1.0, f64::from(configured)) as u32 };
    let labels = runner.labels.of_polls();
    runner.shared.metrics.request_adaptive_limit.with_label_values(&labels).set(adaptive);
    runner.shared.metrics.request_used_limit.with_label_values(&labels).set(i64::from(used));
    used
}

/// Takes from an answer what it says beside the job.
fn learn(runner: &Runner, polling: &Polling, poll: &Poll) {
    let shared = &runner.shared;
    let has_job = matches!(poll.answer, JobAnswer::Job(_));
    let factor = match (poll.pushed_back, has_job) {
        (true, _) => AFTER_PUSH_BACK,
        (false, true) => AFTER_JOB,
        (false, false) => AFTER_NOTHING,
    };
    let configured = f64::from(runner.settings.request_concurrency.get());
    let is_answer = has_job || matches!(poll.answer, JobAnswer::NoJob);
    if is_answer {
        shared.health.polled(&runner.labels);
        shared.metrics.token_refused.with_label_values(&of(&runner.labels)).set(0);
        shared.metrics.last_poll.set(Timestamp::now().as_duration().as_secs_f64());
    }
    polling.with(|state| {
        state.adaptive = (state.adaptive * factor).clamp(1.0, configured);
        state.bad_answers = match poll.answer {
            JobAnswer::Undecodable { .. } => state.bad_answers.saturating_add(1),
            _ => 0,
        };
        if let Some(update) = &poll.last_update {
            state.last_update = Some(update.clone());
        }
        if poll.healthy() {
            state.failures = 0;
            return;
        }
        shared.metrics.health_failures.with_label_values(&of(&runner.labels)).inc();
        state.failures += 1;
        let (limit, pause) = (runner.settings.unhealthy_requests_limit.get(), runner.settings.unhealthy_interval);
        if state.failures >= limit {
            let failures = state.failures;
            RunnerUnhealthy { runner: &runner.labels.runner, failures, limit, pause }.say();
            state.failures = 0;
            state.resting_until = Some(Instant::now() + pause);
        }
    });
}

/// Starts the job that came, if one did; returns how long the worker rests.
fn take(
    runner: &Arc<Runner>,
    polling: &Polling,
    answer: JobAnswer,
    (offered, places): (Option<Offered>, Places),
) -> Duration {
    let name = runner.labels.runner.as_str();
    let again = if runner.settings.strict_check_interval { polling.check_interval } else { Duration::ZERO };
    match answer {
        JobAnswer::Job(received) => {
            let job = received.spec.id;
            let correlation_id = received.correlation_id.clone().unwrap_or_default();
            JobReceived { runner: name, job, correlation_id: &correlation_id }.say();
            runner.start(received, offered, places);
            return again;
        }
        JobAnswer::Undecodable { id, token, message } => {
            let rest = rest_after_bad_answers(polling.check_interval, polling.with(|state| state.bad_answers));
            JobGarbled { job: id, message: &message, rest }.tell(&runner.shared.metrics, &runner.labels);
            if let (Some(id), Some(token)) = (id, token.filter(|token: &Secret| !token.is_empty())) {
                runner.reject(JobCredentials { id, token }, message, places);
            }
            return rest;
        }
        JobAnswer::NoJob => NothingReceived(name).say(),
        JobAnswer::Forbidden { message } => {
            runner.shared.health.refused(&runner.labels);
            let refused = TokenRefused { runner: name, name: &runner.labels.name, message: &message };
            refused.tell(&runner.shared.metrics, &runner.labels);
        }
        JobAnswer::Unavailable { message } => GitlabUnavailable { runner: name, message: &message }.say(),
        JobAnswer::Failed(error) => RequestFailed { runner: name, error: &error }.say(),
    }
    polling.check_interval
}

/// The rest after the last one of `count` answers in a row that promised a job and held none: it
/// doubles.
fn rest_after_bad_answers(check_interval: Duration, count: u32) -> Duration {
    let first = check_interval.max(REST_AFTER_BAD_ANSWER_MIN);
    backoff::doubled(first, REST_AFTER_BAD_ANSWER_MAX.max(first), count)
}

/// Counts a request while it is under way.
struct InFlight<'a>(&'a Runner);

impl<'a> InFlight<'a> {
    fn new(runner: &'a Runner) -> Self {
        let in_flight = Self(runner);
        in_flight.gauge().inc();
        in_flight
    }

    fn gauge(&self) -> prometheus::IntGauge {
        self.0.shared.metrics.request_concurrency.with_label_values(&self.0.labels.of_polls())
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.gauge().dec();
    }
}

#[cfg(test)]
mod tests;
