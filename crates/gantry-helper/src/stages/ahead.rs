//! Caches that are fetched and unpacked while the sources come: into a directory beside the
//! project, so that neither is in the other's way. They are moved into the project once their stage
//! begins.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use gantry_wire::cache::RestoreCaches;
use gantry_wire::plan::{Action, PodPlan};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{StageContext, caches};
use crate::process::launch::{Launched, Started, start};

/// The name of the pipe in the agent's directory that says when to go on.
const GATE: &str = "cache-gate";

/// Where the work is kept between two stages.
pub(crate) type Slot = Arc<Mutex<Option<Ahead>>>;

/// A child that restores caches, and waits before it touches the project. Dropping this closes the
/// gate for ever: the child removes what it has unpacked, and ends.
pub(crate) struct Ahead {
    /// Nobody else writes to it.
    gate: File,
    path: PathBuf,
    /// Absent once somebody waits for its end.
    process: Option<Started>,
}

/// What follows the sources, if caches do.
fn follows(plan: &PodPlan, sources: usize) -> Option<&RestoreCaches> {
    match &plan.stages.get(sources + 1)?.action {
        Action::RestoreCache(work) if work.caches.iter().any(|cache| !cache.sources.is_empty()) => Some(work),
        _ => None,
    }
}

/// Begins with the caches that follow this stage, which is that of the sources. What goes wrong
/// here goes wrong again, and is said, once their own stage begins.
pub(super) fn begin(context: &StageContext) {
    let Some(work) = follows(&context.plan, context.stage) else { return };
    let begun = gate(context).and_then(|(gate, path)| {
        let process = start(&context.reaper, caches::mover(context, work, &path)?)?;
        Ok(Ahead { gate, path, process: Some(process) })
    });
    put(&context.ahead, begun.ok());
}

/// Gives up what was begun and is not wanted any more.
pub(super) fn give_up(context: &StageContext) {
    put(&context.ahead, None);
}

/// Lets the work that was begun come to its end, with what it says in the log. Whether it has.
pub(super) async fn end(context: &StageContext) -> bool {
    let begun = context.ahead.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut ahead) = begun else { return false };
    let Some(started) = ahead.process.take() else { return false };
    // Who has ended already does not read it.
    let _ = ahead.gate.write_all(&[1]);
    context.told(Launched::from(started)).await.success()
}

fn put(slot: &Slot, ahead: Option<Ahead>) {
    let before = std::mem::replace(&mut *slot.lock().unwrap_or_else(PoisonError::into_inner), ahead);
    drop(before);
}

fn gate(context: &StageContext) -> io::Result<(File, PathBuf)> {
    let path = context.layout.agent_dir().join(GATE);
    let _ = fs::remove_file(&path);
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    // Reading too, so that opening it waits for nobody.
    let gate = OpenOptions::new().read(true).write(true).open(&path)?;
    Ok((gate, path))
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Best effort: the next one removes it too.
        let _ = fs::remove_file(&self.path);
    }
}
