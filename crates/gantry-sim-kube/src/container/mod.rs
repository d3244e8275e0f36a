//! Containers as local processes: each in its own mount, pid, ipc and uts namespaces, with the
//! host's tools as its image, or the files of one.
//!
//! [`Runtime::start`] starts one, [`Container::exec`] enters it. It works as root and, where the
//! kernel lets ordinary users make user namespaces, without privileges ([`Runtime::check`] says
//! which). It is made for code that its user trusts: it hides other pods' files and takes dangerous
//! rights away, but it shares the host's network and is no sandbox. It must never leave a process,
//! a mount or a control group behind, not even after `kill -9`.
//!
//! What is not as in a cluster: the network is the host's; `CAP_MKNOD` is never given; no seccomp
//! profile and no limits but that of memory; what a container writes outside its volumes is kept in
//! memory until it ends. In a user namespace moreover all files belong to one user, and directories
//! of the host below `/usr` and the like cannot be written to (only directly in them, or where a
//! volume is mounted). Where the kernel has no overlays for this user they are read-only
//! altogether, and volumes there need a mount point that exists.
//!
//! Namespaces cannot be entered from a program with threads, so the runtime starts a *launcher*:
//! the same program (or a small one made for it) under another name, whose `main` calls
//! [`run_if_launcher`] first. See `launch`.

mod channel;
mod error;
mod handle;
mod launch;
mod memory;
mod programs;
mod runtime;
mod spec;
mod starting;
mod streams;
mod supervise;

pub use error::{RuntimeError, StartError};
pub use handle::{Container, ExecChild};
pub use launch::run_if_launcher;
pub use programs::{Pipes, Programs};
pub use runtime::Runtime;
pub use spec::{Capabilities, ContainerSpec, ExecSpec, ExitStatus, Mount, Privilege, ToolView};
pub use streams::{Input, Output};
