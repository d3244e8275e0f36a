//! Where a child waits that has been started ahead of its stage: nothing of the project is touched
//! before the agent says so.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::job::CacheJob;
use super::trouble::CacheTrouble;

/// Closed once at most.
pub(super) struct Gate(Mutex<Option<PathBuf>>);

impl Gate {
    /// Open from the beginning, unless the job names a pipe.
    pub(super) fn of(job: &CacheJob) -> Self {
        Self(Mutex::new(job.gate.as_ref().map(PathBuf::from)))
    }

    /// Waits until it is open; an agent that is gone, or has given up, leaves it closed.
    pub(super) fn pass(&self) -> Result<(), CacheTrouble> {
        let Some(pipe) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        match read(&pipe) {
            Ok(1..) => Ok(()),
            _ => Err(CacheTrouble::Unwanted),
        }
    }
}

/// Reads a word; nothing where nobody can write one any more. Opening the pipe does not wait for
/// somebody who could.
fn read(pipe: &Path) -> io::Result<usize> {
    let mut pipe = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(pipe)?;
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::empty()))?;
    pipe.read(&mut [0])
}
