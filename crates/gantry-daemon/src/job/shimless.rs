//! What it means that the build container has not become the shim.

use gantry_core::Ending;
use gantry_core::limits::SHIM_HELLO;
use gantry_wire::layout::{BUILD, SHARED_DIR, SHIM_BINARY};

/// How a job ends whose build container runs without a word of the shim.
pub(super) fn silent() -> Ending {
    let seconds = SHIM_HELLO.as_secs();
    Ending::ShimSilent {
        message: format!(
            "the build container has run for {seconds} s and the helper in it has not said a word: can its image run programs of the \
             volume at {SHARED_DIR}, and connect to a socket there?"
        ),
    }
}

/// What the end of the build container means as long as it has not become the shim: the codes are
/// those of a shell that cannot execute it.
pub(super) fn reason(ending: Ending) -> Ending {
    match ending {
        Ending::ContainerDied { container, exit_code: exit_code @ (126 | 127), entrypoint: None, .. }
            if container == BUILD =>
        {
            Ending::ShimSilent {
                message: format!(
                    "the build container cannot execute {SHIM_BINARY} (exit code {exit_code}): its volume may be mounted noexec, or the \
                     image be for another architecture than the helper image"
                ),
            }
        }
        other => other,
    }
}
