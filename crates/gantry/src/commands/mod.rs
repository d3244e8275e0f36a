//! One file per command: arguments in, exit code out.

pub(crate) mod config_path;
mod coordinator;
pub(crate) mod dev;
pub(crate) mod list;
pub(crate) mod register;
pub(crate) mod run;
mod runner_file;
pub(crate) mod sim_gitlab;
pub(crate) mod sim_kubernetes;
pub(crate) mod unregister;
pub(crate) mod verify;

use std::net::SocketAddr;

use tokio::signal::unix::{SignalKind, signal};

/// Reads `host:port`, where the host may be empty, a name or an address.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let text = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    let mut found = std::net::ToSocketAddrs::to_socket_addrs(&text)
        .map_err(|error| format!("not an address host:port: {error}"))?;
    found.next().ok_or_else(|| "the name has no address".to_owned())
}

/// Ready at the first SIGINT or SIGTERM.
pub(crate) async fn interrupted() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Threads of a manager. A job takes it ten milliseconds, most of them for encryption, so that one thread serves hundreds that start in a minute;
/// with the second nobody waits for a large job description that is being read.
const MANAGER_THREADS: usize = 2;

/// The runtime of a manager. It does not grow with the machine: every thread has memory of its own.
pub(crate) fn manager_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(MANAGER_THREADS).enable_all().build()?)
}

/// The runtime of commands that serve many connections.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
