//! Containers without processes: what runs in them is handed in by the program that embeds the
//! cluster, as futures. For simulations on a paused clock, where a container is data: what it
//! prints, how long it takes, how it ends.

use std::{fmt, sync::Arc, time::SystemTime};

use futures::future::BoxFuture;
use tokio::{
    io::DuplexStream,
    sync::{mpsc, watch},
};

use super::{
    spec::{ContainerSpec, ExecSpec, ExitStatus},
    streams::Streams,
    supervise::Link,
};

const KILL: i32 = 9;
/// Exit code of what was killed.
const KILLED: i32 = 128 + KILL;
/// Signals that wait for a program.
const PENDING_SIGNALS: usize = 16;
/// As much as a pipe holds.
const PIPE: usize = 64 << 10;

/// What runs in containers.
pub trait Programs: fmt::Debug + Send + Sync + 'static {
    /// Runs a container's command: the future ends with the exit code, dropping it kills the
    /// command. All signals but `KILL` come over `signals`.
    fn run(&self, container: ContainerSpec, signals: mpsc::Receiver<i32>) -> BoxFuture<'static, i32>;

    /// Runs a further command in a container that runs.
    fn exec(&self, container: &ContainerSpec, command: ExecSpec, streams: Pipes) -> BoxFuture<'static, i32>;
}

/// The standard streams of an exec'd command.
#[derive(Debug)]
pub struct Pipes {
    /// What it reads.
    pub stdin: DuplexStream,
    /// What it writes.
    pub stdout: DuplexStream,
}

/// Starts a container's command.
pub(super) fn start(programs: &Arc<dyn Programs>, spec: ContainerSpec) -> Link {
    let (to_program, signals) = mpsc::channel(PENDING_SIGNALS);
    let command = programs.run(spec, signals);
    supervise(command, Some(to_program), std::future::pending())
}

/// Starts a command in a container, which ends it when it ends itself.
pub(super) fn exec(
    programs: &Arc<dyn Programs>,
    spec: &ContainerSpec,
    command: ExecSpec,
    mut container: watch::Receiver<Option<ExitStatus>>,
) -> (Streams, Link) {
    let (our_stdin, stdin) = tokio::io::duplex(PIPE);
    let (our_stdout, stdout) = tokio::io::duplex(PIPE);
    let command = programs.exec(spec, command, Pipes { stdin, stdout });
    let link = supervise(command, None, async move {
        let _ = container.wait_for(Option::is_some).await;
    });
    let streams =
        Streams { stdin: Some(Box::pin(our_stdin)), stdout: Some(Box::pin(our_stdout)), ..Streams::default() };
    (streams, link)
}

fn supervise(
    command: BoxFuture<'static, i32>,
    to_program: Option<mpsc::Sender<i32>>,
    over: impl Future<Output = ()> + Send + 'static,
) -> Link {
    let (signals, mut pending) = mpsc::channel(PENDING_SIGNALS);
    let (publish, status) = watch::channel(None);
    let started_at = SystemTime::now();
    let is_container = to_program.is_some();
    let task = async move {
        let killed = async {
            loop {
                match pending.recv().await {
                    Some(KILL) => return,
                    Some(signal) => {
                        if let Some(program) = &to_program {
                            let _ = program.try_send(signal);
                        }
                    }
                    // A container ends with its last handle, an exec'd command goes on.
                    None if is_container => return,
                    None => std::future::pending().await,
                }
            }
        };
        let (code, signal) = tokio::select! {
            biased;
            () = killed => (KILLED, Some(KILL)),
            () = over => (KILLED, Some(KILL)),
            code = command => (code, None),
        };
        let finished_at = SystemTime::now();
        let status = ExitStatus { code, signal, oom_killed: false, oom_kills: 0, started_at, finished_at };
        publish.send_replace(Some(status));
    };
    #[expect(clippy::disallowed_methods, reason = "a command is watched like a process is; the task ends with it")]
    tokio::spawn(task);
    Link { signals, status }
}
