//! What was restored, remembered until the cache is saved in the same pod: if nothing has changed
//! by then, nothing is packed and sent.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::job::CacheJob;
use crate::archive::root::{Kind, Opener, Root};
use crate::archive::unpack::place::Late;

/// Beginning of the names of the files that remember.
const PREFIX: &str = "cache-state-";

/// Remembers how the files of a cache are that its archive holds, and where that is. Those that are
/// chosen when it is saved must be the same, and no more.
pub(super) fn remember(job: &CacheJob, key: &str, place: &str, late: &Late) {
    if let Ok(Some(root)) = super::root(job) {
        // Without it the cache is saved again.
        let _ = fs::write(file(job, key), [&state(&root, late.placed()), place.as_bytes()].concat());
    }
}

/// The place that a cache was restored from, if its files are as they were then.
pub(super) fn unchanged_since(job: &CacheJob, key: &str, root: &Root, paths: &BTreeSet<PathBuf>) -> Option<String> {
    let known = fs::read(file(job, key)).ok()?;
    let place = known.strip_prefix(state(root, paths).as_slice())?;
    Some(String::from_utf8_lossy(place).into_owned())
}

/// Forgets what an earlier try has restored.
pub(super) fn forget(job: &CacheJob) {
    for entry in fs::read_dir(&job.scratch_dir).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn file(job: &CacheJob, key: &str) -> PathBuf {
    let digest = Sha256::digest(key.as_bytes());
    let name = digest.as_slice().first_chunk().map_or(0, |start| u128::from_be_bytes(*start));
    Path::new(&job.scratch_dir).join(format!("{PREFIX}{name:032x}"))
}

/// A digest of names, kinds, sizes and times. The content is not read: who changes a file changes
/// its time or takes another file's place. Times and number of entries of directories change with
/// what is in them, which is in the list itself.
fn state(root: &Root, paths: &BTreeSet<PathBuf>) -> Vec<u8> {
    let (mut digest, mut opener) = (Sha256::new(), Opener::new(root));
    for path in paths {
        let name = path.as_os_str().as_bytes();
        digest.update((name.len() as u64).to_le_bytes());
        digest.update(name);
        let Ok(status) = opener.status(path) else { continue };
        digest.update(status.mode.to_le_bytes());
        if status.kind() == Kind::Directory {
            continue;
        }
        for number in [status.length, status.inode] {
            digest.update(number.to_le_bytes());
        }
        for number in [status.modified.seconds, status.modified.nanoseconds] {
            digest.update(number.to_le_bytes());
        }
    }
    digest.finalize().to_vec()
}
