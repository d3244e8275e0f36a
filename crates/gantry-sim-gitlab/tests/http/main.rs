//! Drives the simulator through HTTP as a runner and as a person would, over real sockets and with real git.

mod artifacts;
mod git;
mod harness;
mod jobs;
mod pipelines;
mod runners;
