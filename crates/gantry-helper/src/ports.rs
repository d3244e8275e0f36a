//! What agent and shim need from outside, as ports: connections, the work of stages, the processes
//! of scripts, clocks. In a pod these are sockets, tools and shells; the simulation puts pipes and
//! data in their place and runs everything else as it is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use gantry_core::Ending;
use gantry_gitlab::{Client, ClientError, ClientOptions};
use gantry_wire::plan::PodPlan;
use gantry_wire::shim::{Run, SecretText};
use gantry_wire::stage::JobStatus;
use gantry_wire::usage::Usage;
use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::outlet::Outlet;

/// Where connections come from.
pub trait Listener: Send + 'static {
    /// The side of a connection that is read.
    type Read: AsyncRead + Send + Unpin + 'static;
    /// The side that is written.
    type Write: AsyncWrite + Send + Unpin + 'static;

    /// The next connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<Accepted<Self::Read, Self::Write>>> + Send;
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted<R, W> {
    /// What the peer sends.
    pub read: R,
    /// What the peer gets.
    pub write: W,
    /// Who the peer is, where that is known.
    pub user: Option<User>,
}

/// User and group of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// Its group's.
    pub gid: u32,
}

/// Does the work of stages that run in the helper container. Dropping a future stops the work.
pub trait Workshop: Send + Sync + 'static {
    /// One try of a stage. What it prints goes to `outlet`.
    fn perform(&self, work: StageTry, outlet: Outlet) -> BoxFuture<'static, Result<(), Ending>>;

    /// Puts in place what a user script finds, and says which variables it gets.
    fn prepare(&self, setup: ScriptSetup) -> BoxFuture<'static, Result<Vec<(String, SecretText)>, Ending>>;

    /// Whether something in the pod takes connections on this port. Containers of a pod share its
    /// addresses.
    fn answers(&self, port: u16) -> BoxFuture<'static, bool> {
        let _ = port;
        Box::pin(std::future::ready(true))
    }
}

/// One try of one stage.
#[derive(Clone, Debug)]
pub struct StageTry {
    /// The job.
    pub plan: Arc<PodPlan>,
    /// Index of the stage in the plan.
    pub stage: usize,
    /// 1 for the first try.
    pub attempt: u32,
    /// How the job stands.
    pub status: JobStatus,
}

/// What a user script is prepared from.
#[derive(Clone, Debug)]
pub struct ScriptSetup {
    /// The job.
    pub plan: Arc<PodPlan>,
    /// Index of the script's stage in the plan.
    pub stage: usize,
    /// How the job stands.
    pub status: JobStatus,
    /// User of the build container, if the tree has not been given to it yet.
    pub new_owner: Option<User>,
    /// User of the build container.
    pub user: User,
    /// Where warnings go.
    pub outlet: Outlet,
}

/// Starts scripts in the build container.
pub trait Shell: Send + 'static {
    /// A script that runs.
    type Process: Process;

    /// Path of the shell, if there is one.
    fn path(&self) -> Option<String>;

    /// Starts a script; the error is a sentence for the job's log.
    fn start(&mut self, run: &Run) -> Result<Self::Process, String>;

    /// How many processes of the container were OOMKilled so far.
    fn oom_kills(&self) -> u64;

    /// What the container has used so far; nothing where that cannot be read. Called every now and
    /// then while a script runs.
    fn usage(&mut self) -> Option<Usage> {
        None
    }

    /// The next piece of what processes print that have outlived their script. Safe to be dropped
    /// and called again.
    fn background_output(&mut self) -> impl Future<Output = Bytes> + Send {
        std::future::pending()
    }
}

/// A script that runs. Dropping it ends it.
pub trait Process: Send + 'static {
    /// The next thing that happens. Safe to be dropped and called again. After
    /// [`ProcessEvent::Ended`] there is nothing more.
    fn next(&mut self) -> impl Future<Output = ProcessEvent> + Send;

    /// Asks it, and whatever runs beside it, to end, and ends what is left after `grace`. Then
    /// nothing lives, and [`ProcessEvent::Ended`] says so. A second call can only shorten the
    /// grace.
    fn kill(&mut self, grace: Duration);
}

/// What happens to a process.
#[derive(Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// It, or one of its children, wrote this.
    Output(Bytes),
    /// It ended, and all that it wrote itself has been given.
    Ended(Exit),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 128 plus the signal when one ended it, as shells count.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl Exit {
    /// Whether it ended with 0.
    pub fn success(self) -> bool {
        self.code == 0
    }
}

/// Makes the client by which an agent without a manager speaks to GitLab.
pub type Connect = Arc<dyn Fn(ClientOptions) -> Result<Client, ClientError> + Send + Sync>;
