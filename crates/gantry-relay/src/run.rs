//! Performs what the machine decides: one request at a time, inputs and reports in between.

use std::pin::pin;

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
/// before the end are dropped, because the end says more.
pub async fn run(
    client: Client,
    job: RelayJob,
    inputs: mpsc::Receiver<Input>,
    reports: mpsc::Sender<Report>,
) -> RelayEnd {
    let mut relay = Relay { machine: Machine::new(job.clone(), Instant::now()), inputs, reports };
    loop {
        match relay.machine.step(Instant::now()) {
            Step::Patch { offset, bytes } => {
                // On the heap while it lasts: a relay waits for hours between requests, which take
                // several times its own room.
                let call = Box::pin(client.patch_trace(&job.creds, offset, bytes, job.debug_trace));
                if let Some(answer) = relay.during(call).await {
                    relay.machine.patched(answer, Instant::now());
                }
            }
            Step::Put(update) => {
                let call = Box::pin(client.update_job(&job.creds, &update, &job.info));
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

struct Relay {
    machine: Machine,
    inputs: mpsc::Receiver<Input>,
    reports: mpsc::Sender<Report>,
}

impl Relay {
    /// Awaits a request and goes on listening and reporting meanwhile. Nothing if an input has
    /// ended the relay: the request is abandoned.
    async fn during<T>(&mut self, request: impl Future<Output = T>) -> Option<T> {
        let mut request = pin!(request);
        loop {
            tokio::select! {
                answer = &mut request => return Some(answer),
                input = self.inputs.recv(), if self.machine.wants_input() => {
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
                input = self.inputs.recv(), if self.machine.wants_input() => {
                    self.machine.input(input, Instant::now());
                    return;
                }
                permit = self.reports.reserve(), if !self.machine.reports().is_empty() => Self::report(&mut self.machine, permit.ok()),
            }
        }
    }

    /// Sends the most urgent report; without a reader it is dropped.
    fn report(machine: &mut Machine, permit: Option<mpsc::Permit<'_, Report>>) {
        if let (Some(report), Some(permit)) = (machine.reports().take(), permit) {
            permit.send(report);
        }
    }

    fn flush_reports(&mut self) {
        while let Some(report) = self.machine.reports().take() {
            if self.reports.try_send(report).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_waits_is_small() {
        fn size<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        // Every running job has one.
        assert!(size(run) < 3 * 1024, "{}", size(run));
    }
}
