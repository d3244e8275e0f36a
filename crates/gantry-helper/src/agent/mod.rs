//! The agent: PID 1 of the helper container. It is handed a `PodPlan`, carries it out stage by stage, renders the trace, and closes the
//! verdict. It never waits for a reader and never asks anybody what to do next.
//!
//! `engine/` owns the job and decides; `manager.rs` and `shim_link.rs` carry frames; `journal.rs` is the trace.

mod engine;
pub(crate) mod event;
mod journal;
mod lone;
mod manager;
mod peer;
mod presence;
mod published;
pub(crate) mod script_environment;
mod setup;
mod shim_link;
mod validate;

use std::process::ExitCode;

use gantry_core::error_chain::chain;
use nix::sys::stat::{Mode, umask};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use self::engine::{Engine, Surroundings};
use self::event::Event;
pub(crate) use self::lone::Patience;
pub(crate) use self::peer::PeerRule;
use self::presence::Presence;
use self::published::Published;
use self::setup::SetupError;
use crate::diagnostics::say;
use crate::layout::Layout;
use crate::limits::INBOX;
use crate::process::reaper::Reaper;
use crate::tasks;

/// What tests change about an agent.
pub(crate) struct Settings {
    /// Who may speak as a manager.
    pub(crate) peers: PeerRule,
    /// When the agent relays by itself.
    pub(crate) patience: Patience,
}

/// Runs the agent until its job is reported.
pub(crate) fn run(layout: &Layout, settings: Settings) -> ExitCode {
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        say(format_args!("cannot become non-dumpable: {error}"));
    }
    // What is fetched must be writable for the build container's user, whoever that is (GitLab Runner 19.4).
    umask(Mode::empty());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format_args!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(serve(layout, settings));
    // File work that cannot be interrupted must not hold up the end of the pod.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => {
            say(format_args!("{}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}

async fn serve(layout: &Layout, settings: Settings) -> Result<ExitCode, SetupError> {
    let reaper = Reaper::start().map_err(SetupError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(SetupError::Signals)?;
    setup::directories(layout)?;
    // Sockets first: the shim connects as soon as its binary is there.
    let managers = setup::listen(&layout.manager_socket(), 0o600)?;
    let shim = setup::listen(&layout.shim_socket(), 0o666)?;
    setup::publish_binary(layout)?;
    let (events, inbox) = mpsc::channel(INBOX);
    let (published, readers) = watch::channel(Published::default());
    let (presence, managers_seen) = Presence::new();
    let lone = lone::Lone::new(layout.trace_file(), readers.clone(), managers_seen, settings.patience);
    let known = lone.known();
    let relaying = tasks::spawn(lone.run(events.clone()));
    let to_engine = (events.clone(), presence);
    let accepting = tasks::spawn(manager::accept(managers, settings.peers, layout.trace_file(), readers, to_engine));
    let shim = tasks::spawn(shim_link::accept(shim, layout.shim_socket(), events.clone()));
    let signals = {
        let events = events.clone();
        tasks::spawn(async move {
            while terminate.recv().await.is_some() && events.send(Event::Terminated).await.is_ok() {}
        })
    };
    let surroundings = Surroundings { layout: layout.clone(), reaper, events, published, known };
    let code = Engine::new(surroundings, inbox).run().await;
    drop((accepting, relaying, shim, signals));
    Ok(code)
}
