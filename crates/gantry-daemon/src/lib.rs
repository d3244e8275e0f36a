//! Asks GitLab for jobs, owns those that run, and ends in order. [`App::build`] binds and reads,
//! [`App::run`] spawns.
//!
//! What a job is made of is decided by `gantry-plan`; how one goes on is decided in
//! `job/machine.rs`. The daemon knows no command line and no signal handler: it is told by
//! [`Signal`]s.

mod accepting;
mod app;
mod boot;
mod config_file;
pub mod config_write;
mod entries;
mod events;
mod health;
mod hold;
mod job;
mod job_end;
mod kept;
mod leftovers;
mod listening;
mod log_counts;
mod member;
mod metrics;
mod moments;
mod notices;
mod outside;
mod pause;
mod poller;
mod prepare;
mod process_limits;
mod process_metrics;
mod queuing;
mod redaction;
mod registry;
mod rejected;
mod renewals;
mod runner;
mod secrets;
mod server;
mod session;
mod site;
mod slots;
mod tasks;
mod telemetry;
pub mod trial;
mod view;
pub mod wiring;

pub use app::{App, Ended, Options, Signal, StartError, signal_channel};
pub use config_file::{CERTIFICATES, ConfigError, SYSTEM_ID_FILE, certificate_directories, kept_system_id, system_id};
pub use gantry_kube::{Content, HelperBinaries, HelperBinary, PackedHelper, loaded_length};
pub use listening::{ListenAddress, ListenError};
pub use log_counts::CountLines;
pub use metrics::{Metric, metrics_reference};
pub use outside::{Network, Outside};
pub use prepare::{CacheFound, try_cache};
pub use redaction::{Guard, guard, redact};
pub use secrets::provider as secret_provider;
pub use server::{BindError, DEFAULT_LISTEN_ADDRESS};
pub use tasks::{Life, until};
