//! One job: from the moment it was taken to the moment its pod is gone. `machine.rs` decides, `task.rs` performs; the rest are the parts
//! of the performance.

mod connection;
mod effects;
mod events;
mod ledger;
mod log;
mod machine;
mod shimless;
mod task;
mod watcher;

pub(crate) use events::JobEnd;
pub(crate) use log::HeadLog;
pub(crate) use task::{JobParts, JobSummary, JobView, LEAVE, StopJobs, run};
