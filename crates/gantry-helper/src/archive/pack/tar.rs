//! Tar archives, compressed with zstd. Readers on all cores make the entries of some files each
//! (`entries.rs`), the caller's thread puts these blocks one after the other and reads large files
//! itself, and the library compresses the stream on all cores. Large files that nothing makes
//! smaller come last and as they are (`tail.rs`): the length of that part is known before it is
//! read, so it can be sent to whoever wants the length first. At the end stands what the archive
//! was made of (`tree.rs`).

mod entries;
mod raw;
mod tail;

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::sync_channel;
use std::thread;

use self::entries::{Block, Item, Large, Order};
pub(in crate::archive) use self::tail::Tail;
use super::{PackError, ignored, io_error};
use crate::archive::root::Root;
use crate::archive::tree::ContentHasher;
use crate::archive::warn;
use crate::limits::{
    TAR_APART_FILES, TAR_BLOCK, TAR_BLOCKS_PER_READER, TAR_BUFFER, TAR_JOB, TAR_OVERLAP, TAR_WORKERS, TREE_APART,
};

/// Everything in a tar archive is as long as so many bytes, or a multiple.
const RECORD: usize = 512;

/// What ends an archive.
const END: [u8; 2 * RECORD] = [0; 2 * RECORD];

/// Writes all of an archive but its tail.
pub(super) fn head(
    level: i32,
    root: &Root,
    paths: &BTreeSet<PathBuf>,
    out: &mut impl Write,
) -> Result<Tail, PackError> {
    head_before(TAR_APART_FILES, level, root, paths, out)
}

/// The same before a tail of at most so many files.
fn head_before(
    files: usize,
    level: i32,
    root: &Root,
    paths: &BTreeSet<PathBuf>,
    out: &mut impl Write,
) -> Result<Tail, PackError> {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get).min(TAR_WORKERS);
    let compress = || -> io::Result<_> {
        let mut encoder = zstd::Encoder::new(out, level)?;
        encoder.multithread(u32::try_from(cores).unwrap_or(1))?;
        encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(TAR_JOB))?;
        encoder.set_parameter(zstd::zstd_safe::CParameter::OverlapSizeLog(TAR_OVERLAP))?;
        // A broken archive is known as one before it is unpacked to its end.
        encoder.include_checksum(true)?;
        Ok(encoder)
    };
    let mut archive = Archive { out: compress().map_err(PackError::Out)?, tail: Tail::default(), buffer: Vec::new() };
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let (orders, to_read) = sync_channel::<Order<'_>>(cores * TAR_BLOCKS_PER_READER);
    let (to_read, room) = (Mutex::new(to_read), AtomicUsize::new(files));
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| entries::read(root, &to_read, &room));
        }
        let mut blocks = paths.chunks(TAR_BLOCK);
        let mut promises = VecDeque::with_capacity(cores * TAR_BLOCKS_PER_READER);
        loop {
            // No more blocks are in memory than are ordered.
            while promises.len() < cores * TAR_BLOCKS_PER_READER
                && let Some(block) = blocks.next()
            {
                let (order, promise) = entries::order(block);
                orders.send(order).map_err(|_| PackError::Out(entries::gone()))?;
                promises.push_back(promise);
            }
            let Some(promise) = promises.pop_front() else { break };
            archive.block(promise.recv().map_err(|_| PackError::Out(entries::gone()))?)?;
        }
        // Without a sender the readers end.
        drop(orders);
        Ok(())
    })?;
    archive.end().map_err(PackError::Out)
}

/// What is written.
struct Archive<W: Write> {
    out: W,
    tail: Tail,
    buffer: Vec<u8>,
}

impl<W: Write> Archive<W> {
    fn block(&mut self, block: Block) -> Result<(), PackError> {
        for item in block {
            match item {
                Item::Entries(entries) => {
                    self.tail.tree.add(&entries.tree);
                    self.out.write_all(&entries.bytes).map_err(PackError::Out)?;
                }
                Item::Large(large) => self.large(large)?,
                Item::Apart(file) => self.tail.add(file),
                Item::Gone(path) => {
                    warn(&format!("{} is not there any more, and is left out", path.display()));
                }
                Item::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The content of a file whose header is written: exactly as much as it says, so that one that
    /// shrinks meanwhile ends in zeros.
    fn large(&mut self, Large { path, mut file, length }: Large) -> Result<(), PackError> {
        let place = (length > TREE_APART).then(|| self.tail.tree.place_apart());
        self.buffer.resize(TAR_BUFFER, 0);
        let (mut left, mut hash) = (length, ContentHasher::new(length));
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let part = self.buffer.get_mut(..most).unwrap_or_default();
            let count = match file.read(part) {
                Ok(0) => {
                    part.fill(0);
                    most
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(source) => return Err(io_error(&path.to_string_lossy(), source)),
            };
            let part = part.get(..count).unwrap_or_default();
            hash.update(part);
            self.out.write_all(part).map_err(PackError::Out)?;
            left -= count as u64;
        }
        let hash = hash.end();
        match place {
            Some(place) => self.tail.tree.bytes_apart(place, hash),
            None => self.tail.tree.bytes(&hash),
        }
        let fill = END.get(..padding(length)).unwrap_or_default();
        self.out.write_all(fill).map_err(PackError::Out)
    }
}

impl<W: Write> Archive<zstd::Encoder<'_, W>> {
    fn end(mut self) -> io::Result<Tail> {
        if self.tail.is_empty() {
            self.out.write_all(&END)?;
        }
        self.out.finish()?;
        Ok(self.tail)
    }
}

/// What follows content of that length, up to a whole record.
fn padding(length: u64) -> usize {
    let record = RECORD as u64;
    usize::try_from((record - length % record) % record).unwrap_or(0)
}

#[cfg(test)]
mod tests;
