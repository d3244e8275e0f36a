//! The words for a job's state, as GitLab uses them on the wire.

/// Where a job is in its life. A job handed out to a two-phase runner stays `Pending` until it is
/// acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Waits for earlier jobs of its pipeline.
    Created,
    /// Waits for a person.
    Manual,
    /// Waits for its start delay.
    Scheduled,
    /// Will not run.
    Skipped,
    Pending,
    Running,
    /// Canceled while running; the runner may still finish its `after_script`.
    Canceling,
    Success,
    Failed,
    Canceled,
}

impl Status {
    /// The word on the wire (`Job-Status`, JSON).
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Manual => "manual",
            Self::Scheduled => "scheduled",
            Self::Skipped => "skipped",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// No further change will come by itself.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Skipped | Self::Success | Self::Failed | Self::Canceled)
    }

    /// A runner may send its log and artifacts.
    pub(crate) fn is_processing(self) -> bool {
        matches!(self, Self::Running | Self::Canceling)
    }
}
