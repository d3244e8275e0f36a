//! Reporting without a manager: when none has been there for a while the agent ships its trace and
//! verdict to GitLab itself, with the same relay that managers use. A manager that comes back takes
//! over at once. Best effort: not every pod can reach GitLab.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use gantry_core::error_chain::chain;
use gantry_core::limits::JOB_TOKEN_ALLOWANCE;
use gantry_core::proxy::Proxies;
use gantry_gitlab::{ClientOptions, JobCredentials, ProxySettings, RunnerInfo};
use gantry_relay::{FinishedTrace, Input, Pace, RelayEnd, RelayJob, Report};
use gantry_wire::plan::{PodPlan, ProxyPlan};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::known::{KnownJob, SharedJob};
use super::manager::ConnectionContext;
use super::presence::{Presence, PresenceState};
use super::published::{Published, TraceFile, TraceReader};
use crate::clock::Deadline;
use crate::diagnostics::say;
use crate::event::{Event, SelfReportEvent};
use crate::limits;
use crate::ports::Connect;

/// How long the agent waits for managers before it reports by itself.
#[derive(Clone, Copy, Debug)]
pub struct SelfReportAfter {
    /// While the job runs; otherwise as the plan says.
    running: Option<Duration>,
    spread: Duration,
    verdict: Duration,
    terminating: Duration,
}

impl Default for SelfReportAfter {
    fn default() -> Self {
        Self {
            running: None,
            spread: limits::SELF_REPORT_SPREAD,
            verdict: limits::SELF_REPORT_VERDICT,
            terminating: limits::SELF_REPORT_TERMINATING,
        }
    }
}

impl SelfReportAfter {
    /// The same in every situation.
    pub(crate) fn always(wait: Duration) -> Self {
        Self { running: Some(wait), spread: Duration::ZERO, verdict: wait, terminating: wait }
    }

    /// How long to wait; `planned` is what the plan says about a job that runs.
    fn of(self, published: &Published, job_id: i64, planned: Duration) -> Duration {
        if published.disrupted {
            self.terminating
        } else if published.state.closed.is_some() {
            self.verdict
        } else {
            let running = self.running.unwrap_or(planned);
            let share = u32::try_from(job_id.rem_euclid(16)).unwrap_or(0);
            running + self.spread * share / 16
        }
    }
}

/// The agent's own relay.
pub(crate) struct SelfReporter {
    trace: TraceFile,
    published: watch::Receiver<Published>,
    managers: watch::Receiver<PresenceState>,
    presence: Presence,
    self_report_after: SelfReportAfter,
    connect: Connect,
    known: SharedJob,
    contact: Arc<watch::Sender<Contact>>,
}

/// Whether anybody outside can be reached, as far as known.
#[derive(Clone, Copy, Debug)]
struct Contact {
    /// The last time that somebody was.
    last: Instant,
    /// GitLab does not take what is reported, or nothing can be reported.
    is_troubled: bool,
    /// The engine was told that it has been too long.
    is_given_up: bool,
}

impl SelfReporter {
    pub(crate) fn new(door: &ConnectionContext, (self_report_after, connect): (SelfReportAfter, Connect)) -> Self {
        let ConnectionContext { trace, published, known, presence, seen: managers, .. } = door.clone();
        let contact = Contact { last: Instant::now(), is_troubled: false, is_given_up: false };
        let contact = Arc::new(watch::Sender::new(contact));
        Self { trace, published, managers, presence, self_report_after, connect, known, contact }
    }

    /// Relays whenever no manager does, until GitLab has the verdict or wants nothing more.
    pub(crate) async fn run(mut self, events: mpsc::Sender<Event>) {
        loop {
            self.until_alone().await;
            let Some(KnownJob { plan, deadline, .. }) = self.known.get().cloned() else { return };
            say(format_args!("no manager is there; reporting to GitLab directly"));
            let _ = events.send(Event::SelfReport(SelfReportEvent::Begun)).await;
            let mut managers = self.managers.clone();
            self.presence.set_alone(true);
            let abandon_after = Duration::from_millis(plan.alone.abandon_after_ms);
            let news = tokio::select! {
                news = self.round(&plan, deadline, &events) => news,
                _ = managers.wait_for(|seen| seen.connected) => None,
                never = give_up(&self.contact, abandon_after, &events) => match never {},
            };
            self.presence.set_alone(false);
            if let Some(news) = news {
                let _ = events.send(Event::SelfReport(news)).await;
                return;
            }
        }
    }

