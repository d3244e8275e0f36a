//! Performs what the machine decides: one request at a time, inputs and reports in between.

use std::pin::pin;
use std::sync::Arc;

use gantry_gitlab::Client;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::machine::{Machine, Step};
use crate::report::{Input, RelayEnd, RelayJob, Report};

/// Relays `job` until its verdict is delivered or GitLab wants nothing more.
///
/// Everything that GitLab has not confirmed must stay with the caller: dropping this future stops
/// the relay at once and loses nothing, which is also the way to stop while GitLab is unreachable
/// and the relay therefore reads no inputs. Reports never block the relay; those that are not read
/// before the end are dropped, because the end says more. They go out as whatever the caller takes.
pub async fn run<R: From<Report>>(
    client: Client,
    job: RelayJob,
    inputs: mpsc::Receiver<Input>,
    reports: mpsc::Sender<R>,
) -> RelayEnd {
    // Once: hundreds of relays wait for hours.
    let job = Arc::new(job);
    let mut relay = Relay { machine: Machine::new(Arc::clone(&job), Instant::now()), inputs, reports };
    loop {
        match relay.machine.step(Instant::now()) {
            Step::Patch { offset, bytes } => {
                // On the heap while it lasts: a relay waits for hours between requests, which take
                // several times its own room.
                let time = relay.machine.answer_by() - Instant::now();
                let call = Box::pin(client.patch_trace(&job.creds, (offset, bytes), job.debug_trace, time));
                if let Some(answer) = relay.during(call).await {
                    relay.machine.patched(answer, Instant::now());
                }
            }
            Step::Put(update) => {
                let time = relay.machine.answer_by() - Instant::now();
                let call = Box::pin(client.update_job(&job.creds, &update, &job.info, time));
                if let Some(answer) = relay.during(call).await {
                    relay.machine.updated(answer, Instant::now());
                }
            }
            Step::Wait(until) => relay.until_input(until).await,
            Step::End(end) => {
                relay.flush_reports();
                return end;
            }
        }
    }
}

struct Relay<R> {
    machine: Machine,
    inputs: mpsc::Receiver<Input>,
    reports: mpsc::Sender<R>,
}

impl<R: From<Report>> Relay<R> {
    /// Awaits a request and goes on listening and reporting meanwhile. Nothing if an input has
    /// ended the relay: the request is abandoned.
    async fn during<T>(&mut self, request: impl Future<Output = T>) -> Option<T> {
        let mut request = pin!(request);
        loop {
            tokio::select! {
                answer = &mut request => return Some(answer),
                input = self.inputs.recv(), if self.machine.wants_input(Instant::now()) => {
                    self.machine.input(input, Instant::now());
                    if self.machine.has_ended() {
                        return None;
                    }
                }
                permit = self.reports.reserve(), if !self.machine.reports().is_empty() => Self::report(&mut self.machine, permit.ok()),
            }
        }
    }

    /// Waits for one input, and reports meanwhile.
    async fn until_input(&mut self, until: Instant) {
        let mut pause = pin!(sleep_until(until));
        loop {
            tokio::select! {
                () = &mut pause => return,
                input = self.inputs.recv(), if self.machine.wants_input(Instant::now()) => {
                    self.machine.input(input, Instant::now());
                    return;
                }
                permit = self.reports.reserve(), if !self.machine.reports().is_empty() => Self::report(&mut self.machine, permit.ok()),
            }
        }
    }

    /// Sends the most urgent report; without a reader it is dropped.
    fn report(machine: &mut Machine, permit: Option<mpsc::Permit<'_, R>>) {
        if let (Some(report), Some(permit)) = (machine.reports().take(), permit) {
            permit.send(report.into());
        }
    }

