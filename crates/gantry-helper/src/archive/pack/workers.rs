//! Compresses parts of files on all cores. Each part is compressed alone, so that parts of one file
//! follow each other in its entry as they come: a deflated one ends at a whole byte (the way of
//! `pigz`), with zstd each is a frame of its own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress};

use crate::archive::root::{Opener, Root};
use crate::limits::PACK_PART;

/// How the bytes of an entry are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// As they are.
    Stored,
    /// Deflated at this level.
    Deflated(u32),
    /// Compressed with zstd at this level.
    Zstd(i32),
}

/// Where a part is read from.
pub(super) enum Source {
    /// A file of one part, opened by the worker that reads it.
    Closed(PathBuf),
    /// A file of several parts.
    Open(Arc<File>),
}

/// A part of a file.
pub(super) struct Part {
    pub(super) source: Source,
    pub(super) offset: u64,
    /// At most [`PACK_PART`]. A file that has shrunk meanwhile gives less.
    pub(super) length: usize,
    pub(super) method: Method,
    /// Whether it is all of its file. Its entry may then be stored although it was to be deflated,
    /// if that is shorter.
    pub(super) whole: bool,
}

/// What a part became.
pub(super) struct Packed {
    pub(super) method: Method,
    pub(super) bytes: Vec<u8>,
    /// Length and checksum of what was read.
    pub(super) read: Hasher,
    pub(super) length: u64,
}

/// A part and where its result is waited for.
pub(super) struct Order {
    part: Part,
    done: SyncSender<io::Result<Packed>>,
}

/// The result of a part, when it is there; an error if its worker is gone.
pub(super) type Promise = Receiver<io::Result<Packed>>;

/// A part to hand to a worker, and its result to come.
pub(super) fn order(part: Part) -> (Order, Promise) {
    let (done, promise) = sync_channel(1);
    (Order { part, done }, promise)
}

/// Works until nobody orders any more.
pub(super) fn work(root: &Root, orders: &Mutex<Receiver<Order>>) {
    let mut worker = Worker::new(root);
    loop {
        let next = orders.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Order { part, done }) = next else { return };
        // Who waits no more has given up on the archive.
        let _ = done.send(worker.pack(&part));
    }
}

struct Worker<'a> {
    opener: Opener<'a>,
    level: u32,
    compress: Compress,
    raw: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(root: &'a Root) -> Self {
        let compress = Compress::new(Compression::none(), false);
        Self { opener: Opener::new(root), level: 0, compress, raw: Vec::new() }
    }

    fn pack(&mut self, part: &Part) -> io::Result<Packed> {
        self.read(part)?;
        let mut read = Hasher::new();
        read.update(&self.raw);
        let length = self.raw.len() as u64;
        let packed = |method, bytes| Packed { method, bytes, read, length };
        let bytes = match part.method {
            Method::Stored => return Ok(packed(Method::Stored, self.raw.clone())),
            Method::Deflated(level) => {
                let end = if part.whole { FlushCompress::Finish } else { FlushCompress::Sync };
                self.deflate(level, end)?
            }
            Method::Zstd(level) => zstd::bulk::compress(&self.raw, level)?,
        };
        if part.whole && bytes.len() >= self.raw.len() {
            return Ok(packed(Method::Stored, self.raw.clone()));
        }
        Ok(packed(part.method, bytes))
    }

    fn read(&mut self, part: &Part) -> io::Result<()> {
        let opened;
        let file = match &part.source {
            Source::Open(file) => file.as_ref(),
            Source::Closed(path) => {
                opened = self.opener.open(path)?;
                &opened
            }
        };
        self.raw.resize(part.length, 0);
        let mut filled = 0;
        while let Some(rest) = self.raw.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, part.offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.raw.truncate(filled);
        Ok(())
    }

    fn deflate(&mut self, level: u32, end: FlushCompress) -> io::Result<Vec<u8>> {
        if self.level == level {
            self.compress.reset();
        } else {
            self.compress = Compress::new(Compression::new(level), false);
            self.level = level;
        }
        deflate(&mut self.compress, &self.raw, end)
    }
}

