//! Ships a trace and a verdict to GitLab: slices of the trace, keep-alives, and one terminal state.
//! Used by the manager, and by the agent when it is alone.
//!
//! It never renders or changes a byte and never decides how a job ended. `machine.rs` decides and
//! knows neither clock nor network; `run.rs` performs. Start reading at [`run`].

mod acknowledge;
mod allowance;
mod answer_timeout;
pub mod limits;
mod machine;
mod outbox;
mod report;
mod run;
mod sum;
mod window;

pub use acknowledge::{AckOutcome, GitlabStatus, PendingEnd, acknowledge, gitlab_status, keep_pending};
pub use report::{FinishedTrace, GoneReason, Input, Pace, RelayEnd, RelayJob, Report};
pub use run::run;
