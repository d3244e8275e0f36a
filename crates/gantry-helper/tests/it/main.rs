//! The real agent and the real shim, driven over the manager's socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must stop")]
#![expect(
    clippy::disallowed_methods,
    reason = "real processes live on the real clock; every wait has a condition and a bound"
)]

mod ahead;
mod alone;
mod artifacts;
mod broken_stores;
mod caches;
mod connections;
mod ends;
mod file_variables;
mod http;
mod large_files;
mod mirror;
mod official;
mod real_stores;
mod scripts;
mod sources;
mod stopping;
mod unpack;
mod world;
