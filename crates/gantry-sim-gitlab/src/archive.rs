//! Looks into the archives of jobs: what is in them, and one file. Never writes.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

use serde_json::{Value, json};
use zip::ZipArchive;

use crate::limits;

/// The files of an archive, as people see them; `None` if it is no archive. Blocks.
pub(crate) fn list(path: &Path) -> Option<Vec<Value>> {
    let mut archive = open(path)?;
    let count = archive.len().min(limits::LISTED_FILES);
    let files = (0..count).filter_map(|index| {
        let file = archive.by_index_raw(index).ok()?;
        let name = file.name().ok()?.into_owned();
        (!file.is_dir()).then(|| json!({"path": name, "size": file.size()}))
    });
    Some(files.collect())
}

/// One file of an archive, up to a size; `None` if it is not there or larger. Blocks.
pub(crate) fn file(path: &Path, name: &str, largest: u64) -> Option<Vec<u8>> {
    let mut archive = open(path)?;
    let file = archive.by_name(name).ok().filter(|file| !file.is_dir() && file.size() <= largest)?;
    let mut bytes = Vec::new();
    // What the archive says of the size is not trusted.
    file.take(largest + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= largest).then_some(bytes)
}

fn open(path: &Path) -> Option<ZipArchive<BufReader<File>>> {
    ZipArchive::new(BufReader::new(File::open(path).ok()?)).ok()
}
