//! What can go wrong with a container before its command runs. The user's mistakes (no such
//! program) and trouble of the runtime are different variants, because kubelet reports them
//! differently.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Why no container can be run at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RuntimeError {
    /// The state directory cannot be made or used.
    #[error("cannot use {} as the state directory of containers: {reason}", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The launcher program does not do its work.
    #[error("the container launcher {} does not work: {reason}", path.display())]
    Launcher {
        /// The program.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// Neither way to make namespaces works.
    #[error(
        "local containers need root or unprivileged user namespaces, and neither works here (as root: {root}; in a \
         user namespace: {user_namespace}); run as root, or allow user namespaces (sysctls \
         user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
    )]
    Unavailable {
        /// What happened as root.
        root: String,
        /// What happened in a user namespace.
        user_namespace: String,
    },
}

/// Why a container or a command in it did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program does not exist. The text is the one that users know from container engines.
    #[error("exec: {program:?}: {reason}")]
    NotFound {
        /// The first argument.
        program: String,
        /// Where it was looked for.
        reason: String,
    },
    /// The program exists and cannot be executed.
    #[error("exec: {program:?}: {reason}")]
    NotExecutable {
        /// The first argument.
        program: String,
        /// What the system said.
        reason: String,
    },
    /// The working directory cannot be entered.
    #[error("chdir to working directory {} failed: {reason}", path.display())]
    WorkingDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The specification makes no sense.
    #[error("invalid container: {0}")]
    Invalid(String),
    /// A volume's source is not there.
    #[error("cannot mount {}: {reason}", path.display())]
    MountSource {
        /// The source on the host.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The container has ended.
    #[error("container is not running")]
    NotRunning,
    /// The runtime could not do its part.
    #[error("cannot set up the container: {step}: {reason}")]
    Setup {
        /// What was being done.
        step: String,
        /// What the system said.
        reason: String,
    },
    /// It took too long.
    #[error("the container did not start within {seconds} s")]
    Deadline {
        /// The limit.
        seconds: u64,
    },
    /// No container can be run here.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl StartError {
    /// Whether what the user asked for is at fault (kubelet: `RunContainerError`, `StartError`),
    /// not the runtime.
    pub fn is_users_fault(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::NotExecutable { .. } | Self::WorkingDir { .. } | Self::Invalid(_))
    }

    /// The exit code that a container shows that could not be started: containerd's 128, whatever
    /// the reason.
    pub fn exit_code(&self) -> i32 {
        128
    }
}

/// The same as it travels from the launcher.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Failure {
    NotFound { program: String, reason: String },
    NotExecutable { program: String, reason: String },
    WorkingDir { path: PathBuf, reason: String },
    Setup { step: String, reason: String },
}

impl Failure {
    pub(super) fn setup(step: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Setup { step: step.into(), reason: reason.to_string() }
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotFound { program, reason } => Self::NotFound { program, reason },
            Failure::NotExecutable { program, reason } => Self::NotExecutable { program, reason },
            Failure::WorkingDir { path, reason } => Self::WorkingDir { path, reason },
            Failure::Setup { step, reason } => Self::Setup { step, reason },
        }
    }
}

/// Says what was being done when something failed.
pub(super) trait Step<T> {
    /// The error as a [`Failure::Setup`] with this description.
    fn step(self, describe: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: ToString> Step<T> for Result<T, E> {
    fn step(self, describe: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::setup(describe(), error.to_string()))
    }
}
