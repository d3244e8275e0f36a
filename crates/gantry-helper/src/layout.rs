//! Where things are: the paths of `gantry_wire::layout`, which tests may move below a directory of
//! their own.

use std::path::{Path, PathBuf};

use gantry_wire::layout;

/// The paths of one job pod.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The paths below `root`; in a pod that is `/`.
    pub(crate) fn below(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn shared_dir(&self) -> PathBuf {
        self.at(layout::SHARED_DIR)
    }

    pub(crate) fn shim_binary(&self) -> PathBuf {
        self.at(layout::SHIM_BINARY)
    }

    pub(crate) fn shim_ready(&self) -> PathBuf {
        self.at(layout::SHIM_READY)
    }

    pub(crate) fn shim_socket(&self) -> PathBuf {
        self.at(layout::SHIM_SOCKET)
    }

    /// Settings for the git of this job's scripts.
    pub(crate) fn git_config(&self) -> PathBuf {
        self.at(layout::GIT_CONFIG)
    }

    /// Settings for git within the project's work tree alone.
    pub(crate) fn git_helper_config(&self) -> PathBuf {
        self.git_config().with_file_name("git-helper-config")
    }

    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.at(layout::AGENT_DIR)
    }

    /// The mirror of the project's repository, where the runner keeps one.
    pub(crate) fn mirror_dir(&self) -> PathBuf {
        self.at(layout::MIRROR_DIR)
    }

    pub(crate) fn manager_socket(&self) -> PathBuf {
        self.at(layout::MANAGER_SOCKET)
    }

    pub(crate) fn trace_file(&self) -> PathBuf {
        self.at(layout::TRACE_FILE)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)))
    }
}
