//! What a container is to be, and how it ended. Only values: they travel to the launcher as JSON
//! over a socket, because environment variables hold secrets and a process's arguments can be read
//! by everybody.

use std::{fmt, path::PathBuf, time::SystemTime};

use serde::{Deserialize, Serialize};

/// By which right the runtime makes namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Privilege {
    /// The program is root and may make namespaces directly. Users and groups of containers are
    /// real ones.
    Root,
    /// The program is an ordinary user: every container lives in a user namespace in which that
    /// user is root, or, with [`ContainerSpec::uid`], in a second one in which that user has this
    /// number. All files stay the user's own, and supplemental groups do not exist.
    UserNamespace,
}

/// Which capabilities the processes of a container can have at most (their bounding set). Only uid
/// 0 really has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capabilities {
    /// What container engines give by default, without `CAP_MKNOD`, since no device filter stands
    /// behind it here.
    #[default]
    Default,
    /// None at all.
    None,
    /// All that the program itself has, as in a privileged container.
    All,
}

/// A directory or file of the host at a place in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// An existing directory, file or socket of the host.
    pub source: PathBuf,
    /// Absolute path in the container; created where missing (as a file if the source is one).
    /// Mounts may lie below other mounts, in any order.
    pub target: PathBuf,
    /// Whether writing fails. Connecting to a socket works all the same.
    pub read_only: bool,
}

/// What a container sees of a user's tools beside those of the system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolView {
    /// The user's home: in the container an empty directory of its own at the same place, but for
    /// what is shown.
    pub home: Option<PathBuf>,
    /// Directories and files, and where they are seen. What is missing on the host is left out, and
    /// so is what the container has already. What a container writes to such a directory is its own
    /// and goes with it; files are read-only.
    pub shown: Vec<(PathBuf, PathBuf)>,
    /// Files below those that must not be seen.
    pub hidden: Vec<PathBuf>,
}

/// A container to start. `Debug` shows names of environment variables, never values.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// A name for people: it is shown in the launcher's command line and in errors. Not secret,
    /// need not be unique.
    pub name: String,
    /// Command and arguments. A command without `/` is looked up in the container's `PATH`.
    pub args: Vec<String>,
    /// What a container runs instead whose program is not there. Empty: it cannot start.
    pub otherwise: Vec<String>,
    /// The whole environment. `PATH`, `HOME` (`/root`), `HOSTNAME` and, with a terminal, `TERM` are
    /// added if missing.
    pub env: Vec<(String, String)>,
    /// Working directory, created if missing. `None`: `/`.
    pub cwd: Option<PathBuf>,
    /// Volumes.
    pub mounts: Vec<Mount>,
    /// User of the command. `None`: 0.
    pub uid: Option<u32>,
    /// Group of the command. `None`: 0.
    pub gid: Option<u32>,
    /// Further groups (`fsGroup`, `supplementalGroups`). Without effect in a user namespace.
    pub supplemental_groups: Vec<u32>,
    /// Host name; also written to `/etc/hostname`.
    pub hostname: String,
    /// Lines of `/etc/hosts` after those of `localhost`: an address and its names.
    pub hosts: Vec<(String, Vec<String>)>,
    /// Bytes of memory, enforced by a control group where one can be made, else by a watchdog that
    /// kills the largest process soon after the limit is passed.
    pub memory_limit: Option<u64>,
    /// Everything but the volumes, `/dev`, `/dev/shm` and `/proc` is read-only.
    pub read_only_root: bool,
    /// The most that its processes may do.
    pub capabilities: Capabilities,
    /// Set-user-ID programs such as `sudo` give nothing (`allowPrivilegeEscalation: false`).
    pub no_new_privileges: bool,
    /// The directory with the files of its image, of which it sees a copy of its own. `None`: its
    /// image is the host's tools.
    pub image: Option<PathBuf>,
    /// What it sees of a user's tools. `None`: nothing.
    pub tools: Option<ToolView>,
    /// Whether standard input is a pipe ([`super::Container::take_stdin`]); else it is `/dev/null`.
    pub stdin: bool,
    /// Whether the command gets a terminal for input, output and errors.
    pub tty: bool,
}

impl fmt::Debug for ContainerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerSpec")
            .field("name", &self.name)
            .field("args", &self.args)
            .field("env", &names(&self.env))
            .field("mounts", &self.mounts)
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .finish_non_exhaustive()
    }
}

/// A command to run in a container that exists. It has the container's user, groups, capabilities
/// and working directory. `Debug` shows names of environment variables, never values.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Command and arguments.
    pub args: Vec<String>,
    /// Variables added to the container's environment, or replacing those of the same name.
    pub env: Vec<(String, String)>,
    /// Whether standard input is connected; else it is `/dev/null`.
    pub stdin: bool,
    /// Whether the command gets a terminal for input, output and errors.
    pub tty: bool,
}

impl fmt::Debug for ExecSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSpec")
            .field("args", &self.args)
            .field("env", &names(&self.env))
            .field("stdin", &self.stdin)
            .field("tty", &self.tty)
            .finish()
    }
}

fn names(env: &[(String, String)]) -> Vec<&str> {
    env.iter().map(|(name, _)| name.as_str()).collect()
}

/// How a container or an exec'd command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// The exit code, or 128 + the signal's number, as the Kubernetes API reports it (137 for
    /// `KILL`).
    pub code: i32,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether it was ended for passing [`ContainerSpec::memory_limit`] (always false for an exec'd
    /// command).
    pub oom_killed: bool,
    /// How many processes of the container were killed for passing the limit, whether or not the
    /// container ended of it.
    pub oom_kills: u64,
    /// When the command was started.
    pub started_at: SystemTime,
    /// When it ended.
    pub finished_at: SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_names_variables_but_not_their_values() {
        let env = vec![("TOKEN".to_owned(), "hunter2".to_owned())];
        let container = ContainerSpec { env: env.clone(), ..ContainerSpec::default() };
        let exec = ExecSpec { env, ..ExecSpec::default() };
        for text in [format!("{container:?}"), format!("{exec:#?}")] {
            assert!(text.contains("TOKEN"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
