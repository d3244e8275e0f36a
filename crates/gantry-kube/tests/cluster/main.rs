//! A real client, WebSocket exec included, against an API server in this process, on a paused
//! clock: no socket and no sleep.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and its server needs tasks"
)]

mod attach;
mod limits;
mod lists;
mod pods;
mod proxies;
mod renewal;
mod room;
mod said;
mod server;
mod watch;
