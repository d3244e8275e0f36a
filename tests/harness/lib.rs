//! What the end-to-end tests are made of: the shipped binaries, started as their users would, and a
//! look at what they do.
//!
//! Nothing here knows how the product is made inside; only its binaries, its configuration file and
//! the interfaces of the simulators. A test gets a [`World`] and may start [`Runner`]s of its own
//! in it.

pub mod binaries;
pub mod case;
pub mod cluster;
pub mod gitlab;
pub mod helm;
pub mod http;
pub mod kube;
pub mod kubectl;
pub mod numbers;
pub mod openbao;
pub mod process;
pub mod programs;
pub mod prometheus;
pub mod proxy;
pub mod recorder;
pub mod registry;
pub mod repository;
pub mod runner;
pub mod store;
pub mod suite;
pub mod tls_front;
pub mod trace;
pub mod until;
pub mod visitor;
pub mod world;

pub use cluster::{Cluster, ClusterChoice, Need};
pub use gitlab::{GitLab, Job};
pub use helm::Helm;
pub use kube::Kube;
pub use kubectl::Kubectl;
pub use openbao::OpenBao;
pub use process::Process;
pub use proxy::Proxy;
pub use runner::{Runner, RunnerOptions, RunnerPlacement};
pub use tls_front::TlsFront;
pub use until::until;
pub use world::World;
