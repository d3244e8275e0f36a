//! The memory limit of a container: a control group where one can be made, else a watchdog. Both
//! count what they had to kill, since that is what tells an out-of-memory kill from any other.

mod cgroup;
mod watchdog;

pub(super) use cgroup::{Cgroup, Home};
pub(super) use watchdog::Watchdog;
