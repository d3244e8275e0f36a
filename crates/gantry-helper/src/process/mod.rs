//! Processes: starting them in their own group with one merged output, streaming that, killing
//! groups, reaping everything.
//!
//! Nothing here uses `tokio::process`, which would fight with the reaper over exit statuses.

pub(crate) mod descendants;
pub(crate) mod environment;
pub(crate) mod handed;
pub(crate) mod launch;
pub(crate) mod output;
pub(crate) mod reaper;
pub(crate) mod script;
pub(crate) mod shell;
