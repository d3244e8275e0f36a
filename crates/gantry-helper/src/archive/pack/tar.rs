//! Tar archives, compressed with zstd. The stream is compressed on all cores by the library; the
//! files are read one after the other. At the end stands what the archive was made of (`tree.rs`).

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::{PackError, io_error};
use crate::archive::root::{Opener, Root};
use crate::archive::tree::TreeHasher;
use crate::archive::warn;
use crate::limits::{TAR_JOB, TAR_WORKERS};

pub(super) fn tar_zstd(
    level: i32,
    root: &Root,
    paths: &BTreeSet<PathBuf>,
    out: &mut impl Write,
) -> Result<(), PackError> {
    let compress = || -> io::Result<_> {
        let mut encoder = zstd::Encoder::new(out, level)?;
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        encoder.multithread(u32::try_from(cores.min(TAR_WORKERS)).unwrap_or(1))?;
        encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(TAR_JOB))?;
        // A broken archive is known as one before it is unpacked to its end.
        encoder.include_checksum(true)?;
        Ok(encoder)
    };
    let mut packer = Packer {
        archive: Builder::new(compress().map_err(PackError::Out)?),
        root,
        opener: Opener::new(root),
        tree: TreeHasher::default(),
    };
    for path in paths {
        let Ok(metadata) = fs::symlink_metadata(root.path().join(path)) else { continue };
        match packer.entry(path, &metadata) {
            Err(PackError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                warn(&format!("{} is not there any more, and is left out", path.display()));
            }
            done => done?,
        }
    }
    let Packer { archive, tree, .. } = packer;
    let encoder = archive.into_inner().map_err(PackError::Out)?;
    let out = encoder.finish().map_err(PackError::Out)?;
    out.write_all(&tree.digest().trailer()).map_err(PackError::Out)
}

struct Packer<'a, W: Write> {
    archive: Builder<W>,
    root: &'a Root,
    opener: Opener<'a>,
    tree: TreeHasher,
}

impl<W: Write> Packer<'_, W> {
    fn entry(&mut self, path: &Path, metadata: &Metadata) -> Result<(), PackError> {
        let unreadable = |source| io_error(&path.to_string_lossy(), source);
        let kind = metadata.file_type();
        let mut header = header(metadata);
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            self.tree.directory(path, metadata);
            return self.archive.append_data(&mut header, path, io::empty()).map_err(PackError::Out);
        }
        if kind.is_symlink() {
            let target = fs::read_link(self.root.path().join(path)).map_err(unreadable)?;
            header.set_entry_type(EntryType::Symlink);
            self.tree.link(path, metadata, &target);
            return self.archive.append_link(&mut header, path, &target).map_err(PackError::Out);
        }
        if !kind.is_file() {
            // Sockets, devices and pipes have no content to keep.
            return Ok(());
        }
        let file = self.opener.open(path).map_err(unreadable)?;
        // The archive has as much of a file as it had when it was opened: its length stands before
        // its bytes.
        let length = file.metadata().map_err(unreadable)?.len();
        header.set_size(length);
        let mut content = Exact { file, left: length, hash: Sha256::new(), trouble: None };
        let appended = self.archive.append_data(&mut header, path, &mut content);
        if let Some(error) = content.trouble {
            return Err(unreadable(error));
        }
        appended.map_err(PackError::Out)?;
        self.tree.file(path, metadata, length);
        self.tree.bytes(&content.hash.finalize().into());
        Ok(())
    }
}

/// Everything about an entry but its kind and length.
fn header(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(u64::from(metadata.uid()));
    header.set_gid(u64::from(metadata.gid()));
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(0);
    header
}

/// A file that gives exactly so many bytes: one that shrinks meanwhile ends in zeros.
struct Exact {
    file: fs::File,
    left: u64,
    hash: Sha256,
    /// Why it could not be read. The writer's own errors look the same.
    trouble: Option<io::Error>,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..most).filter(|part| !part.is_empty()) else { return Ok(0) };
        let count = match self.file.read(part) {
            Ok(0) => {
                part.fill(0);
                most
            }
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let told = io::Error::from(error.kind());
                self.trouble = Some(error);
                return Err(told);
            }
        };
        self.left -= count as u64;
        self.hash.update(part.get(..count).unwrap_or_default());
        Ok(count)
    }
}