    fn flush_reports(&mut self) {
        while let Some(report) = self.machine.reports().take() {
            if self.reports.try_send(report.into()).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use bytes::Bytes;
    use futures::future::BoxFuture;
    use gantry_gitlab::{
        Body, ByteStream, ClientOptions, JobCredentials, RunnerInfo, Timeouts, Transport, TransportError,
        TransportFault,
    };

    use super::*;
    use crate::report::{FinishedTrace, Pace};

    /// Answers nothing. Keeps what was sent and the seconds that were waited for an answer.
    #[derive(Default)]
    struct Dead {
        sent: Mutex<Vec<(String, u64)>>,
    }

    impl Transport for Dead {
        fn send(
            &self,
            request: http::Request<Body>,
            timeouts: Timeouts,
        ) -> BoxFuture<'_, Result<http::Response<ByteStream>, TransportError>> {
            self.sent.lock().unwrap().push((request.method().to_string(), timeouts.head.as_secs()));
            Box::pin(async move {
                tokio::time::sleep(timeouts.head).await;
                Err(TransportError::new(TransportFault::Timeout, "dead"))
            })
        }
    }

    impl Dead {
        /// What was sent, with the seconds that an answer was waited for.
        fn waited(&self) -> Vec<(String, u64)> {
            self.sent.lock().unwrap().clone()
        }
    }

    /// A relay to somebody who answers nothing.
    fn to_nobody(dead: &Arc<Dead>, inputs: mpsc::Receiver<Input>) -> impl Future<Output = RelayEnd> {
        let options = ClientOptions::new("https://gitlab.example.com");
        let client = Client::with_transport(options, Arc::clone(dead) as Arc<dyn Transport>).unwrap();
        let job = RelayJob {
            creds: JobCredentials { id: 42, token: "glcbt-1".into() },
            info: RunnerInfo::kubernetes("bash", std::collections::BTreeMap::new()),
            debug_trace: false,
            failure_reasons: Vec::new(),
            acknowledged: true,
            final_tries: 10,
            deadline: Instant::now() + Duration::from_secs(3900),
            pace: Pace::default(),
        };
        let (reports, _unread) = mpsc::channel::<Report>(1);
        run(client, job, inputs, reports)
    }

    fn sent(list: &[(&str, u64)]) -> Vec<(String, u64)> {
        list.iter().map(|(method, seconds)| ((*method).to_owned(), *seconds)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_gitlab_holds_up_little_at_first_and_gets_more_time_then() {
        let dead = Arc::new(Dead::default());
        let (inputs, relays) = mpsc::channel(1);
        let mut relay = pin!(to_nobody(&dead, relays));
        let mut during = async |time| tokio::time::timeout(time, relay.as_mut()).await.unwrap_err();
        // A keep-alive is under way when output comes.
        during(Duration::from_secs(4)).await;
        inputs.send(Input::Trace { offset: 0, bytes: Bytes::from_static(b"x") }).await.unwrap();
        during(Duration::from_secs(200)).await;
        assert_eq!(dead.waited(), sent(&[("PUT", 20), ("PATCH", 40), ("PUT", 80), ("PATCH", 120)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_final_state_waits_on_a_dead_connection_no_longer_than_anything_else() {
        let dead = Arc::new(Dead::default());
        let (inputs, relays) = mpsc::channel(1);
        let verdict = gantry_core::Ending::Canceled.verdict();
        let closed = Box::new(FinishedTrace { verdict, trace_bytes: 0, trace_crc32: None });
        inputs.send(Input::Closed(closed)).await.unwrap();
        tokio::time::timeout(Duration::from_secs(80), to_nobody(&dead, relays)).await.unwrap_err();
        assert_eq!(dead.waited(), sent(&[("PUT", 20), ("PUT", 40), ("PUT", 80)]));
    }

    #[test]
    fn a_relay_that_waits_is_small() {
        fn size<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        // Every running job has one, and its inputs a room for 32 of them.
        assert!(size(run::<Report>) < 3 * 1024, "{}", size(run::<Report>));
        assert!(size_of::<Input>() <= 48, "{}", size_of::<Input>());
    }
}
