//! Makes the entries of some files at once, with their content where that is short: one pass over
//! many small files costs less than a word about each.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::mem;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::{PackError, ignored, io_error, padding};
use crate::archive::root::{Kind, Opener, Root, Status};
use crate::archive::tree::TreePart;
use crate::limits::{TAR_SAMPLE, TAR_SAMPLE_EVERY, TAR_SAMPLES, TAR_SMALL, TREE_APART};

/// The entries of some paths, in their order.
pub(super) type Block = Vec<Item>;

pub(super) enum Item {
    /// Entries that are whole, but for the last one where [`Item::Large`] follows.
    Entries(Entries),
    /// The content of the entry before.
    Large(Large),
    /// A file that nothing makes smaller. Its entry comes at the end.
    Apart(Apart),
    /// It was chosen and is not there: processes of the job may still run.
    Gone(PathBuf),
    Failed(PackError),
}

/// A part of the archive.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) bytes: Vec<u8>,
    pub(super) tree: TreePart,
}

/// A file that is not held in memory.
pub(super) struct Large {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// What its header says.
    pub(super) length: u64,
}

/// A file that is not compressed.
pub(super) struct Apart {
    /// What stands before its content.
    pub(super) head: Vec<u8>,
    pub(super) content: Large,
}

/// Some paths and where their entries are waited for.
pub(super) struct Order<'a> {
    paths: &'a [&'a Path],
    done: SyncSender<Block>,
}

/// Paths to hand to a reader, and their entries to come.
pub(super) fn order<'a>(paths: &'a [&'a Path]) -> (Order<'a>, Receiver<Block>) {
    let (done, promise) = sync_channel(1);
    (Order { paths, done }, promise)
}

/// What is said where a reader has ended before its time.
pub(super) fn gone() -> io::Error {
    io::Error::other("the thread that reads files has ended")
}

/// Reads until nobody orders any more. `room` is how many files may still be set apart, by all
/// readers.
pub(super) fn read(root: &Root, orders: &Mutex<Receiver<Order<'_>>>, room: &AtomicUsize) {
    let mut reader = Reader {
        opener: Opener::new(root),
        room,
        heads: Builder::new(Vec::new()),
        entries: Entries::default(),
        block: Vec::new(),
    };
    loop {
        let next = orders.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Order { paths, done }) = next else { return };
        // Who waits no more has given up on the archive.
        let _ = done.send(reader.block(paths));
    }
}

struct Reader<'a> {
    opener: Opener<'a>,
    room: &'a AtomicUsize,
    /// Knows how long names are written.
    heads: Builder<Vec<u8>>,
    entries: Entries,
    block: Block,
}

impl Reader<'_> {
    fn block(&mut self, paths: &[&Path]) -> Block {
        for path in paths {
            match self.entry(path) {
                Ok(()) => {}
                Err(PackError::Io { source, .. })
                    if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
                {
                    self.finish(Item::Gone((*path).to_owned()));
                }
                Err(error) => {
                    self.finish(Item::Failed(error));
                    break;
                }
            }
        }
        let entries = mem::take(&mut self.entries);
        self.block.push(Item::Entries(entries));
        mem::take(&mut self.block)
    }

    /// Another item follows what there is so far.
    fn finish(&mut self, item: Item) {
        let entries = mem::take(&mut self.entries);
        self.block.extend([Item::Entries(entries), item]);
    }

    fn entry(&mut self, path: &Path) -> Result<(), PackError> {
        let unreadable = |source| io_error(&path.to_string_lossy(), source);
        let status = self.opener.status(path).map_err(unreadable)?;
        let mut header = header(&status);
        match status.kind() {
            Kind::Directory => {
                header.set_entry_type(EntryType::Directory);
                self.entries.tree.directory(path, status.mode);
                self.head(&mut header, path)
            }
            Kind::Link => {
                let target = self.opener.link(path).map_err(unreadable)?;
                header.set_entry_type(EntryType::Symlink);
                self.entries.tree.link(path, status.mode, &target);
                self.heads.append_link(&mut header, path, &target).map_err(PackError::Out)?;
                self.take_head();
                Ok(())
            }
            // The archive has as much of a file as it had when it was come to: its length stands
            // before its bytes.
            Kind::File => {
                let length = status.length;
                let short = usize::try_from(length).ok().filter(|length| *length <= TAR_SMALL);
                let file = if short.is_some() { self.opener.open_seen(path) } else { self.opener.open(path) };
                let file = file.map_err(unreadable)?;
                let start = self.entries.bytes.len();
                header.set_size(length);
                self.head(&mut header, path)?;
                self.entries.tree.file(path, status.mode, length);
                if let Some(length) = short {
                    return self.content(file, length).map_err(unreadable);
                }
                let is_apart = length > TREE_APART && !shrinks(&file, length).map_err(unreadable)? && self.takes_room();
                let content = Large { path: path.to_owned(), file, length };
                self.finish_large(start, content, is_apart);
                Ok(())
            }
            Kind::Other => {
                ignored(path);
                Ok(())
            }
        }
    }

    fn finish_large(&mut self, start: usize, content: Large, is_apart: bool) {
        if is_apart {
            let head = self.entries.bytes.split_off(start);
            self.finish(Item::Apart(Apart { head, content }));
        } else {
            self.finish(Item::Large(content));
        }
    }

    /// Whether one more file may be set apart.
    fn takes_room(&self) -> bool {
        self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(1)).is_ok()
    }

    fn head(&mut self, header: &mut Header, path: &Path) -> Result<(), PackError> {
        self.heads.append_data(header, path, io::empty()).map_err(PackError::Out)?;
        self.take_head();
        Ok(())
    }

    fn take_head(&mut self) {
        self.entries.bytes.append(self.heads.get_mut());
    }

    /// Exactly so many bytes: a file that has shrunk ends in zeros.
    fn content(&mut self, mut file: File, length: usize) -> io::Result<()> {
        let bytes = &mut self.entries.bytes;
        let start = bytes.len();
        bytes.resize(start + length + padding(length as u64), 0);
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(start + filled..start + length).filter(|rest| !rest.is_empty()) {
            match file.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let content = bytes.get(start..start + length).unwrap_or_default();
        self.entries.tree.bytes(&Sha256::digest(content).into());
        Ok(())
    }
}

/// Whether a file is worth compressing, by samples from all over it: three from a hundred at least.
fn shrinks(file: &File, length: u64) -> io::Result<bool> {
    let (least, most) = TAR_SAMPLES;
    let count = (length / TAR_SAMPLE_EVERY).clamp(least, most);
    let last = length.saturating_sub(TAR_SAMPLE as u64);
    let (mut sample, mut read, mut packed) = (vec![0; TAR_SAMPLE], 0, 0);
    let mut compressor = zstd::bulk::Compressor::new(1)?;
    for number in 0..count {
        let filled = file.read_at(&mut sample, last / (count - 1).max(1) * number)?;
        packed += compressor.compress(sample.get(..filled).unwrap_or_default())?.len();
        read += filled;
    }
    Ok(packed * 100 < read * 97)
}

/// Everything about an entry but its kind and length.
fn header(status: &Status) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(status.mode & 0o7777);
    header.set_uid(u64::from(status.owner.uid));
    header.set_gid(u64::from(status.owner.gid));
    // A negative number in the way that every tar reads: its bits, and as many ones before them.
    header.set_mtime(status.modified.seconds.cast_unsigned());
    if let Some(before) = header.as_old_mut().mtime.first_chunk_mut().filter(|_| status.modified.seconds < 0) {
        *before = [0xff; 4];
    }
    header.set_size(0);
    header
}
