//! A simulated GitLab coordinator that enforces the runner protocol (GitLab Runner 19.4).
//!
//! Any runner can register, ask for jobs, send logs and artifacts, and clone repositories; whatever
//! breaks a rule of the protocol is answered as GitLab would answer it and listed under
//! `/sim/violations`. The crate shares no code with Gantry's own client, so that a wrong belief
//! about the protocol cannot be on both sides, and it never writes to the repositories it serves.
//!
//! Start with [`SimGitlab`]; the rules are in `state/`, the HTTP surface in `api/`, the job payload
//! in `state/payload/`.

mod api;
mod archive;
mod children;
mod choice;
pub mod ci;
mod clock;
mod config;
mod connection;
mod copies;
mod dotenv;
mod error;
mod hub;
mod in_process;
mod limits;
mod reading;
mod repo;
mod server;
mod state;
mod tasks;
mod tokens;
mod tree;
mod variables;

pub use config::{CloneToken, Config, ProjectVariable, RateLimits, Settings, Timing, TokenAccess};
pub use error::Error;
pub use in_process::{Connector, InProcess};
pub use server::SimGitlab;
