//! What the agent prepares before it serves: directories, sockets, and its own binary for the build
//! container.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use tokio::net::UnixListener;

use crate::layout::Layout;

/// Why the agent cannot serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// No signal handlers.
    #[error("cannot set up signals")]
    Signals(#[source] io::Error),
    /// A directory of the pod's layout is missing and cannot be made.
    #[error("cannot make the directory {path}: is its volume mounted and writable?")]
    Directory {
        /// Which one.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A socket cannot be made.
    #[error("cannot listen on {path}: is its volume mounted and writable?")]
    Listen {
        /// Which one.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The binary cannot be given to the build container.
    #[error("cannot copy this helper to {path} for the build container")]
    Binary {
        /// Where to.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Makes the directories that the pod's volumes do not bring.
pub(crate) fn directories(layout: &Layout) -> Result<(), SetupError> {
    for path in [layout.shared_dir(), layout.agent_dir()] {
        fs::create_dir_all(&path).map_err(|source| SetupError::Directory { path, source })?;
    }
    Ok(())
}

/// Listens on `path` with `mode`; what an earlier process left there is replaced.
pub(crate) fn listen(path: &Path, mode: u32) -> Result<UnixListener, SetupError> {
    let attempt = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The umask is 0 here, so the mode is narrowed in the same step that makes the socket
        // known: bind under another name first.
        let hidden = path.with_extension("new");
        let _ = fs::remove_file(&hidden);
        let listener = UnixListener::bind(&hidden)?;
        fs::set_permissions(&hidden, Permissions::from_mode(mode))?;
        fs::rename(&hidden, path)?;
        Ok(listener)
    };
    attempt().map_err(|source| SetupError::Listen { path: path.to_owned(), source })
}

/// Gives the build container its shim: this very program. It appears complete or not at all, since
/// somebody waits for it, who is told.
pub(crate) fn publish_binary(layout: &Layout) -> Result<(), SetupError> {
    let path = layout.shim_binary();
    let attempt = || {
        let hidden = path.with_extension("new");
        fs::copy("/proc/self/exe", &hidden)?;
        fs::set_permissions(&hidden, Permissions::from_mode(0o755))?;
        fs::rename(&hidden, &path)
    };
    attempt().map_err(|source| SetupError::Binary { path: path.clone(), source })?;
    tell(&layout.shim_ready());
    Ok(())
}

/// Wakes the container that waits at the FIFO `path`. One that does not wait yet looks for the
/// binary first.
fn tell(path: &Path) {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW).bits();
    // Open for both, because a FIFO without a reader cannot be opened for writing alone.
    let Ok(mut fifo) = fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) else { return };
    if fifo.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        let _ = fifo.write_all(b"\n");
    }
}
