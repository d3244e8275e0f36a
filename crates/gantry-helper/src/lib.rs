//! What runs in the job pod: the agent that carries out a `PodPlan`, the shim that runs the user's
//! scripts, the bridge between a manager's `exec` and the agent, and the children that move
//! artifacts.
//!
//! It knows nothing of Kubernetes and never decides what a job consists of: that is the plan's.
//! Start reading at [`main`], then `agent/mod.rs` and `shim/mod.rs`. What both need from outside is
//! in [`ports`].

// Nothing else would say so: what is pushed would only fail in the first image with another C
// library.
#[cfg(all(target_os = "linux", not(debug_assertions), not(target_feature = "crt-static")))]
compile_error!(
    "a helper must be static, to run in every image: RUSTFLAGS, or a cargo configuration that is nearer, hides this project's \
     .cargo/config.toml; add `-C target-feature=+crt-static` there"
);

mod agent;
mod archive;
mod bridge;
mod cli;
mod clock;
mod diagnostics;
mod event;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod layout;
mod limits;
mod official;
mod outlet;
pub mod ports;
mod process;
mod reach;
mod shim;
mod stages;
mod tasks;
mod trees;

pub use agent::{Parts as AgentParts, SelfReportAfter, TraceFile, carry_out};
pub use cli::main;
pub use clock::Clock;
pub use diagnostics::send_diagnostics_to;
pub use shim::follow_agent;

/// Parts that benchmarks measure alone, in one process.
pub mod measured {
    pub use crate::agent::journal_alone as journal;
    pub use crate::archive::pack_alone as pack;
}

/// Version and fingerprint of the sources, as `gantry-helper --version` shows them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (build ", env!("GANTRY_HELPER_BUILD"), ")");
