//! Carries out a plan in a cluster and says what happened: makes the pod, watches it, opens the
//! connection to its agent, removes it.
//!
//! It never decides what should run, never reads a verdict out of a clock or a broken stream, and
//! uses no other rights than `create`, `get`, `list`, `watch` and `delete` on `pods`, and
//! `pods/exec`; where it has them, `patch` on `pods`, `get` on `pods/log`, `list` on `events`, and
//! `create`, `update` and `delete` on `secrets` for jobs with logins for registries; and where the
//! config asks for it, `create` on `poddisruptionbudgets`, `get` on `serviceaccounts` and
//! `secrets`, `create`, `get`, `list` and `delete` on `namespaces`, and for pause pods `create`,
//! `list`, `patch` and `delete` on `deployments` and `create` on `priorityclasses`. `doctor` also
//! asks the API server for access reviews. It spawns no task: [`Cluster::connect`] returns a
//! [`Driver`] that the caller has to run. Start reading at [`Cluster`]; what a pod's status means
//! is in [`facts`].

pub mod access;
mod answers;
pub mod attach;
mod awaited;
mod budgets;
mod cluster;
mod connector;
mod deployments;
pub mod error;
pub mod events;
pub mod facts;
mod leftovers;
pub mod limits;
mod logs;
mod marks;
mod namespaces;
mod observed;
mod pages;
mod pods;
mod pulls;
mod quota;
mod refusal;
mod renewal;
pub mod requests;
mod retry;
pub mod rights;
mod room;
mod secrets;
mod survey;
mod target;
pub mod watch;

pub use access::{Access, ConnectError, RemoteAccess};
pub use attach::{
    AgentStream, AttachError, AttachRequest, Content, ExecEnd, ExecOutcome, HelperBinaries, HelperBinary, PackedHelper,
    Purpose, loaded_length,
};
pub use awaited::{Absent, Awaited};
pub use cluster::{Cluster, Driver};
pub use error::{ApiError, Fault};
pub use events::PodEvent;
pub use facts::{ContainerFacts, ContainerState, PodFacts};
pub use leftovers::LeftoverPod;
pub use logs::LogStream;
pub use marks::Marked;
pub use namespaces::{LabeledNamespace, NamespaceError};
pub use observed::{ObservedContainer, ObservedPod, ObservedSpec};
pub use pods::{CreateError, DeleteError, PodNow, PodRef};
pub use pulls::Pulled;
pub use retry::Persistence;
pub use rights::Right;
pub use room::{Shortage, ShortageKind};
pub use secrets::NewPullSecret;
pub use survey::Said;
pub use watch::{Coverage, PodState, PodWatch};
