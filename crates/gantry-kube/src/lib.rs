//! Carries out a plan in a cluster and says what happened: makes the pod, watches it, opens the connection to its agent, removes it.
//!
//! It never decides what should run, never reads a verdict out of a clock or a broken stream, and uses no other rights than `create`,
//! `get`, `list`, `watch` and `delete` on `pods`, and `pods/exec`; `list` on `events` where it has it. It spawns no task: [`Cluster::connect`] returns a [`Driver`] that the
//! caller has to run. Start reading at [`Cluster`]; what a pod's status means is in [`facts`].

pub mod access;
mod answers;
pub mod attach;
mod cluster;
mod connector;
pub mod error;
mod events;
pub mod facts;
pub mod limits;
mod pods;
mod refusal;
mod renewal;
mod retry;
pub mod rights;
mod seen;
mod strays;
mod target;
pub mod watch;

pub use access::{Access, ConnectError, RemoteAccess};
pub use attach::{
    AgentStream, AttachError, AttachRequest, Content, ExecEnd, ExecOutcome, HelperBinaries, HelperBinary, Purpose,
};
pub use cluster::{Cluster, Driver};
pub use error::{ApiError, Fault};
pub use facts::{ContainerFacts, ContainerState, PodFacts};
pub use pods::{CreateError, DeleteError, PodNow, PodRef};
pub use rights::Right;
pub use seen::{SeenContainer, SeenPod, SeenSpec};
pub use strays::Stray;
pub use watch::{PodWatch, Sight};
