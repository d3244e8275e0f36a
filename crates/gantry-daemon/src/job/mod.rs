//! One job: from the moment it was taken, or found, to the moment its pod is gone. `machine.rs`
//! decides, `task.rs` performs; the rest are the parts of the performance.

mod background;
mod cache_signer;
mod events;
mod feed;
mod known;
mod link;
mod log;
mod logins;
mod machine;
mod particulars;
mod parts;
mod shimless;
mod task;
mod timers;
mod watched;

pub(crate) use background::persistence;
pub(crate) use cache_signer::CacheSigner;
pub(crate) use log::HeadLog;
pub(crate) use machine::{LEAVE, never_began};
pub(crate) use parts::{AdoptedParts, Clients, JobParts};
pub(crate) use task::{adopt, run};
