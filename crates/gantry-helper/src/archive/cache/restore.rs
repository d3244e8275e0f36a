//! Restores caches: the first key that has one counts. A cache is unpacked beside the project as it
//! comes, and moved into it once it is whole, so that a project never holds half of one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_core::error_chain::chain;
use gantry_wire::cache::{CachePlace, CacheRestore, CacheSource, CacheTransfer, RestoreCaches};

use super::fetch::{Incoming, fetch};
use super::gate::Gate;
use super::job::CacheJob;
use super::staging::Staging;
use super::trouble::CacheTrouble;
use super::{choose, files, memory, name_of, notice, remark, say, warn, yellow};
use crate::archive::unpack::place::{Late, Placer};
use crate::archive::unpack::{Kind, UnpackError, unpack_tar, unpack_zip};
use crate::tasks;
use crate::trees;

pub(super) async fn all(job: &CacheJob, work: &RestoreCaches) {
    memory::forget(job);
    let gate = Arc::new(Gate::of(job));
    for cache in &work.caches {
        remark(&cache.remarks);
        one(job, &work.transfer, cache, &gate).await;
    }
}

async fn one(job: &CacheJob, transfer: &CacheTransfer, cache: &CacheRestore, gate: &Arc<Gate>) {
    for (number, source) in cache.sources.iter().enumerate() {
        notice(&format!("Checking cache for {}...", source.key));
        match from_source(job, transfer, source, gate).await {
            Ok((late, place)) => {
                if let Err(error) = late.apply() {
                    warn(&chain(&error));
                }
                // Only what is the key's own cache need not be saved again.
                if number == 0 {
                    memory::remember(job, &source.key, &name_of(place), &late);
                }
                notice("Successfully extracted cache");
                return;
            }
            Err(CacheTrouble::Missing) => warn("Cache file does not exist"),
            Err(error) => warn(&chain(&error)),
        }
        yellow("Failed to extract cache");
        if transfer.clean_up && is_open(gate).await {
            clean_up(job, cache);
        }
    }
}

/// Whether the project may be touched now; waits until somebody knows.
async fn is_open(gate: &Arc<Gate>) -> bool {
    let gate = Arc::clone(gate);
    matches!(tasks::blocking(move || gate.pass()).await, Ok(Ok(())))
}

/// Tries the places of one key, and says which of them had the cache. The last trouble that is more
/// than an absence is told.
async fn from_source<'s>(
    job: &CacheJob,
    transfer: &CacheTransfer,
    source: &'s CacheSource,
    gate: &Arc<Gate>,
) -> Result<(Late, &'s CachePlace), CacheTrouble> {
    let mut trouble = CacheTrouble::Missing;
    for place in &source.places {
        let restored = match place {
            CachePlace::Store(request) => match fetch(request, transfer).await {
                Ok(incoming) => {
                    say(&format!("Downloading cache from {}", incoming.shown));
                    unpack(job, incoming, gate).await
                }
                Err(error) => Err(error),
            },
            CachePlace::File(file) => match files::open(file) {
                Ok(incoming) => {
                    say(
                        "No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.",
                    );
                    unpack(job, incoming, gate).await
                }
                Err(error) => Err(error),
            },
            _ => Err(CacheTrouble::Volume(
                "this helper does not know where the cache is: use a newer helper image".to_owned(),
            )),
        };
        match restored {
            Ok(late) => return Ok((late, place)),
            Err(CacheTrouble::Missing) => {}
            Err(error) => trouble = error,
        }
    }
    Err(trouble)
}

/// Unpacks what comes, and moves it into the project.
async fn unpack(job: &CacheJob, incoming: Incoming, gate: &Arc<Gate>) -> Result<Late, CacheTrouble> {
    let (base, project) = (PathBuf::from(&job.builds_dir), PathBuf::from(&job.project_dir));
    let scratch = PathBuf::from(&job.scratch_dir);
    let (failure, gate) = (Arc::clone(&incoming.failure), Arc::clone(gate));
    let unpacked = tasks::blocking(move || unpack_now(incoming, (&base, &project), &scratch, &gate));
    let unpacked = unpacked.await.map_err(CacheTrouble::Thread)?;
    // Where the bytes ended is the cause of what is wrong with the archive.
    let told = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    match (unpacked, told) {
        (Err(_), Some(cause)) => Err(cause),
        (result, _) => result,
    }
}

fn unpack_now(
    mut incoming: Incoming,
    (base, project): (&Path, &Path),
    scratch: &Path,
    gate: &Gate,
) -> Result<Late, CacheTrouble> {
    let kind = Kind::of(incoming.start())?;
    trees::make_below(base, project.parent().unwrap_or(base)).map_err(CacheTrouble::Project)?;
    let staging = Staging::make(project).map_err(CacheTrouble::Project)?;
    let mut placer = Placer::new(staging.path().to_owned())?;
    match kind {
        Kind::TarZstd => unpack_tar(&mut incoming, &mut placer)?,
        Kind::Zip => {
            let file = incoming.into_file(scratch).map_err(|error| match error {
                // What came may be too much for the disk, or break off.
                error if error.raw_os_error().is_some() => {
                    CacheTrouble::Scratch { directory: scratch.display().to_string(), source: error }
                }
                error => CacheTrouble::Unpack(UnpackError::Read(error)),
            })?;
            unpack_zip(file, &mut placer)?;
        }
    }
    let late = placer.finish()?;
    gate.pass()?;
    trees::make_below(base, project).map_err(CacheTrouble::Project)?;
    staging.publish(project).map_err(CacheTrouble::Publish)?;
    Ok(late.moved_to(project.canonicalize().map_err(CacheTrouble::Project)?))
}

/// Removes the paths of a cache that could not be restored.
fn clean_up(job: &CacheJob, cache: &CacheRestore) {
    let Ok(Some(chosen)) = choose(job, &cache.paths, cache.untracked) else { return };
    for path in chosen.paths.iter().rev() {
        let full = chosen.root.path().join(path);
        if let Err(error) = trees::remove_tree(&full) {
            warn(&format!("{} cannot be removed: {error}", path.display()));
        }
    }
    for path in &cache.paths {
        say(&format!("Removing {path}"));
    }
}
