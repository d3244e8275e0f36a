//! What runs in the containers of the simulated cluster: the real agent and the real shim, with
//! data in place of tools and shells.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use gantry_helper::ports::Connect;
use gantry_helper::{AgentParts, Clock, SelfReportAfter, TraceFile, carry_out, follow_agent};
use gantry_sim_kube::container::{ContainerSpec, ExecSpec, Pipes, Programs};
use gantry_wire::frame::Protocols;
use gantry_wire::layout::{BRIDGE_GREETING, BUILD, EXEC_FAILURE, HELPER, PUSH_REQUEST, WITHOUT_PLAN};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::first_version;
use crate::ledger::Ledger;
use crate::programs::{self, Job};
use crate::shell::DataShell;
use crate::sockets::{FromManager, ManagerPipes, ShimPipes};
use crate::tools::DataTools;

/// Connections that wait for an agent.
const WAITING: usize = 4;
/// As much as a socket holds.
const SOCKET: usize = 64 << 10;
/// How long a helper container without a helper waits for one.
const HELPER_WAIT: Duration = Duration::from_mins(10);
/// Exit code of what TERM ends.
const TERMINATED: i32 = 143;
/// Exit code of an agent that leaves because everything is done.
const DONE: i32 = 0;

/// One pod.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) job: u64,
    to_agent: mpsc::Sender<FromManager>,
    managers: Mutex<Option<mpsc::Receiver<FromManager>>>,
    to_agent_from_shim: mpsc::Sender<DuplexStream>,
    shims: Mutex<Option<mpsc::Receiver<DuplexStream>>>,
    /// The helper container has a helper: from its image, or pushed.
    has_helper: watch::Sender<bool>,
    /// The agent has started, so the shim's binary is there.
    agent_runs: watch::Sender<bool>,
    /// Exit codes with which containers end by accident.
    accidents: watch::Sender<BTreeMap<&'static str, i32>>,
}

impl Pod {
    fn new(name: String, job: u64, has_helper: bool) -> Self {
        let (to_agent, managers) = mpsc::channel(WAITING);
        let (to_agent_from_shim, shims) = mpsc::channel(1);
        Self {
            name,
            job,
            to_agent,
            managers: Mutex::new(Some(managers)),
            to_agent_from_shim,
            shims: Mutex::new(Some(shims)),
            has_helper: watch::Sender::new(has_helper),
            agent_runs: watch::Sender::new(false),
            accidents: watch::Sender::default(),
        }
    }

    /// Ends a container as if its first process had ended by itself.
    pub(crate) fn end(&self, container: &'static str, code: i32) {
        self.accidents.send_modify(|accidents| {
            accidents.entry(container).or_insert(code);
        });
    }

    async fn accident(&self, container: &str) -> i32 {
        let mut accidents = self.accidents.subscribe();
        let code = accidents.wait_for(|accidents| accidents.contains_key(container)).await;
        let code = code.ok().and_then(|accidents| accidents.get(container).copied());
        match code {
            Some(code) => code,
            None => std::future::pending().await,
        }
    }
}

/// All pods of a world, and what their containers need.
pub(crate) struct Pods {
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) ledger: Ledger,
    /// Where traces are kept.
    pub(crate) directory: PathBuf,
    /// How agents reach GitLab.
    pub(crate) connect: Connect,
    /// Agents speak the first version of the protocol.
    pub(crate) speak_first_version: bool,
    known: Mutex<BTreeMap<String, Arc<Pod>>>,
}

impl fmt::Debug for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pods").finish_non_exhaustive()
    }
}

impl Pods {
    pub(crate) fn new(jobs: BTreeMap<u64, Job>, ledger: Ledger, directory: PathBuf, connect: Connect) -> Self {
        Self { jobs, ledger, directory, connect, speak_first_version: false, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Pod>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns that somebody wants a pod of this name for a job.
    pub(crate) fn announce(&self, name: &str, job: u64, has_helper: bool) {
        let mut known = self.known();
        if !known.contains_key(name) {
            known.insert(name.to_owned(), Arc::new(Pod::new(name.to_owned(), job, has_helper)));
            self.ledger.of(job, |facts| facts.pods.push(name.to_owned()));
        }
    }

    /// What a script of a job does; `None` if it is another job's. One that GitLab tries again has
    /// a new number and the same scripts.
    pub(crate) fn program(&self, job: u64, script: &str) -> Option<&Job> {
        let number = programs::number(script)?;
        let is_own = number == job || !self.jobs.contains_key(&job);
        self.jobs.get(&number).filter(|_| is_own)
    }

    /// The pods whose agents may live.
    pub(crate) fn all(&self) -> Vec<Arc<Pod>> {
        self.known().values().cloned().collect()
    }

    /// The pod of a container, and the container's own name.
    fn place(&self, container: &ContainerSpec) -> (Option<Arc<Pod>>, String) {
        let (pod, name) = container.name.split_once('/').unwrap_or((&container.name, ""));
        (self.known().get(pod).cloned(), name.to_owned())
    }
}

/// A world's programs as the cluster wants them.
#[derive(Clone, Debug)]
pub(crate) struct Containers(pub(crate) Arc<Pods>);

impl Programs for Containers {
    fn run(&self, container: ContainerSpec, signals: mpsc::Receiver<i32>) -> BoxFuture<'static, i32> {
        let pods = Arc::clone(&self.0);
        let (pod, name) = pods.place(&container);
        Box::pin(async move {
            let Some(pod) = pod else { return 1 };
            let ended = async {
                match name.as_str() {
                    HELPER => agent(&pods, &pod, terminations(signals)).await,
                    BUILD => shim(&pods, &pod, terminations(signals)).await,
                    _ => service(terminations(signals)).await,
                }
            };
            let code = tokio::select! {
                code = ended => code,
                code = pod.accident(&name) => code,
            };
            pods.ledger.tell(|| format!("job {} container {name} of {} ends with {code}", pod.job, pod.name));
            code
        })
    }

    fn exec(&self, container: &ContainerSpec, _command: ExecSpec, pipes: Pipes) -> BoxFuture<'static, i32> {
        let (pod, _) = self.0.place(container);
        let is_first = self.0.speak_first_version;
        Box::pin(async move {
            match pod {
                Some(pod) => bridge(&pod, pipes, is_first).await.unwrap_or(1),
                None => 1,
            }
        })
    }
}