    /// Relays once. Nothing if that has to begin anew, after a pause.
    async fn round(&self, plan: &PodPlan, deadline: Deadline, events: &mpsc::Sender<Event>) -> Option<SelfReportEvent> {
        match self.relay(plan, deadline, events).await {
            RelayEnd::Delivered => return Some(SelfReportEvent::Delivered),
            RelayEnd::Aborted(reason) => return Some(SelfReportEvent::Unwanted(reason.to_string())),
            RelayEnd::GaveUp { message } => say(format_args!("GitLab could not be told about the job: {message}")),
            // The feeder has said why.
            RelayEnd::Stopped => {}
        }
        self.contact.send_modify(|contact| contact.is_troubled = true);
        sleep(limits::SELF_REPORT_PAUSE).await;
        None
    }

    /// Waits until there is something to report, and no manager has been there for long enough. A
    /// job that was never told to start has nothing to report until it has ended: its manager may
    /// have given it back.
    async fn until_alone(&mut self) {
        loop {
            let wait = {
                let published = self.published.borrow_and_update();
                let (connected, since) = {
                    let seen = self.managers.borrow_and_update();
                    (seen.connected, seen.since)
                };
                match self.known.get() {
                    Some(KnownJob { plan, .. })
                        if !connected && (published.started || published.state.closed.is_some()) =>
                    {
                        let planned = Duration::from_millis(plan.alone.self_report_after_ms);
                        Some(since + self.self_report_after.of(&published, plan.job_id, planned))
                    }
                    _ => None,
                }
            };
            if wait.is_some_and(|at| Instant::now() >= at) {
                let since = self.managers.borrow().since;
                self.contact.send_modify(|contact| {
                    contact.last = contact.last.max(since);
                    contact.is_troubled = false;
                });
                return;
            }
            tokio::select! {
                _ = self.published.changed() => {}
                _ = self.managers.changed() => {}
                () = sleep_until(wait.unwrap_or_else(Instant::now)), if wait.is_some() => {}
            }
        }
    }

    async fn relay(&self, plan: &PodPlan, deadline: Deadline, events: &mpsc::Sender<Event>) -> RelayEnd {
        // A job without output has nothing confirmed for hours although all is well: any answer
        // shows that GitLab is there.
        let contact = Arc::clone(&self.contact);
        let options = ClientOptions {
            ca_pem: plan.coordinator.ca_pem.clone(),
            identity: plan.coordinator.identity.clone(),
            proxy: proxies(plan.coordinator.proxies.as_ref()),
            on_request: Some(Arc::new(move |call| {
                if (200..300).contains(&call.status) {
                    contact.send_modify(|contact| contact.last = Instant::now());
                }
            })),
            ..ClientOptions::new(&plan.coordinator.url)
        };
        let client = match (self.connect)(options) {
            Ok(client) => client,
            Err(error) => return RelayEnd::GaveUp { message: chain(&error) },
        };
        let job = RelayJob {
            creds: JobCredentials { id: plan.job_id, token: plan.job_token.clone() },
            info: RunnerInfo::kubernetes("bash", BTreeMap::new()),
            debug_trace: plan.trace.debug_trace,
            failure_reasons: plan.failure_reasons.clone(),
            acknowledged: self.published.borrow().started,
            final_tries: limits::FINAL_TRIES,
            deadline: Instant::now() + deadline.remaining() + JOB_TOKEN_ALLOWANCE,
            pace: Pace::default(),
        };
        let (inputs, for_relay) = mpsc::channel(limits::SELF_REPORT_INPUTS);
        let (to_us, reports) = mpsc::channel(limits::SELF_REPORT_REPORTS);
        let offset = self.managers.borrow().acked;
        let feeder = Feeder {
            reader: TraceReader::new(self.trace.clone(), self.published.clone()),
            published: self.published.clone(),
            offset,
            begun: false,
            closed: false,
            contact: Arc::clone(&self.contact),
        };
        tokio::select! {
            end = gantry_relay::run(client, job, for_relay, to_us) => end,
            () = feeder.feed(inputs, reports, events) => RelayEnd::Stopped,
        }
    }
}

/// The manager's proxies; without any, those of the pod's own environment.
fn proxies(planned: Option<&ProxyPlan>) -> ProxySettings {
    planned.map_or(ProxySettings::Environment, |ProxyPlan { http, https, no_proxy }| {
        ProxySettings::Given(Proxies::new(Some(http.expose()), Some(https.expose()), no_proxy))
    })
}