/// All of `raw`, up to a whole byte.
fn deflate(compress: &mut Compress, raw: &[u8], end: FlushCompress) -> io::Result<Vec<u8>> {
    // Rarely too small: what does not shrink grows by a few bytes in each 16 KiB.
    let mut bytes = Vec::with_capacity(raw.len() / 2 + 64);
    loop {
        let taken = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
        compress.compress_vec(raw.get(taken..).unwrap_or_default(), &mut bytes, end)?;
        // Room that is left means that all is out.
        if bytes.len() < bytes.capacity() {
            return Ok(bytes);
        }
        bytes.reserve(raw.len() / 4 + 64);
    }
}

/// What ends a file whose parts were deflated one by one: an empty last block (RFC 1951, 3.2.6).
pub(super) const END_OF_PARTS: [u8; 2] = [0x03, 0x00];

/// Bytes of each sample that [`shrinks`] deflates.
const SAMPLE: usize = 32 * 1024;

/// Whether a file of several parts is worth deflating, by samples of its beginning, middle and end:
/// three from a hundred, at least.
pub(super) fn shrinks(file: &File, length: u64) -> io::Result<bool> {
    let mut compress = Compress::new(Compression::fast(), false);
    let mut sample = vec![0; SAMPLE];
    for offset in [0, length / 2, length.saturating_sub(SAMPLE as u64)] {
        let count = file.read_at(&mut sample, offset)?;
        compress.reset();
        let packed = deflate(&mut compress, sample.get(..count).unwrap_or_default(), FlushCompress::Finish)?;
        if packed.len() * 100 < count * 97 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The parts of a file of this length, in order: offset and length of each.
pub(super) fn parts(length: u64) -> impl Iterator<Item = (u64, usize)> {
    let whole = PACK_PART as u64;
    (0..length.div_ceil(whole)).map(move |part| {
        let offset = part * whole;
        (offset, usize::try_from(whole.min(length - offset)).unwrap_or(PACK_PART))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::archive::root::root;

    #[test]
    fn parts_that_follow_each_other_are_one_deflated_file() {
        let directory = tempfile::tempdir().unwrap();
        let root = root(directory.path());
        let mut noise = Noise(7);
        for length in [1, 63, 64, 5000, 400_000] {
            for text in [vec![b'a'; length], (0..length).map(|_| noise.next()).collect::<Vec<u8>>()] {
                let mut worker = Worker::new(&root);
                let mut all = Vec::new();
                for _ in 0..3 {
                    worker.raw.clone_from(&text);
                    all.extend(worker.deflate(5, FlushCompress::Sync).unwrap());
                }
                all.extend(END_OF_PARTS);
                let mut back = Vec::new();
                flate2::read::DeflateDecoder::new(all.as_slice()).read_to_end(&mut back).unwrap();
                assert!(back == [text.as_slice(), &text, &text].concat(), "{length}");
            }
        }
    }

    #[test]
    fn parts_cover_a_file() {
        let part = PACK_PART as u64;
        assert_eq!(parts(part).collect::<Vec<_>>(), [(0, PACK_PART)]);
        assert_eq!(parts(part + 5).collect::<Vec<_>>(), [(0, PACK_PART), (part, 5)]);
    }

    #[test]
    fn what_does_not_shrink_is_known_by_its_samples() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut noise = Noise(3);
        let mut bytes: Vec<u8> = (0..300_000).map(|_| noise.next()).collect();
        std::fs::write(&path, &bytes).unwrap();
        let shrinks = || shrinks(&File::open(&path).unwrap(), 300_000).unwrap();
        assert!(!shrinks());
        bytes[140_000..160_000].fill(b'x');
        std::fs::write(&path, &bytes).unwrap();
        assert!(shrinks());
    }

    /// Bytes that do not shrink, the same every time.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> u8 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0.to_be_bytes()[0]
        }
    }
}
