//! Asks GitLab for jobs, owns those that run, and ends in order. [`App::build`] binds and reads, [`App::run`] spawns.
//!
//! What a job is made of is decided by `gantry-plan`; how one goes on is decided in `job/machine.rs`. The daemon knows no command line and
//! no signal handler: it is told by [`Signal`]s.

mod app;
mod config_file;
mod entries;
mod health;
mod job;
mod listening;
mod log_counts;
mod metrics;
mod outside;
mod poller;
mod redaction;
mod registry;
mod rejected;
mod runner;
mod server;
mod slots;
mod strays;
mod sweep;
mod tasks;

pub use app::{App, Ended, Options, Signal, StartError, signal_channel};
pub use config_file::{ConfigError, certificate_directories, system_id};
pub use gantry_kube::{Content, HelperBinaries, HelperBinary};
pub use listening::{ListenAddress, ListenError};
pub use log_counts::CountLines;
pub use outside::{Network, Outside};
pub use redaction::{Guard, guard, redact};
pub use server::{BindError, DEFAULT_LISTEN_ADDRESS};
pub use tasks::until;
