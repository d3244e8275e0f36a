//! A script that runs in the build container, and what becomes of everything that it has started:
//! left alone when the script ends by itself, ended to the last process when it is stopped.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use gantry_core::limits::BACKGROUND_GRACE;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::background::Background;
use crate::limits::{KILL_GIVE_UP, KILL_PAUSE, OUTPUT_CHUNK, READERS_PAUSE, STRAGGLERS_QUIET};
use crate::ports::{Exit, Process, ProcessEvent};
use crate::process::descendants::{self, Termination};
use crate::process::launch::Started;
use crate::process::output::Output;
use crate::process::reaper::Reaper;
use crate::process::script::StartedScript;

/// What is reported of a script whose end nobody has seen: it could not be ended at all.
const UNSEEN: Exit = Exit { code: 137, signal: Some(9) };

/// A script that runs.
pub(super) struct Running {
    group: Pid,
    output: Output,
    exit: oneshot::Receiver<Exit>,
    collections: watch::Receiver<()>,
    background: Background,
    ended: Option<Exit>,
    until: Until,
    /// Who has been asked to end.
    termination: Option<Termination>,
    /// Lines of ours that go into the log before anything else.
    notes: VecDeque<String>,
}

/// What is being waited for.
#[derive(Clone, Copy)]
enum Until {
    /// The script's end.
    End,
    /// What the script wrote itself, and what passes on what it wrote.
    Stragglers { latest: Instant, quiet: Instant },
    /// Everything to end as it was asked to; at `look` those are asked that were not yet.
    Terminated { look: Instant, ask_all: Instant, kill_at: Instant },
    /// Everything to end, because it must.
    Killed { again: Instant, give_up: Instant },
    /// The rest of the output.
    Drained { owed: usize },
}

/// What one step found.
enum Step {
    Output(Option<Bytes>),
    Exit(Exit),
    Collected,
    Timer,
}

impl Running {
    pub(super) fn new(started: StartedScript, reaper: &Reaper, background: Background) -> Self {
        let StartedScript { process: Started { pid, output, exit }, warnings } = started;
        Self {
            group: pid,
            output,
            exit,
            collections: reaper.collections(),
            background,
            ended: None,
            until: Until::End,
            termination: None,
            notes: warnings.iter().map(|text| warning(text)).collect(),
        }
    }

    /// What can be done without waiting; something to tell, if that came of it.
    fn settle(&mut self) -> Option<ProcessEvent> {
        if let Some(note) = self.notes.pop_front() {
            return Some(ProcessEvent::Output(Bytes::from(note)));
        }
        let now = Instant::now();
        match self.until {
            Until::Stragglers { latest, quiet } if !self.output.is_open() || now >= latest.min(quiet) => {
                self.until = Until::Drained { owed: OUTPUT_CHUNK };
            }
            Until::Terminated { .. } | Until::Killed { .. } if !descendants::exist() => {
                self.until = Until::Drained { owed: OUTPUT_CHUNK };
            }
            Until::Terminated { kill_at, .. } if now >= kill_at => {
                self.end();
                self.until = Until::Killed { again: now + KILL_PAUSE, give_up: now + KILL_GIVE_UP };
            }
            Until::Terminated { look, ask_all, kill_at } if now >= look => {
                if let Some(termination) = &mut self.termination {
                    if now >= ask_all { termination.finish() } else { termination.follow_up() }
                }
                self.until = Until::Terminated { look: now + READERS_PAUSE, ask_all, kill_at };
            }
            Until::Killed { again, give_up } if now >= again => {
                self.end();
                self.until = Until::Killed { again: now + KILL_PAUSE, give_up };
                if now >= give_up {
                    self.until = Until::Drained { owed: OUTPUT_CHUNK };
                    return Some(ProcessEvent::Output(unstoppable().into()));
                }
            }
            _ => {}
        }
        match self.until {
            Until::Drained { owed } => Some(self.drain(owed)),
            _ => None,
        }
    }

    /// Takes what is in the pipe now, which is all that the script itself can have left there; then
    /// it is over.
    fn drain(&mut self, mut owed: usize) -> ProcessEvent {
        if let Some(piece) = self.output.owed(&mut owed) {
            self.until = Until::Drained { owed };
            return ProcessEvent::Output(piece);
        }
        self.background.adopt(self.output.take());
        let seen = self.ended.or_else(|| self.exit.try_recv().ok());
        ProcessEvent::Ended(seen.unwrap_or(UNSEEN))
    }

    async fn step(&mut self) -> Step {
        let timer = match self.until {
            Until::Stragglers { latest, quiet } => Some(latest.min(quiet)),
            Until::Terminated { look, kill_at, .. } => Some(kill_at.min(look)),
            Until::Killed { again, .. } => Some(again),
            Until::End | Until::Drained { .. } => None,
        };
        let is_stopping = matches!(self.until, Until::Terminated { .. } | Until::Killed { .. });
        let (has_ended, is_open) = (self.ended.is_some(), self.output.is_open());
        tokio::select! {
            piece = self.output.next(), if is_open => Step::Output(piece),
            exit = &mut self.exit, if !has_ended => Step::Exit(exit.unwrap_or(UNSEEN)),
            _ = self.collections.changed(), if is_stopping => Step::Collected,
            () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => Step::Timer,
        }
    }

    /// Ends everything; the script's own group also where the tree of processes cannot be read.
    fn end(&self) {
        let _ = killpg(self.group, Signal::SIGKILL);
        descendants::end();
    }
}

impl Process for Running {
    async fn next(&mut self) -> ProcessEvent {
        loop {
            if let Some(event) = self.settle() {
                return event;
            }
            match self.step().await {
                Step::Output(Some(piece)) => {
                    if let Until::Stragglers { quiet, .. } = &mut self.until {
                        *quiet = Instant::now() + STRAGGLERS_QUIET;
                    }
                    return ProcessEvent::Output(piece);
                }
                Step::Exit(exit) => {
                    self.ended = Some(exit);
                    if matches!(self.until, Until::End) {
                        let now = Instant::now();
                        self.until =
                            Until::Stragglers { latest: now + BACKGROUND_GRACE, quiet: now + STRAGGLERS_QUIET };
                    }
                }
                Step::Output(None) | Step::Collected | Step::Timer => {}
            }
        }
    }

    /// Everything that lives is stopped: what ran in the background since an earlier script has no
    /// more business here.
    fn kill(&mut self, grace: Duration) {
        let now = Instant::now();
        match &mut self.until {
            Until::End | Until::Stragglers { .. } => {
                self.termination = Termination::begin();
                if self.termination.is_none() {
                    // The tree of processes cannot be read here.
                    let _ = killpg(self.group, Signal::SIGTERM);
                }
                self.until =
                    Until::Terminated { look: now + READERS_PAUSE, ask_all: now + grace / 2, kill_at: now + grace };
            }
            Until::Terminated { kill_at, .. } => *kill_at = (now + grace).min(*kill_at),
            Until::Killed { .. } | Until::Drained { .. } => {}
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = killpg(self.group, Signal::SIGKILL);
        }
    }
}

fn unstoppable() -> String {
    warning(&format!(
        "{} processes of the script could not be ended, they wait for a device or belong to another user; the job goes on beside them",
        descendants::count()
    ))
}

/// A line in the style of the runner's own warnings.
fn warning(text: &str) -> String {
    format!("\x1b[0;33mWARNING: {text}\x1b[0;m\n")
}
