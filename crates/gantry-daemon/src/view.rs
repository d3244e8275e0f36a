//! What a job shows of itself while it runs: written by its task, read by whoever wants to know.

use tokio::time::Instant;

use crate::moments::Moments;

/// What others may know about a job that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JobView {
    /// The stage that runs, as the metric label has it.
    pub(crate) stage: String,
    /// Name of the pod, once it exists.
    pub(crate) pod: String,
    /// When what has happened.
    pub(crate) moments: Moments,
}

impl JobView {
    /// The pod exists.
    pub(crate) fn created(&mut self, pod: &str) {
        pod.clone_into(&mut self.pod);
        self.moments.created.get_or_insert_with(Instant::now);
    }

    /// A stage runs, or none.
    pub(crate) fn begin(&mut self, stage: String) {
        self.moments.begin(&stage);
        self.stage = stage;
    }
}
