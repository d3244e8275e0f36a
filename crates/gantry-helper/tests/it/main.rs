//! The real agent and the real shim, driven over the manager's socket.

mod artifacts;
mod connections;
mod ends;
mod scripts;
mod sources;
mod world;
