//! Zip archives. One thread walks over the files and orders their parts, workers deflate them, and
//! the caller's thread writes them one after the other. The archive is never sought in, so it can
//! be sent while it is made.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use crc32fast::Hasher;
use rawzip::extra_fields::ExtraFieldId;
use rawzip::path::EntryPath;
use rawzip::time::UtcDateTime;
use rawzip::{CompressionMethod, DataDescriptorOutput, Header, ZipArchiveWriter, ZipFileBuilder};

use super::workers::{self, END_OF_PARTS, Method, Order, Part, Promise, Source, order, parts};
use super::{PackError, ignored, io_error, vanished};
use crate::archive::root::Root;
use crate::limits::{PACK_PART, PACK_PARTS_PER_WORKER, PACK_WORKERS};

/// The extra field for user and group (Info-ZIP, `ux`).
const UNIX_OWNER: ExtraFieldId = ExtraFieldId::new(0x7875);

/// What the writer writes next.
enum Item<'a> {
    Directory(&'a Path, Metadata),
    Link(&'a Path, Metadata, Vec<u8>),
    /// A file begins; its parts and [`Item::End`] follow.
    File(&'a Path, Metadata),
    Part(Promise),
    End,
    Failed(PackError),
}

pub(super) fn zip(
    method: Method,
    root: &Root,
    paths: &BTreeSet<PathBuf>,
    out: &mut (impl Write + Send),
) -> Result<(), PackError> {
    let workers = thread::available_parallelism().map_or(1, |cores| cores.get().min(PACK_WORKERS));
    let (items, to_write) = sync_channel(workers * PACK_PARTS_PER_WORKER);
    let (orders, to_pack) = sync_channel(workers);
    let to_pack = Mutex::new(to_pack);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| workers::work(root, &to_pack));
        }
        scope.spawn(move || Walk { root, method, items, orders }.all(paths));
        let written = write(&to_write, out);
        // Stops the walk, where the writer has not come to its end, and that the workers.
        drop(to_write);
        written
    })
}

/// Goes over the files. Nobody who takes any more ends it.
struct Walk<'a> {
    root: &'a Root,
    method: Method,
    items: SyncSender<Item<'a>>,
    orders: SyncSender<Order>,
}

/// Nobody takes any more.
struct Gone;

impl<'a> Walk<'a> {
    fn all(&self, paths: &'a BTreeSet<PathBuf>) {
        for path in paths {
            let Ok(metadata) = fs::symlink_metadata(self.root.path().join(path)) else { continue };
            let next = match self.entry(path, metadata) {
                Ok(next) => next,
                Err(source) if source.kind() == ErrorKind::NotFound => {
                    vanished(path);
                    Ok(())
                }
                Err(source) => self.say(Item::Failed(io_error(&path.to_string_lossy(), source))),
            };
            if next.is_err() {
                return;
            }
        }
    }

    fn say(&self, item: Item<'a>) -> Result<(), Gone> {
        self.items.send(item).map_err(|_| Gone)
    }

    fn entry(&self, path: &'a Path, metadata: Metadata) -> std::io::Result<Result<(), Gone>> {
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Ok(self.say(Item::Directory(path, metadata)));
        }
        if kind.is_symlink() {
            let target = fs::read_link(self.root.path().join(path))?.as_os_str().as_bytes().to_vec();
            return Ok(self.say(Item::Link(path, metadata, target)));
        }
        if !kind.is_file() {
            ignored(path);
            return Ok(Ok(()));
        }
        // The archive has as much of a file as there was when it was come to: one that grows for
        // ever is not packed for ever.
        let length = metadata.len();
        if length <= PACK_PART as u64 {
            let length = usize::try_from(length).unwrap_or(PACK_PART);
            let part =
                Part { source: Source::Closed(path.to_owned()), offset: 0, length, method: self.method, whole: true };
            return Ok(self
                .say(Item::File(path, metadata))
                .and_then(|()| self.order(part))
                .and_then(|()| self.say(Item::End)));
        }
        let file = Arc::new(self.root.open_file(path)?);
        let method = if workers::shrinks(&file, length)? { self.method } else { Method::Stored };
        Ok(self.say(Item::File(path, metadata)).and_then(|()| {
            for (offset, length) in parts(length) {
                let source = Source::Open(Arc::clone(&file));
                self.order(Part { source, offset, length, method, whole: false })?;
            }
            self.say(Item::End)
        }))
    }

    /// The place in the archive is taken first, so that no more parts are in memory than there are
    /// places.
    fn order(&self, part: Part) -> Result<(), Gone> {
        let (order, promise) = order(part);
        self.say(Item::Part(promise))?;
        self.orders.send(order).map_err(|_| Gone)
    }
}

fn write(items: &Receiver<Item<'_>>, out: &mut impl Write) -> Result<(), PackError> {
    let mut archive = ZipArchiveWriter::new(BufWriter::new(out));
    while let Ok(item) = items.recv() {
        match item {
            Item::Directory(path, metadata) => directory(&mut archive, path, &metadata)?,
            Item::Link(path, metadata, target) => link(&mut archive, path, &metadata, &target)?,
            Item::File(path, metadata) => file(&mut archive, path, &metadata, items)?,
            Item::Failed(error) => return Err(error),
            Item::Part(_) | Item::End => {}
        }
    }
    let out = archive.finish().map_err(|source| zip_error(Path::new("the directory of the archive"), source))?;
    out.into_inner().map_err(|error| PackError::Out(error.into_error())).map(|_| ())
}

