//! The reaper of agent and shim, which are both PID 1 of their container: it collects every child,
//! the orphans too, and tells those who registered for one how it ended. Processes must be started
//! and registered without an `await` in between, on the reaper's own thread.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::ports::Exit;
use crate::tasks;

type Waiting = HashMap<Pid, oneshot::Sender<Exit>>;

/// Knows who waits for which process.
#[derive(Clone, Debug)]
pub(crate) struct Reaper {
    waiting: Arc<Mutex<Waiting>>,
    /// Marked as changed whenever children have been collected.
    collected: watch::Sender<()>,
}

impl Reaper {
    /// Starts reaping. Orphans come to us also where we are not PID 1, as in pods with a shared
    /// process namespace.
    ///
    /// # Errors
    /// The signal handler cannot be installed.
    pub(crate) fn start() -> io::Result<Self> {
        let _ = nix::sys::prctl::set_child_subreaper(true);
        let reaper = Self { waiting: Arc::default(), collected: watch::Sender::new(()) };
        let children = signal(SignalKind::child())?;
        tasks::detach(reaper.clone().reap_forever(children));
        Ok(reaper)
    }

    /// To be called right after the process was started.
    pub(crate) fn register(&self, pid: Pid) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(pid, sender);
        receiver
    }

    /// Tells whenever children have been collected.
    pub(crate) fn collections(&self) -> watch::Receiver<()> {
        self.collected.subscribe()
    }

    async fn reap_forever(self, mut children: Signal) {
        loop {
            self.reap();
            self.collected.send_replace(());
            if children.recv().await.is_none() {
                return;
            }
        }
    }

    fn reap(&self) {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit { code, signal: None }),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    let number = signal as i32;
                    (pid, Exit { code: 128 + number, signal: Some(number) })
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(sender) = self.lock().remove(&pid) {
                let _ = sender.send(exit);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
