//! Drives the simulator through HTTP as a runner and as a person would, over real sockets and with
//! real git.

mod artifacts;
mod browser;
mod faults;
mod git;
mod harness;
mod jobs;
mod page;
mod pipelines;
mod repository;
mod rules;
mod runners;