fn directory<W: Write>(archive: &mut ZipArchiveWriter<W>, path: &Path, metadata: &Metadata) -> Result<(), PackError> {
    let failed = |source| zip_error(path, source);
    let mut name = path.as_os_str().as_bytes().to_vec();
    name.push(b'/');
    archive
        .new_dir(entry_path(&name))
        .last_modified(UtcDateTime::from_unix(metadata.mtime()))
        .unix_permissions(metadata.mode())
        .extra_field(UNIX_OWNER, &owner(metadata), Header::default())
        .and_then(rawzip::ZipDirBuilder::create)
        .map(|_| ())
        .map_err(failed)
}

fn link<W: Write>(
    archive: &mut ZipArchiveWriter<W>,
    path: &Path,
    metadata: &Metadata,
    target: &[u8],
) -> Result<(), PackError> {
    let failed = |source| zip_error(path, source);
    let (mut entry, _) = begin(archive, path, metadata, Method::Stored)?.start().map_err(failed)?;
    entry.write_all(target).map_err(PackError::Out)?;
    let mut read = Hasher::new();
    read.update(target);
    entry.finish(DataDescriptorOutput::new(read.finalize(), target.len() as u64)).map(|_| ()).map_err(failed)
}

/// One file, as its parts come. The first says whether it is deflated.
fn file<W: Write>(
    archive: &mut ZipArchiveWriter<W>,
    path: &Path,
    metadata: &Metadata,
    items: &Receiver<Item<'_>>,
) -> Result<(), PackError> {
    let failed = |source| zip_error(path, source);
    let next = || match items.recv() {
        Ok(Item::Part(promise)) => {
            let gone = || Err(std::io::Error::other("its thread has ended"));
            let packed = promise.recv().unwrap_or_else(|_| gone());
            packed.map(Some).map_err(|source| io_error(&path.to_string_lossy(), source))
        }
        _ => Ok(None),
    };
    let first = match next() {
        Ok(Some(first)) => first,
        Ok(None) => return Ok(()),
        // Processes of the job may still run. The entry has not begun, so the rest of its parts is
        // passed over.
        Err(PackError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            vanished(path);
            while matches!(items.recv(), Ok(Item::Part(_))) {}
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let (method, mut alone) = (first.method, true);
    let (mut entry, _) = begin(archive, path, metadata, method)?.start().map_err(failed)?;
    let (mut read, mut length) = (first.read, first.length);
    entry.write_all(&first.bytes).map_err(PackError::Out)?;
    while let Some(part) = next()? {
        alone = false;
        read.combine(&part.read);
        length += part.length;
        entry.write_all(&part.bytes).map_err(PackError::Out)?;
    }
    if !alone && matches!(method, Method::Deflated(_)) {
        entry.write_all(&END_OF_PARTS).map_err(PackError::Out)?;
    }
    entry.finish(DataDescriptorOutput::new(read.finalize(), length)).map(|_| ()).map_err(failed)
}

fn begin<'a, 'p, W: Write>(
    archive: &'a mut ZipArchiveWriter<W>,
    path: &'p Path,
    metadata: &Metadata,
    method: Method,
) -> Result<ZipFileBuilder<'a, 'p, W>, PackError> {
    let method = match method {
        Method::Stored => CompressionMethod::STORE,
        Method::Deflated(_) => CompressionMethod::DEFLATE,
        Method::Zstd(_) => CompressionMethod::ZSTD,
    };
    archive
        .new_file(entry_path(path.as_os_str().as_bytes()))
        .compression_method(method)
        .last_modified(UtcDateTime::from_unix(metadata.mtime()))
        .unix_permissions(metadata.mode())
        .extra_field(UNIX_OWNER, &owner(metadata), Header::default())
        .map_err(|source| zip_error(path, source))
}

/// Names are bytes on Linux. Those that are text are marked as UTF-8; a backslash is a letter of a
/// name, and must not become a slash.
fn entry_path(name: &[u8]) -> EntryPath<'_> {
    match std::str::from_utf8(name) {
        Ok(text) if !text.contains('\\') => EntryPath::conformant(text),
        _ => EntryPath::verbatim(name),
    }
}

fn owner(metadata: &Metadata) -> Vec<u8> {
    let mut owner = vec![1, 4];
    owner.extend(metadata.uid().to_le_bytes());
    owner.push(4);
    owner.extend(metadata.gid().to_le_bytes());
    owner
}

/// An output that breaks is no fault of the entry that was written then.
fn zip_error(path: &Path, source: rawzip::Error) -> PackError {
    match source.into_kind() {
        rawzip::ErrorKind::IO(error) => PackError::Out(error),
        kind => PackError::Zip { path: path.to_string_lossy().into_owned(), source: kind.into() },
    }
}

#[cfg(test)]
mod tests;
