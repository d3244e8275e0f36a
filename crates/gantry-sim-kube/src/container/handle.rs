//! Handles to what runs: [`Container`] and [`ExecChild`]. They only pass messages; the work is done
//! by the command's own task (`supervise`).

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
};

use nix::sys::signal::Signal;
use tokio::sync::watch;

use super::{
    channel::{Namespace, Order, Task},
    error::StartError,
    programs::{self, Programs},
    spec::{ContainerSpec, ExecSpec, ExitStatus, Privilege},
    starting::{self, Inner, connect, setup, start_within_deadline, validate},
    streams::{Input, Output, Streams, Terminal},
    supervise::{Entered, Limit, Link, Namespaces, Role, Started, watch},
};

/// A container that has been started. Clones are handles to the same container, which is killed
/// when the last one is dropped (and when the program ends, however that happens).
#[derive(Clone)]
pub struct Container {
    shared: Arc<Shared>,
}

struct Shared {
    spec: ContainerSpec,
    streams: Mutex<Streams>,
    terminal: Option<Terminal>,
    link: Link,
    kind: Kind,
}

/// What the container is made of.
enum Kind {
    Processes(Processes),
    Programs(Arc<dyn Programs>),
}

struct Processes {
    runtime: Arc<Inner>,
    privilege: Privilege,
    cgroup: Option<String>,
    pid: u32,
    namespaces: Namespaces,
    entered: Entered,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Container").field("name", &self.shared.spec.name).field("pid", &self.pid()).finish()
    }
}

/// What a container's handle is made of.
pub(super) struct Parts {
    pub(super) runtime: Arc<Inner>,
    pub(super) privilege: Privilege,
    pub(super) spec: ContainerSpec,
    pub(super) cgroup: Option<String>,
    pub(super) started: Started,
    pub(super) streams: Streams,
    pub(super) limit: Limit,
}

impl Processes {
    fn namespaces(&self) -> Result<(Vec<Namespace>, Vec<OwnedFd>), StartError> {
        let open = self.namespaces.lock().map_err(|_| StartError::NotRunning)?;
        if open.is_empty() {
            return Err(StartError::NotRunning);
        }
        let copies = open.iter().map(|(kind, file)| Ok((*kind, file.try_clone()?))).collect::<io::Result<Vec<_>>>();
        Ok(copies.map_err(setup("copy the namespaces"))?.into_iter().unzip())
    }
}

impl Container {
    pub(super) fn new(mut parts: Parts) -> Self {
        let entered = Entered::default();
        let namespaces = Namespaces::new(Mutex::new(std::mem::take(&mut parts.started.namespaces)));
        let pid = parts.started.pid;
        let role =
            Role::Container { limit: parts.limit, entered: Arc::clone(&entered), namespaces: Arc::clone(&namespaces) };
        let link = watch(parts.started, role);
        Self {
            shared: Arc::new(Shared {
                spec: parts.spec,
                terminal: parts.streams.terminal.clone(),
                streams: Mutex::new(parts.streams),
                link,
                kind: Kind::Processes(Processes {
                    runtime: parts.runtime,
                    privilege: parts.privilege,
                    cgroup: parts.cgroup,
                    pid,
                    namespaces,
                    entered,
                }),
            }),
        }
    }

    /// Starts a container without processes.
    pub(crate) fn of_programs(programs: &Arc<dyn Programs>, spec: ContainerSpec) -> Self {
        let link = programs::start(programs, spec.clone());
        let kind = Kind::Programs(Arc::clone(programs));
        Self { shared: Arc::new(Shared { spec, streams: Mutex::default(), terminal: None, link, kind }) }
    }

    /// Process id of its first process on the host; 0 where there is no process.
    pub fn pid(&self) -> u32 {
        match &self.shared.kind {
            Kind::Processes(processes) => processes.pid,
            Kind::Programs(_) => 0,
        }
    }

    /// Its standard input, once, if [`ContainerSpec::stdin`] asked for one.
    pub fn take_stdin(&self) -> Option<Input> {
        self.shared.streams.lock().ok()?.stdin.take()
    }

    /// Its standard output and error, once. With a terminal there is no separate error stream.
    /// Somebody must read them: a full pipe stops the container.
    pub fn take_output(&self) -> Option<(Output, Option<Output>)> {
        let mut streams = self.shared.streams.lock().ok()?;
        let stdout = streams.stdout.take()?;
        Some((stdout, streams.stderr.take()))
    }

    /// How many bytes it has written outside its volumes; `None` where that cannot be seen, or when
    /// it has ended.
    pub fn written_bytes(&self) -> Option<u64> {
        let Kind::Processes(Processes { pid, .. }) = &self.shared.kind else { return None };
        if self.status().is_some() {
            return None;
        }
        // One file system in memory holds all of it: the root and what lies over the host's
        // directories.
        let root = nix::sys::statvfs::statvfs(format!("/proc/{pid}/root").as_str()).ok()?;
        Some(root.blocks().saturating_sub(root.blocks_free()).saturating_mul(root.fragment_size()))
    }

