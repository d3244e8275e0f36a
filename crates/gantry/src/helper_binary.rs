//! The helper that is pushed into job pods whose image has none.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use gantry_daemon::HelperBinaries;

/// The small `gantry-helper` beside this executable if it is of this build, else this executable itself: it is the helper when started
/// under that name.
pub(crate) fn load() -> anyhow::Result<HelperBinaries> {
    let own = std::env::current_exe().context("cannot find the running executable")?;
    let beside = own.with_file_name("gantry-helper");
    let path = if is_of_this_build(&beside) { &beside } else { &own };
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    tracing::debug!(path = %path.display(), bytes = bytes.len(), "helper to push");
    Ok(HelperBinaries::new().with(std::env::consts::ARCH, bytes))
}

/// A helper that an older build left there would speak another protocol.
fn is_of_this_build(path: &Path) -> bool {
    let Ok(output) = Command::new(path).arg("--version").stdin(Stdio::null()).output() else { return false };
    output.status.success() && String::from_utf8_lossy(&output.stdout).contains(gantry_helper::VERSION)
}
