//! The agent: PID 1 of the helper container. It is handed a `PodPlan`, carries it out stage by
//! stage, renders the trace, and closes the verdict. It never waits for a reader and never asks
//! anybody what to do next.
//!
//! `engine/` owns the job and decides; `manager.rs` and `shim_link.rs` carry frames; `journal.rs`
//! is the trace.

mod bundle;
mod charge;
mod engine;
mod journal;
mod known;
mod manager;
mod peer;
mod presence;
mod published;
mod self_report;
mod setup;
mod shim_link;
mod sockets;
mod validate;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use gantry_core::error_chain::chain;
use gantry_gitlab::Client;
use nix::sys::stat::{Mode, umask};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use self::engine::{Engine, EngineContext};
pub use self::journal::journal_alone;
use self::known::SharedJob;
use self::manager::ConnectionContext;
pub(crate) use self::peer::PeerRule;
use self::presence::Presence;
use self::published::Published;
pub use self::published::TraceFile;
pub use self::self_report::SelfReportAfter;
use self::setup::SetupError;
use self::sockets::{ManagerSocket, ShimSocket};
use crate::clock::Clock;
use crate::diagnostics::say;
use crate::event::Event;
use crate::layout::Layout;
use crate::limits::INBOX;
use crate::ports::{Connect, Listener, Workshop};
use crate::process::reaper::Reaper;
use crate::stages::Tools;
use crate::tasks;

/// What tests change about an agent.
pub(crate) struct Settings {
    /// Who may speak as a manager.
    pub(crate) peers: PeerRule,
    /// When the agent relays by itself.
    pub(crate) self_report_after: SelfReportAfter,
    /// Whether the trace's file keeps its name.
    pub(crate) keep_trace: bool,
    /// How long to wait for a plan.
    pub(crate) plan_wait: Duration,
}

/// Runs the agent until its job is reported.
pub(crate) fn run(layout: &Layout, settings: Settings) -> ExitCode {
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        say(format_args!("cannot become non-dumpable: {error}"));
    }
    // What is fetched must be writable for the build container's user, whoever that is (GitLab
    // Runner 19.4).
    let inherited_umask = umask(Mode::empty());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format_args!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(serve(layout, settings, inherited_umask));
    // File work that cannot be interrupted must not hold up the end of the pod.
    runtime.shutdown_background();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(format_args!("{}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}

async fn serve(layout: &Layout, settings: Settings, inherited_umask: Mode) -> Result<u8, SetupError> {
    let reaper = Reaper::start().map_err(SetupError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(SetupError::Signals)?;
    setup::directories(layout)?;
    // Sockets first: the shim connects as soon as its binary is there.
    let managers = setup::listen(&layout.manager_socket(), 0o600)?;
    let shim = setup::listen(&layout.shim_socket(), 0o666)?;
    setup::publish_binary(layout)?;
    let terminations = stream::poll_fn(move |context| terminate.poll_recv(context));
    let parts = Parts {
        managers: ManagerSocket { listener: managers, peers: settings.peers },
        shim: ShimSocket { listener: shim, path: layout.shim_socket() },
        terminations: terminations.boxed(),
        workshop: Arc::new(Tools { layout: layout.clone(), reaper, inherited_umask, ahead: Arc::default() }),
        trace_file: if settings.keep_trace { TraceFile::named } else { TraceFile::nameless }(layout.trace_file()),
        clock: Clock::Boot,
        self_report_after: settings.self_report_after,
        connect: Arc::new(Client::new),
        plan_wait: settings.plan_wait,
    };
    Ok(carry_out(parts).await)
}

/// What an agent works with.
pub struct Parts<M, S> {
    /// Where managers come in.
    pub managers: M,
    /// Where the shim comes in, once.
    pub shim: S,
    /// Says whenever the pod is told to end.
    pub terminations: BoxStream<'static, ()>,
    /// Does the stages that run here.
    pub workshop: Arc<dyn Workshop>,
    /// Where the trace is kept.
    pub trace_file: TraceFile,
    /// What deadlines are kept on.
    pub clock: Clock,
    /// When the agent relays by itself.
    pub self_report_after: SelfReportAfter,
    /// How it reaches GitLab then.
    pub connect: Connect,
    /// How long it waits for a plan: as long as the pod may take to start.
    pub plan_wait: Duration,
}

/// Waits for a plan, carries it out and waits until the verdict is reported. Gives the exit code;
/// all tasks end with the future.
pub async fn carry_out<M: Listener, S: Listener>(parts: Parts<M, S>) -> u8 {
    let (events, inbox) = mpsc::channel(INBOX);
    let (published, readers) = watch::channel(Published::default());
    let (presence, managers_seen) = Presence::new();
    let alone = (parts.self_report_after, parts.connect);
    let door = ConnectionContext {
        trace: parts.trace_file.clone(),
        published: readers,
        known: SharedJob::default(),
        events: events.clone(),
        presence,
        seen: managers_seen.clone(),
    };
    let known = Arc::clone(&door.known);
    let relaying = tasks::spawn(self_report::SelfReporter::new(&door, alone).run(events.clone()));
    let accepting = tasks::spawn(manager::accept(parts.managers, door));
    let shim = tasks::spawn(shim_link::accept(parts.shim, events.clone()));
    let signals = {
        let (events, mut terminations) = (events.clone(), parts.terminations);
        tasks::spawn(async move {
            while terminations.next().await.is_some() && events.send(Event::Terminated).await.is_ok() {}
        })
    };
    let (trace_file, workshop, clock) = (parts.trace_file, parts.workshop, parts.clock);
    let surroundings = EngineContext { trace_file, workshop, clock, events, published, known, managers: managers_seen };
    let code = Engine::new(surroundings, inbox).run(parts.plan_wait).await;
    drop((accepting, relaying, shim, signals));
    code
}