    /// How it ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        *self.shared.link.status.borrow()
    }

    /// Waits for its end: that of its first process, and with it of all others. May be called by
    /// many and again.
    pub async fn wait(&self) -> ExitStatus {
        ended(self.shared.link.status.clone()).await
    }

    /// Sends a signal (a number such as 15) to its first process. As for every first process of a
    /// pid namespace, only `KILL`, `STOP` and what it has a handler for have an effect.
    pub fn kill(&self, signal: i32) -> io::Result<()> {
        signal_to(&self.shared.link, signal)
    }

    /// Kills every process in it, by killing the first one.
    pub fn kill_all(&self) -> io::Result<()> {
        self.kill(Signal::SIGKILL as i32)
    }

    /// Sets the size of its terminal, if it has one.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        resize(self.shared.terminal.as_ref(), columns, rows)
    }

    /// Runs a command in it. Its parent process, seen from inside, is 0. Fails with
    /// [`StartError::NotRunning`] once the container has ended.
    pub async fn exec(&self, exec: ExecSpec) -> Result<ExecChild, StartError> {
        let shared = &self.shared;
        if self.status().is_some() {
            return Err(StartError::NotRunning);
        }
        let processes = match &shared.kind {
            Kind::Processes(processes) => processes,
            Kind::Programs(programs) => {
                let (streams, link) = programs::exec(programs, &shared.spec, exec, shared.link.status.clone());
                return Ok(ExecChild::new(streams, link));
            }
        };
        let mut spec = ContainerSpec { args: exec.args, tty: exec.tty, stdin: exec.stdin, ..shared.spec.clone() };
        spec.env.extend(exec.env);
        validate(&spec)?;
        let (kinds, mut files) = processes.namespaces()?;
        let (pipes, theirs) = connect(&spec)?;
        files.extend(theirs);
        let order = Order {
            privilege: processes.privilege,
            spec,
            task: Task::Exec { namespaces: kinds },
            cgroup: processes.cgroup.clone(),
        };
        let started = start_within_deadline(&processes.runtime.launcher, &order, files).await;
        // A container that ends meanwhile makes all kinds of trouble; this is what it means.
        let mut started =
            started.map_err(|error| if self.status().is_some() { StartError::NotRunning } else { error })?;
        let streams = starting::streams(pipes, &mut started, exec.stdin)?;
        let link = watch(started, Role::Exec { entered: Arc::clone(&processes.entered) });
        Ok(ExecChild::new(streams, link))
    }
}

/// A command that runs in a container. It goes on when this is dropped, as in a real cluster, until
/// it or the container ends.
pub struct ExecChild {
    /// Its standard input, if asked for.
    pub stdin: Option<Input>,
    /// Its standard output, or its terminal.
    pub stdout: Option<Output>,
    /// Its standard error, unless it has a terminal.
    pub stderr: Option<Output>,
    terminal: Option<Terminal>,
    link: Link,
}

impl std::fmt::Debug for ExecChild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecChild").finish_non_exhaustive()
    }
}

impl ExecChild {
    fn new(streams: Streams, link: Link) -> Self {
        let Streams { stdin, stdout, stderr, terminal } = streams;
        Self { stdin, stdout, stderr, terminal, link }
    }

    /// Waits for its end. (Its output may last longer, if it left children behind.)
    pub async fn wait(&self) -> ExitStatus {
        ended(self.link.status.clone()).await
    }

    /// Sends a signal to the command.
    pub fn kill(&self, signal: i32) -> io::Result<()> {
        signal_to(&self.link, signal)
    }

    /// Sets the size of its terminal, if it has one.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        resize(self.terminal.as_ref(), columns, rows)
    }
}

async fn ended(mut status: watch::Receiver<Option<ExitStatus>>) -> ExitStatus {
    if let Ok(status) = status.wait_for(Option::is_some).await
        && let Some(status) = *status
    {
        return status;
    }
    // The task was stopped together with its tokio runtime; nobody is left to wait.
    std::future::pending().await
}

fn signal_to(link: &Link, signal: i32) -> io::Result<()> {
    link.signals.try_send(signal).or_else(|error| match error {
        // It has ended, which is what most signals are for.
        tokio::sync::mpsc::error::TrySendError::Closed(_) => Ok(()),
        tokio::sync::mpsc::error::TrySendError::Full(_) => Err(io::ErrorKind::WouldBlock.into()),
    })
}

fn resize(terminal: Option<&Terminal>, columns: u16, rows: u16) -> io::Result<()> {
    terminal.map_or(Ok(()), |terminal| terminal.resize(columns, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_can_move_between_threads() {
        fn moves<T: Send>(_: impl FnOnce(&'static ExecChild) -> T) {}
        fn shares<T: Send + Sync>() {}
        moves(ExecChild::wait);
        shares::<Container>();
        shares::<ExecChild>();
    }
}
