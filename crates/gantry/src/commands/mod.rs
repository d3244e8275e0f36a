//! One file per command: arguments in, exit code out.

#[cfg(not(feature = "sim"))]
pub(crate) mod absent;
#[cfg(feature = "sim")]
pub(crate) mod chaos;
pub(crate) mod config;
pub(crate) mod config_path;
mod coordinator;
#[cfg(feature = "sim")]
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod generated;
pub(crate) mod health_check;
pub(crate) mod lint;
pub(crate) mod list;
pub(crate) mod manual;
pub(crate) mod plan;
pub(crate) mod register;
pub(crate) mod reset_token;
pub(crate) mod run;
pub(crate) mod run_single;
mod runner_file;
#[cfg(feature = "sim")]
mod sim_api;
#[cfg(feature = "sim")]
pub(crate) mod sim_gitlab;
#[cfg(feature = "sim")]
pub(crate) mod sim_kubernetes;
#[cfg(feature = "sim")]
mod stamped_line;
pub(crate) mod unregister;
pub(crate) mod verify;

use std::io::{self, Write as _};
#[cfg(feature = "sim")]
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Writes to standard output what the command is there for.
///
/// # Errors
/// It cannot be written: a full disk, for instance. That nobody reads to the end is no error.
pub(crate) fn output(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("the output cannot be written"),
    }
}

/// A number of things, in words.
pub(crate) fn counted(count: usize, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {what}{end}")
}

/// Reads `host:port`, where the host may be empty, a name or an address.
#[cfg(feature = "sim")]
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let text = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    let mut found = std::net::ToSocketAddrs::to_socket_addrs(&text)
        .map_err(|error| format!("not an address host:port: {error}"))?;
    found.next().ok_or_else(|| "the name has no address".to_owned())
}

/// SIGINT and SIGTERM, each of which is heard here and ends nothing by itself.
pub(crate) struct Interrupts {
    /// Nothing where the system lets nobody hear them.
    heard: Option<(Signal, Signal)>,
}

impl Interrupts {
    /// Those that come from now on.
    pub(crate) fn listen() -> Self {
        Self { heard: signal(SignalKind::terminate()).ok().zip(signal(SignalKind::interrupt()).ok()) }
    }

    /// Ready at the next one.
    pub(crate) async fn next(&mut self) {
        let Some((terminate, interrupt)) = &mut self.heard else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

/// Ready at the first SIGINT or SIGTERM.
pub(crate) async fn interrupted() {
    Interrupts::listen().next().await;
}

/// The variables of this process that are text.
pub(crate) fn texts_of_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// After an interrupt, how long to wait for GitLab's answer to what it may have done already.
const LAST_ANSWER: Duration = Duration::from_secs(5);

/// Waits for a call that is not to be left half done: after an interrupt a little while only.
/// Returns what it gave, if it did, and whether there was an interrupt.
pub(crate) async fn even_if_interrupted<T>(call: impl Future<Output = T>) -> (Option<T>, bool) {
    tokio::pin!(call);
    tokio::select! {
        biased;
        () = interrupted() => (tokio::time::timeout(LAST_ANSWER, &mut call).await.ok(), true),
        answer = &mut call => (Some(answer), false),
    }
}

/// Threads of a manager. A job takes it ten milliseconds, most of them for encryption, so that one
/// thread serves hundreds that start in a minute; with the second nobody waits for a large job
/// description that is being read.
const MANAGER_THREADS: usize = 2;

/// The runtime of a manager. It does not grow with the machine: every thread has memory of its own.
pub(crate) fn manager_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(MANAGER_THREADS).enable_all().build()?)
}

/// The runtime of commands that serve many connections.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
