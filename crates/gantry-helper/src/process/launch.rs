//! One running process with its group and its merged output, as a stream of what happens to it.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use gantry_core::limits::BACKGROUND_GRACE;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::limits::OUTPUT_CHUNK;
use crate::ports::{self, Exit, ProcessEvent};
use crate::process::output::Output;
use crate::process::reaper::Reaper;

/// A process that was just started in its own group.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its number, and that of its group.
    pub(crate) pid: Pid,
    pub(crate) output: Output,
    pub(crate) exit: oneshot::Receiver<Exit>,
}

/// A process that was started in its own group. Dropping this before its end kills the group.
#[derive(Debug)]
pub(crate) struct Launched {
    group: Pid,
    output: Output,
    exit: oneshot::Receiver<Exit>,
    ended: Option<AfterEnd>,
    kill_at: Option<Instant>,
    killed: bool,
}

/// What is still to be read once the process has ended.
#[derive(Debug)]
struct AfterEnd {
    exit: Exit,
    /// Children that hold the pipe open may write until then.
    until: Instant,
    /// Bytes that the process itself may have left in the pipe: read whatever the clock says.
    owed: usize,
}

/// What one step found.
enum Step {
    Output(Option<Bytes>),
    Exit(Exit),
    Timer,
}

/// Starts `command` with both outputs in one pipe. Standard input is the caller's choice;
/// `/dev/null` is the right one nearly always.
///
/// # Errors
/// The process cannot be started, for a reason in the error.
pub(crate) fn launch(reaper: &Reaper, command: Command) -> io::Result<Launched> {
    start(reaper, command).map(Launched::from)
}

/// As [`launch`], for callers that look after the process in their own way.
pub(crate) fn start(reaper: &Reaper, mut command: Command) -> io::Result<Started> {
    let (reader, writer) = io::pipe()?;
    command.stdout(Stdio::from(writer.try_clone()?)).stderr(Stdio::from(writer)).process_group(0);
    let output = Output::of(reader)?;
    let child = command.spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    Ok(Started { pid, output, exit: reaper.register(pid) })
}

impl From<Started> for Launched {
    fn from(Started { pid, output, exit }: Started) -> Self {
        Self { group: pid, output, exit, ended: None, kill_at: None, killed: false }
    }
}

impl ports::Process for Launched {
    /// Asks the group to end with TERM and ends it with KILL after `grace`.
    fn kill(&mut self, grace: Duration) {
        let at = Instant::now() + grace;
        if self.kill_at.is_none() {
            self.signal(Signal::SIGTERM);
        }
        self.kill_at = Some(self.kill_at.map_or(at, |before| before.min(at)));
        self.killed = true;
    }

    async fn next(&mut self) -> ProcessEvent {
        loop {
            if let Some(event) = self.settle() {
                return event;
            }
            match self.step().await {
                Step::Output(Some(piece)) => return ProcessEvent::Output(piece),
                Step::Output(None) => {}
                Step::Exit(exit) => {
                    self.ended = Some(AfterEnd { exit, until: Instant::now() + BACKGROUND_GRACE, owed: OUTPUT_CHUNK });
                }
                Step::Timer => self.on_timer(),
            }
        }
    }
}

impl Launched {
    /// What can be said without waiting.
    fn settle(&mut self) -> Option<ProcessEvent> {
        let ended = self.ended.as_mut()?;
        if let Some(piece) = self.output.owed(&mut ended.owed) {
            return Some(ProcessEvent::Output(piece));
        }
        let patience_over = Instant::now() >= ended.until && self.kill_at.is_none();
        if self.output.is_open() && !patience_over {
            return None;
        }
        let exit = ended.exit;
        if self.killed {
            self.signal(Signal::SIGKILL);
        }
        drop(self.output.take());
        self.kill_at = None;
        Some(ProcessEvent::Ended(exit))
    }

    async fn step(&mut self) -> Step {
        let timer = match (&self.ended, self.kill_at) {
            (Some(ended), None) => Some(ended.until),
            (_, kill_at) => kill_at,
        };
        let has_ended = self.ended.is_some();
        let is_open = self.output.is_open();
        tokio::select! {
            piece = self.output.next(), if is_open => Step::Output(piece),
            exit = &mut self.exit, if !has_ended => Step::Exit(exit.unwrap_or(Exit { code: 1, signal: None })),
            () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => Step::Timer,
        }
    }

    fn on_timer(&mut self) {
        if self.kill_at.is_some_and(|at| Instant::now() >= at) {
            self.kill_at = None;
            self.signal(Signal::SIGKILL);
        }
    }

    /// A group without members is no error: it has ended already.
    fn signal(&self, signal: Signal) {
        let _ = killpg(self.group, signal);
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.signal(Signal::SIGKILL);
        }
    }
}
