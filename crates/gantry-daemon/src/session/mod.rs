//! The session server: interactive terminals in build containers and proxies to ports of a job's
//! containers, for people who come through GitLab (GitLab Runner 19.4, `session/`). Every request
//! for a job offers an address and a word that opens it; GitLab's proxy connects to that address.
//! GitLab is told both once: a manager that goes on with another's job serves what that has
//! offered, if the address leads to it (`gantry_wire::session`).
//! Nothing here decides about a job: a job asks whether somebody is in it, and may wait for that.
//!
//! [`Sessions`] are those that are open (`open.rs`), `server.rs` is the listener, `address.rs` what
//! an address means. Ways into pods are `pods/exec`, so that terminals need no right that jobs do
//! not need.

mod address;
mod answer;
mod certificate;
mod open;
mod proxy;
mod random;
mod server;
mod service_tls;
mod terminal;
mod websocket;

pub(crate) use open::{Offered, Sessions, Target, Visits};
pub(crate) use server::{SessionServer, follow};
