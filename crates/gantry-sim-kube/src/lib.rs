//! A simulated Kubernetes cluster: an API server with TLS, tokens and RBAC, a scheduler, and a
//! kubelet whose containers are local processes. Nothing in a pod needs to know that it is
//! simulated.
//!
//! It shares no code with what it tests, keeps everything in memory, and is no place for untrusted
//! code. Start at [`SimKube`]; requests are answered in `api`, pods are run in `kubelet`, processes
//! in [`container`].
//!
//! Images have neither files nor an entry point here, unless there is an [`ImageStore`]: every
//! image name stands for the host's tools, `args` without a `command` is the command, and a
//! container with neither waits until it is told to stop.

mod account_tokens;
mod api;
mod apps;
mod auth;
mod clock;
mod cluster;
mod config;
pub mod container;
mod controllers;
mod counters;
mod error;
mod events;
mod faults;
mod ids;
mod image_store;
mod kubelet;
mod kubelet_state;
mod nodes;
mod patch;
mod pattern;
mod resources;
mod scheduler;
mod schema;
mod server;
mod store;
mod tasks;
mod validation;

pub use config::{
    Allocatable, Config, DEFAULT_EVICTION_PERIOD, DEFAULT_SYNC_PERIOD, HostTools, ImageTools, Login, PrivateImage,
    RemoteProtocol,
};
pub use error::Error;
pub use image_store::{Found, Image, ImageError, ImageStore};
pub use server::{Connector, InProcess, SimKube};