/// Tells the engine, once, that nobody could be reached for `abandon_after`, with trouble at the
/// end of it.
async fn give_up(
    contact: &watch::Sender<Contact>,
    abandon_after: Duration,
    events: &mpsc::Sender<Event>,
) -> Infallible {
    let mut seen = contact.subscribe();
    loop {
        let Contact { last, is_troubled, is_given_up } = *seen.borrow_and_update();
        tokio::select! {
            _ = seen.changed() => {}
            () = sleep_until(last + abandon_after), if is_troubled && !is_given_up => {
                contact.send_modify(|contact| contact.is_given_up = true);
                let _ = events.send(Event::SelfReport(SelfReportEvent::Abandoned(abandon_after))).await;
            }
        }
    }
}

/// Gives a relay what it wants.
struct Feeder {
    reader: TraceReader,
    published: watch::Receiver<Published>,
    offset: u64,
    /// The relay knows where the trace starts for it.
    begun: bool,
    /// The relay knows the verdict.
    closed: bool,
    contact: Arc<watch::Sender<Contact>>,
}

impl Feeder {
    async fn feed(
        mut self,
        inputs: mpsc::Sender<Input>,
        mut reports: mpsc::Receiver<Report>,
        events: &mpsc::Sender<Event>,
    ) {
        loop {
            let input = match self.next_input() {
                Ok(input) => input,
                Err(error) => {
                    say(format_args!("the trace cannot be read: {error}"));
                    return;
                }
            };
            let nothing = input.is_none();
            tokio::select! {
                report = reports.recv() => match report {
                    Some(report) => self.on_report(report, events).await,
                    // The relay is ending and says itself how.
                    None => std::future::pending().await,
                },
                permit = inputs.reserve(), if !nothing => {
                    let (Ok(permit), Some(input)) = (permit, input) else { return std::future::pending().await };
                    self.given(&input);
                    permit.send(input);
                }
                _ = self.published.changed(), if nothing => {}
            }
        }
    }

    /// The next thing to give, if there is one.
    fn next_input(&mut self) -> std::io::Result<Option<Input>> {
        self.published.mark_unchanged();
        let offset = self.offset;
        if let Some(bytes) = self.reader.piece(offset)? {
            return Ok(Some(Input::Trace { offset, bytes }));
        }
        if !self.begun {
            return Ok(Some(Input::Trace { offset, bytes: bytes::Bytes::new() }));
        }
        let closed = self.published.borrow().state.closed.clone();
        Ok(closed.filter(|_| !self.closed).map(|closed| {
            Input::Closed(Box::new(FinishedTrace {
                verdict: closed.verdict,
                trace_bytes: closed.trace_bytes,
                trace_crc32: closed.trace_crc32,
            }))
        }))
    }

    fn given(&mut self, input: &Input) {
        match input {
            Input::Trace { bytes, .. } => {
                self.begun = true;
                self.offset += bytes.len() as u64;
            }
            _ => self.closed = true,
        }
    }