/// A service runs until it is told to end.
async fn service(mut terminations: BoxStream<'static, ()>) -> i32 {
    match terminations.next().await {
        Some(()) => 0,
        None => std::future::pending().await,
    }
}

/// Says whenever TERM comes.
fn terminations(signals: mpsc::Receiver<i32>) -> BoxStream<'static, ()> {
    stream::unfold(signals, |mut signals| async { signals.recv().await.map(|_| ((), signals)) }).boxed()
}

async fn agent(pods: &Arc<Pods>, pod: &Arc<Pod>, mut terminations: BoxStream<'static, ()>) -> i32 {
    let taken = (take(&pod.managers), take(&pod.shims));
    let (Some(managers), Some(shims)) = taken else { return 1 };
    let mut helper = pod.has_helper.subscribe();
    let terminated = terminations.next();
    // As the container's start command does.
    tokio::select! {
        has = timeout(HELPER_WAIT, helper.wait_for(|has| *has)) => if !matches!(has, Ok(Ok(_))) {
            return i32::from(WITHOUT_PLAN);
        },
        _ = terminated => return TERMINATED,
    }
    pod.agent_runs.send_replace(true);
    let trace_file = pods.directory.join(&pod.name);
    let parts = AgentParts {
        managers: ManagerPipes(managers),
        shim: ShimPipes(shims),
        terminations,
        workshop: Arc::new(DataTools::new(Arc::clone(pods), Arc::clone(pod))),
        trace_file: TraceFile::named(trace_file.clone()),
        clock: Clock::Timers,
        self_report_after: SelfReportAfter::default(),
        connect: Arc::clone(&pods.connect),
        plan_wait: gantry_core::limits::AGENT_WITHOUT_PLAN,
    };
    let code = i32::from(carry_out(parts).await);
    // An agent that is done has delivered everything: GitLab must have these very bytes.
    if code == DONE
        && let Ok(trace) = std::fs::read(&trace_file)
    {
        pods.ledger.of(pod.job, |facts| facts.trace = Some(trace));
    }
    code
}

async fn shim(pods: &Arc<Pods>, pod: &Arc<Pod>, terminations: BoxStream<'static, ()>) -> i32 {
    let mut agent = pod.agent_runs.subscribe();
    if agent.wait_for(|runs| *runs).await.is_err() {
        return 1;
    }
    let (ours, theirs) = tokio::io::duplex(SOCKET);
    if pod.to_agent_from_shim.send(theirs).await.is_err() {
        return 1;
    }
    let shell = DataShell::new(Arc::clone(pods), Arc::clone(pod));
    i32::from(follow_agent(ours, shell, terminations).await.is_err())
}

/// What a manager's exec does: asks for a helper where there is none, greets, and joins the manager
/// to the agent.
async fn bridge(pod: &Arc<Pod>, pipes: Pipes, is_first: bool) -> io::Result<i32> {
    let Pipes { stdin, mut stdout } = pipes;
    let mut stdin = BufReader::new(stdin);
    if !*pod.has_helper.borrow() {
        stdout.write_all(format!("{PUSH_REQUEST} x86_64\n").as_bytes()).await?;
        let mut size = String::new();
        stdin.read_line(&mut size).await?;
        let size: u64 = size.split(' ').next().unwrap_or_default().parse().map_err(io::Error::other)?;
        let taken = tokio::io::copy(&mut (&mut stdin).take(size), &mut tokio::io::sink()).await?;
        if taken < size {
            return Ok(1);
        }
        pod.has_helper.send_replace(true);
    }
    let mut agent = pod.agent_runs.subscribe();
    agent.wait_for(|runs| *runs).await.map_err(io::Error::other)?;
    let speaks = if is_first { Protocols::only(1) } else { Protocols::OURS };
    stdout.write_all(format!("{BRIDGE_GREETING} {speaks}\n").as_bytes()).await?;
    if is_first {
        let (stdin, stdout, translating) = first_version::between(stdin, stdout);
        let (left, _gone) = oneshot::channel();
        let reached = pod.to_agent.send(FromManager { stdin, stdout, left }).await.is_ok();
        translating.await;
        return Ok(i32::from(!reached));
    }
    let (left, gone) = oneshot::channel();
    if let Err(mpsc::error::SendError(mut refused)) = pod.to_agent.send(FromManager { stdin, stdout, left }).await {
        refused.stdout.write_all(format!("{EXEC_FAILURE} the agent does not answer\n").as_bytes()).await?;
        return Ok(1);
    }
    let _ = gone.await;
    Ok(0)
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}
