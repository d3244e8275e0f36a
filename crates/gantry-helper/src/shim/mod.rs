//! The shim: PID 1 of the build container. It runs one script at a time as the agent tells it,
//! streams the output, says how the script ended, and reaps whatever is left. It decides nothing,
//! keeps nothing, and ends when its agent does.
//!
//! `container.rs` is the container's shell, `running.rs` a script in it.

mod background;
mod connection;
mod container;
mod oom;
mod running;
mod usage;

use std::process::ExitCode;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use gantry_core::error_chain::chain;
use gantry_wire::PROTOCOL;
use gantry_wire::shim::{Run, ShimFrame, ShimHello};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use self::connection::{Connection, ConnectionError};
use self::container::ContainerShell;
use crate::diagnostics::say;
use crate::layout::Layout;
use crate::limits::{CONNECT_PAUSE, SHIM_CONNECT, USAGE_PERIOD};
use crate::ports::{Process as _, ProcessEvent, Shell};
use crate::process::reaper::Reaper;

/// Exit code of a shim whose agent is gone or talks nonsense.
const LOST: u8 = 1;
/// Exit code of a shim that was told to end before it had an agent: 128 plus TERM.
const TERMINATED: u8 = 143;

/// Why the shim ends.
#[derive(Debug, thiserror::Error)]
enum ShimError {
    #[error("cannot set up signals")]
    Signals(#[source] std::io::Error),
    #[error("no agent answered at {path}: is the helper container running?")]
    Connect {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the agent's connection broke")]
    Connection(#[source] ConnectionError),
}

/// Runs the shim until the agent lets it go.
pub(crate) fn run(layout: &Layout) -> ExitCode {
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        say(format_args!("cannot become non-dumpable: {error}"));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format_args!("cannot start: {error}"));
            return ExitCode::from(LOST);
        }
    };
    match runtime.block_on(serve(layout)) {
        Ok(code) => code,
        Err(error) => {
            say(format_args!("{}", chain(&error)));
            ExitCode::from(LOST)
        }
    }
}

async fn serve(layout: &Layout) -> Result<ExitCode, ShimError> {
    let reaper = Reaper::start().map_err(ShimError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ShimError::Signals)?;
    let stream = tokio::select! {
        stream = connect(layout) => stream?,
        _ = terminate.recv() => return Ok(ExitCode::from(TERMINATED)),
    };
    follow_agent(
        stream,
        ContainerShell::new(reaper),
        stream::poll_fn(move |context| terminate.poll_recv(context)).boxed(),
    )
    .await
    .map_err(ShimError::Connection)?;
    Ok(ExitCode::SUCCESS)
}

/// Does what an agent says over `stream` until it says exit. A script that still runs then is
/// ended.
pub async fn follow_agent<C, S>(
    stream: C,
    shell: S,
    mut terminations: BoxStream<'static, ()>,
) -> Result<(), ConnectionError>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: Shell,
{
    let mut shim = Shim { connection: Connection::new(stream), shell, running: None };
    let ended = shim.follow_agent(&mut terminations).await;
    shim.end_script().await;
    ended
}

async fn connect(layout: &Layout) -> Result<UnixStream, ShimError> {
    let path = layout.shim_socket();
    let until = Instant::now() + SHIM_CONNECT;
    loop {
        let source = match timeout_at(until, UnixStream::connect(&path)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(elapsed) => elapsed.into(),
        };
        if Instant::now() >= until {
            return Err(ShimError::Connect { path: path.to_string_lossy().into_owned(), source });
        }
        sleep(CONNECT_PAUSE).await;
    }
}

/// A shim with an agent.
struct Shim<C, S: Shell> {
    connection: Connection<C>,
    shell: S,
    running: Option<Running<S::Process>>,
}

/// The script that runs.
struct Running<P> {
    process: P,
    oom_kills_before: u64,
}

impl<C: AsyncRead + AsyncWrite + Unpin, S: Shell> Shim<C, S> {
    /// Does what the agent says until it says exit. TERM changes nothing: when a pod is ended, the
    /// agent decides what that means.
    async fn follow_agent(&mut self, terminations: &mut BoxStream<'static, ()>) -> Result<(), ConnectionError> {
        let shell = self.shell.path().unwrap_or_default();
        self.connection.send(&ShimFrame::Hello(ShimHello { protocol: PROTOCOL, shell })).await?;
        let is_readable = self.shell.usage().is_some();
        let mut look_at = Instant::now() + USAGE_PERIOD;
        loop {
            let looks = is_readable && self.running.is_some();
            let running = &mut self.running;
            let look = async { if looks { sleep_until(look_at).await } else { std::future::pending().await } };
            let event = async {
                match running {
                    Some(running) => running.process.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                frame = self.connection.receive() => match frame? {
                    ShimFrame::Run(run) => self.start(&run).await?,
                    ShimFrame::Kill(kill) => self.kill(Duration::from_millis(kill.grace_ms)),
                    ShimFrame::Exit => return Ok(()),
                    _ => {}
                },
                event = event => self.pass_on(event).await?,
                () = look => {
                    self.shell.usage();
                    look_at = Instant::now() + USAGE_PERIOD;
                }
                bytes = self.shell.background_output() => self.connection.send(&ShimFrame::Output(bytes)).await?,
                Some(()) = terminations.next() => say(format_args!("asked to terminate; the agent decides when")),
            }
        }
    }

    async fn start(&mut self, run: &Run) -> Result<(), ConnectionError> {
        if self.running.is_some() {
            return Err(ConnectionError::TwoScripts);
        }
        let oom_kills_before = self.shell.oom_kills();
        match self.shell.start(run) {
            Ok(process) => self.running = Some(Running { process, oom_kills_before }),
            Err(problem) => self.connection.send(&connection::not_started(problem)).await?,
        }
        Ok(())
    }

    fn kill(&mut self, grace: Duration) {
        if let Some(running) = &mut self.running {
            running.process.kill(grace);
        }
    }

    async fn pass_on(&mut self, event: ProcessEvent) -> Result<(), ConnectionError> {
        match event {
            ProcessEvent::Output(bytes) => self.connection.send(&ShimFrame::Output(bytes)).await,
            ProcessEvent::Ended(exit) => {
                let before = self.running.take().map_or(0, |running| running.oom_kills_before);
                let kills = self.shell.oom_kills().saturating_sub(before);
                let usage = self.shell.usage();
                self.connection.send(&connection::ended(exit, kills, usage)).await
            }
        }
    }

    /// Ends the script that runs, if one does; nobody reads its output any more.
    async fn end_script(&mut self) {
        self.kill(gantry_core::limits::SCRIPT_GRACE);
        if let Some(mut running) = self.running.take() {
            while let ProcessEvent::Output(_) = running.process.next().await {}
        }
    }
}