    async fn on_report(&mut self, report: Report, events: &mpsc::Sender<Event>) {
        match report {
            Report::WantFrom(offset) => self.offset = offset,
            Report::CancelRequested => {
                let _ = events.send(Event::SelfReport(SelfReportEvent::Cancel)).await;
            }
            Report::Acked(_) => {}
            Report::Trouble(trouble) => {
                let was_troubled = self.contact.borrow().is_troubled;
                self.contact.send_modify(|contact| contact.is_troubled = trouble.is_some());
                if let Some(trouble) = trouble.filter(|_| !was_troubled) {
                    say(format_args!("GitLab does not take reports: {trouble}"));
                }
            }
            Report::Ahead { server, ours } => {
                say(format_args!("GitLab has {server} bytes of the trace and was given {ours}; it goes on from there"));
            }
            Report::Diverged { server, ours } => {
                say(format_args!("GitLab has {server} bytes of a trace of {ours}; no more is sent"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use gantry_gitlab::{Body, ByteStream, Client, Timeouts, Transport, TransportError};

    use super::*;

    /// Never answers.
    struct Silent;

    impl Transport for Silent {
        fn send(
            &self,
            _: http::Request<Body>,
            _: Timeouts,
        ) -> futures::future::BoxFuture<'_, Result<http::Response<ByteStream>, TransportError>> {
            Box::pin(std::future::pending())
        }
    }

    fn plan() -> PodPlan {
        let plan = serde_json::json!({
            "job_id": 7, "job_token": "t", "manager_host": "", "timeout_seconds": 7200, "remaining_ms": 7_200_000,
            "coordinator": {
                "url": "https://gitlab.test", "upload_timeout_ms": 1, "response_header_timeout_ms": 1
            },
            "after_script_timeout_ms": 1, "after_script_ignore_errors": true,
            "paths": { "builds_dir": "", "project_dir": "", "temp_dir": "" },
            "environment": [], "stages": [], "wait_for_services": false, "failure_reasons": [],
            "trace": {
                "head": "", "masks": [], "token_prefixes": [], "timestamps": false, "sections": false,
                "limit_bytes": 1, "debug_trace": false
            },
            "alone": { "self_report_after_ms": 120_000, "abandon_after_ms": 1_500_000 }
        });
        serde_json::from_value(plan).unwrap()
    }

    /// A reporter of a job that runs, whose trace cannot be read.
    fn reporter(connect: Connect) -> (SelfReporter, watch::Sender<Published>) {
        let published = Published { started: true, in_file: 5, ..Published::default() };
        let (publisher, published) = watch::channel(published);
        let (presence, seen) = Presence::new();
        let known = SharedJob::default();
        let deadline = crate::clock::Clock::Timers.after(Duration::from_hours(2));
        known.set(KnownJob { plan: Arc::new(plan()), deadline, shim_by: None }).unwrap();
        let trace = TraceFile::named("/nowhere".into());
        let (events, _) = mpsc::channel(1);
        let door = ConnectionContext { trace, published, known, events, presence, seen };
        (SelfReporter::new(&door, (SelfReportAfter::default(), connect)), publisher)
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_is_given_up_also_where_no_client_can_be_made() {
        // GitLab may have answered since the manager was there last.
        for heard in [Duration::ZERO, Duration::from_mins(1)] {
            let (reporter, _publisher) = reporter(Arc::new(|_| Client::new(ClientOptions::new("nonsense"))));
            reporter.contact.send_modify(|contact| contact.last += heard);
            let begun = Instant::now();
            let (events, mut inbox) = mpsc::channel(64);
            let mut given_up = Vec::new();
            let reading = async {
                while let Some(event) = inbox.recv().await {
                    if matches!(event, Event::SelfReport(SelfReportEvent::Abandoned(_))) {
                        given_up.push(begun.elapsed());
                    }
                }
            };
            let both = async { tokio::join!(reporter.run(events), reading) };
            tokio::time::timeout(Duration::from_hours(2), both).await.unwrap_err();
            let [at] = given_up[..] else { panic!("{given_up:?}") };
            assert_eq!(at.as_secs(), (Duration::from_mins(25) + heard).as_secs());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_trace_that_cannot_be_read_is_tried_once_a_minute() {
        let clients = Arc::new(AtomicUsize::new(0));
        let made = Arc::clone(&clients);
        let (reporter, _publisher) = reporter(Arc::new(move |options| {
            made.fetch_add(1, Ordering::Relaxed);
            Client::with_transport(options, Arc::new(Silent))
        }));
        let (events, mut inbox) = mpsc::channel(64);
        let reading = async { while inbox.recv().await.is_some() {} };
        let both = async { tokio::join!(reporter.run(events), reading) };
        tokio::time::timeout(Duration::from_mins(12), both).await.unwrap_err();
        assert_eq!(clients.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn the_managers_proxies_are_used() {
        let plan = ProxyPlan { http: "".into(), https: "proxy:3128".into(), no_proxy: ".internal".to_owned() };
        let ProxySettings::Given(given) = proxies(Some(&plan)) else { panic!("not those of the plan") };
        let of = |scheme, host| given.of(scheme, host, 443).map(|proxy| proxy.expose().to_owned());
        assert_eq!(of("https", "gitlab.test").as_deref(), Some("http://proxy:3128"));
        assert_eq!((of("http", "gitlab.test"), of("https", "gitlab.internal")), (None, None));
        assert_eq!(proxies(None), ProxySettings::Environment);
    }

    #[test]
    fn patience_depends_on_what_is_at_stake() {
        let self_report_after = SelfReportAfter::default();
        let mut published = Published::default();
        let planned = Duration::from_secs(120);
        assert!(self_report_after.of(&published, 7, planned) >= planned);
        assert!(self_report_after.of(&published, -1, planned) <= planned + limits::SELF_REPORT_SPREAD);
        published.disrupted = true;
        assert_eq!(self_report_after.of(&published, 7, planned), limits::SELF_REPORT_TERMINATING);
    }
}
