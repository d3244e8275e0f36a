//! One task per running command: passes signals to its keeper, learns of its end, cleans up. It
//! holds the socket whose closing kills the command, so a container ends with its task, its handle,
//! or the whole program, whichever is first.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    pin::pin,
    process::Stdio,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use nix::sys::signal::Signal;
use tokio::{
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    process::{Child, Command as Process},
    sync::{mpsc, watch},
};

use super::{
    channel::{self, Command, Namespace, Order, Report},
    error::{RuntimeError, StartError},
    launch::{KEEPER, LAUNCHER_NAME},
    memory::{Cgroup, Watchdog},
    spec::ExitStatus,
};

/// Signals that wait to be passed on. More than a few at once only says that nobody listens.
const PENDING_SIGNALS: usize = 16;

/// A command that has been started.
#[derive(Debug)]
pub(super) struct Started {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    keeper: Child,
    pub(super) pid: u32,
    pub(super) in_cgroup: bool,
    pub(super) namespaces: Vec<(Namespace, OwnedFd)>,
    pub(super) terminal: Option<OwnedFd>,
    since: SystemTime,
}

/// Starts a keeper, gives it the order, and waits until the command runs.
pub(super) async fn start(launcher: &Path, order: &Order, files: &[OwnedFd]) -> Result<Started, StartError> {
    let broken = |reason: String| RuntimeError::Launcher { path: launcher.to_owned(), reason };
    let trouble = |error: io::Error| StartError::from(broken(error.to_string()));
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(trouble)?;
    ours.set_nonblocking(true).map_err(trouble)?;
    let (mut reader, mut writer) = tokio::net::UnixStream::from_std(ours).map_err(trouble)?.into_split();
    let keeper = Process::new(launcher)
        .arg0(LAUNCHER_NAME)
        .args([KEEPER, &order.spec.name])
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        // A group of its own, or Ctrl-C would end containers without their grace period.
        .process_group(0)
        .spawn()
        .map_err(trouble)?;
    let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    channel::send_async(&mut writer, order, &files).await.map_err(trouble)?;
    match channel::receive_async::<Report>(&mut reader).await.map_err(trouble)? {
        Some((Report::Started { pid, in_cgroup, namespaces }, mut files)) => {
            let rest = files.split_off(namespaces.len().min(files.len()));
            Ok(Started {
                reader,
                writer,
                keeper,
                pid,
                in_cgroup,
                namespaces: namespaces.into_iter().zip(files).collect(),
                terminal: rest.into_iter().next(),
                since: SystemTime::now(),
            })
        }
        Some((Report::Failed(failure), _)) => Err(failure.into()),
        Some((Report::Exited { .. }, _)) | None => {
            Err(broken("it ended without a report (does its main call run_if_launcher first?)".to_owned()).into())
        }
    }
}

/// What limits the memory of a container.
#[derive(Debug)]
pub(super) enum Limit {
    None,
    Cgroup(Cgroup),
    Watchdog(Watchdog),
}

/// Host process ids of the commands that have entered a container.
pub(super) type Entered = Arc<Mutex<Vec<u32>>>;

/// What an exec enters. Closed when the container has ended, or they would keep its files in
/// memory.
pub(super) type Namespaces = Arc<Mutex<Vec<(Namespace, OwnedFd)>>>;

/// The handle's side of a running command.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) signals: mpsc::Sender<i32>,
    pub(super) status: watch::Receiver<Option<ExitStatus>>,
}

/// What a container's task does beyond what an exec'd command's does.
pub(super) enum Role {
    /// Killed when its handle is dropped.
    Container { limit: Limit, entered: Entered, namespaces: Namespaces },
    /// Goes on without a handle, as in a real cluster, until its container ends.
    Exec { entered: Entered },
}

/// Watches over a started command in a task of its own.
pub(super) fn watch(started: Started, role: Role) -> Link {
    let (signals, pending) = mpsc::channel(PENDING_SIGNALS);
    let (publish, status) = watch::channel(None);
    #[expect(
        clippy::disallowed_methods,
        reason = "a command is watched, reaped and cleaned up after even if nobody holds a handle to it and whatever \
                  becomes of the cluster that asked for it; the task ends with its command"
    )]
    tokio::spawn(supervise(started, role, pending, publish));
    Link { signals, status }
}

async fn supervise(
    mut started: Started,
    role: Role,
    mut pending: mpsc::Receiver<i32>,
    publish: watch::Sender<Option<ExitStatus>>,
) {
    let pid = started.pid;
    let (limit, entered, namespaces) = match role {
        Role::Container { limit, entered, namespaces } => (limit, entered, Some(namespaces)),
        Role::Exec { entered } => {
            update(&entered, |list| list.push(pid));
            (Limit::None, entered, None)
        }
    };
    let is_container = namespaces.is_some();
    let mut killed = false;
    let (code, signal) = {
        let mut end = pin!(channel::receive_async::<Report>(&mut started.reader));
        let mut watchdog = pin!(guard(&limit, pid, &entered));
        let mut handle_dropped = false;
        loop {
            let signal = tokio::select! {
                report = &mut end => break ending(&report),
                signal = pending.recv(), if !handle_dropped => {
                    handle_dropped = signal.is_none();
                    match signal {
                        Some(signal) => signal,
                        None if is_container => Signal::SIGKILL as i32,
                        None => continue,
                    }
                }
                () = &mut watchdog => continue,
            };
            killed |= signal == Signal::SIGKILL as i32;
            // A keeper that cannot be reached is about to end.
            let _ = channel::send_async(&mut started.writer, &Command::Signal(signal), &[]).await;
        }
    };
    let oom_kills = match &limit {
        Limit::None => 0,
        Limit::Cgroup(group) => group.oom_kills(),
        Limit::Watchdog(watchdog) => watchdog.kills(),
    };
    let oom_killed = match &limit {
        Limit::Watchdog(watchdog) => watchdog.has_killed(pid),
        _ => oom_kills > 0 && signal == Some(Signal::SIGKILL as i32) && !killed,
    };
    let finished_at = SystemTime::now();
    let status = ExitStatus { code, signal, oom_killed, oom_kills, started_at: started.since, finished_at };
    publish.send_replace(Some(status));
    match namespaces {
        Some(namespaces) => update(&namespaces, Vec::clear),
        None => update(&entered, |list| list.retain(|other| *other != pid)),
    }
    let _ = started.keeper.wait().await;
    if let Limit::Cgroup(group) = &limit {
        group.remove().await;
    }
}

/// Never ready; runs the watchdog if there is one.
async fn guard(limit: &Limit, pid: u32, entered: &Entered) {
    if let Limit::Watchdog(watchdog) = limit {
        watchdog
            .run(|| {
                let mut roots = vec![pid];
                update(entered, |list| roots.extend(list.iter()));
                roots
            })
            .await;
    }
    std::future::pending::<()>().await;
}

fn ending(report: &io::Result<Option<(Report, Vec<OwnedFd>)>>) -> (i32, Option<i32>) {
    match report {
        Ok(Some((Report::Exited { code, signal }, _))) => (*code, *signal),
        // The keeper was killed, and its command with it.
        _ => (128 + Signal::SIGKILL as i32, Some(Signal::SIGKILL as i32)),
    }
}

fn update<T>(list: &Mutex<Vec<T>>, change: impl FnOnce(&mut Vec<T>)) {
    if let Ok(mut list) = list.lock() {
        change(&mut list);
    }
}
