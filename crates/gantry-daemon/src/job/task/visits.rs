//! People in a job's terminal: the job waits for them when its stages are over, as it does in the
//! reference (GitLab Runner 19.4). Its agent has closed it by then, and only GitLab is not told
//! yet.

use tokio::time::Instant;

use super::Task;
use crate::job::events::Event;
use crate::job_end::StopJobs;

impl Task {
    /// The agent has closed the job. Who is in the terminal then may stay, within the job's time.
    pub(super) fn agent_closed(&mut self) {
        if self.outcome.lingers {
            return;
        }
        let visits = self.around.visits.as_ref().filter(|visits| visits.are_there() && self.machine.may_linger());
        let Some(visits) = visits else { return self.step(Event::AgentClosed) };
        let until = self.job.known.as_ref().map_or_else(Instant::now, |known| known.until);
        let over = visits.over(until.saturating_duration_since(Instant::now()));
        self.outcome.lingers = true;
        self.background.wait_for_visits(over);
    }

    /// Whoever is in the terminal has to leave, because something else happens to the job.
    pub(super) fn end_visits(&mut self) {
        if std::mem::take(&mut self.outcome.lingers) {
            if let Some(visits) = &self.around.visits {
                visits.end();
            }
            self.step(Event::AgentClosed);
        }
    }

    /// The runner is told to stop.
    pub(super) fn told(&mut self, told: StopJobs) {
        self.end_visits();
        match told {
            StopJobs::End(signal) => self.step(Event::Stop(signal)),
            StopJobs::Leave => self.step(Event::Leave),
        }
    }
}
