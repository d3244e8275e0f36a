//! What runs in the job pod: the agent that carries out a `PodPlan`, the shim that runs the user's scripts, the bridge between a manager's
//! `exec` and the agent, and the children that move artifacts.
//!
//! It knows nothing of Kubernetes and never decides what a job consists of: that is the plan's. Start reading at [`main`], then
//! `agent/mod.rs` and `shim/mod.rs`. What both need from outside is in [`ports`].

mod agent;
mod archive;
mod bridge;
mod cli;
mod clock;
mod diagnostics;
mod layout;
mod limits;
pub mod ports;
mod process;
mod shim;
mod stages;
mod tasks;

pub use agent::{Parts as AgentParts, Patience, TraceFile, carry_out};
pub use cli::main;
pub use clock::Clock;
pub use diagnostics::send_diagnostics_to;
pub use shim::obey;

/// Version and fingerprint of the sources, as `gantry-helper --version` shows them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (build ", env!("GANTRY_HELPER_BUILD"), ")");
