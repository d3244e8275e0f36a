//! Finds the shell that scripts run with.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

/// In order of preference (GitLab Runner 19.4, shell detection).
const SHELLS: [&str; 7] =
    ["/usr/local/bin/bash", "/usr/bin/bash", "/bin/bash", "/usr/local/bin/sh", "/usr/bin/sh", "/bin/sh", "/busybox/sh"];

/// The first shell that can be executed here.
pub(crate) fn find() -> Option<&'static Path> {
    SHELLS.iter().map(Path::new).find(can_run)
}

/// The first `sh` that can be executed here, even where there is a bash.
pub(crate) fn find_posix() -> Option<&'static Path> {
    SHELLS.iter().map(Path::new).filter(|path| path.ends_with("sh")).find(can_run)
}

fn can_run(path: &&Path) -> bool {
    path.is_file() && access(*path, AccessFlags::X_OK).is_ok()
}

/// The paths that were looked at, for messages.
pub(crate) fn candidates() -> String {
    SHELLS.join(", ")
}
