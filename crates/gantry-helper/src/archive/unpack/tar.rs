//! Tar archives, compressed with zstd, unpacked as they come.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use tar::{Archive, EntryType};
use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;

use super::place::{Attributes, Entry, Placer, inside};
use super::{UnpackError, shown};
use crate::archive::root::Owner;
use crate::limits::{TAR_HEADER, TAR_TAIL, UNPACK_BLOCKS, UNPACK_BUFFER, ZSTD_WINDOW_LOG};

pub(super) fn unpack(input: impl Read + Send, placer: &mut Placer) -> Result<(), UnpackError> {
    let mut decoder = zstd::Decoder::new(input)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    let (blocks, unpacked) = sync_channel(UNPACK_BLOCKS);
    thread::scope(|scope| {
        scope.spawn(move || decode(decoder, &blocks));
        // Dropped with its end of the channel, whatever happens, so that the other thread ends too.
        entries(Blocks { unpacked, next: Vec::new(), at: 0, state: Rc::default() }, placer)
    })
}

fn entries(stream: Blocks, placer: &mut Placer) -> Result<(), UnpackError> {
    let state = Rc::clone(&stream.state);
    let mut archive = Archive::new(stream);
    let mut entries = archive.entries()?;
    loop {
        // The library holds long names in memory, however long an archive says that they are.
        state.header.set(Some(TAR_HEADER));
        let Some(entry) = entries.next() else { break };
        state.header.set(None);
        let mut entry = entry?;
        one(&mut entry, placer)?;
        // What has no place here is passed over before the next header.
        io::copy(&mut entry, &mut io::sink())?;
    }
    state.header.set(None);
    // The library takes the end of the bytes for that of the archive, and a cache that was cut
    // between two parts of its compression for a whole one.
    if state.is_over.get() {
        return Err(UnpackError::Format("the archive ends before its end: a part of it is missing"));
    }
    // To the end of the stream: only there its checksum says that everything was right.
    match io::copy(&mut archive.into_inner().take(TAR_TAIL), &mut io::sink()) {
        Ok(rest) if rest >= TAR_TAIL => Err(UnpackError::Format("the archive goes on behind its end")),
        Err(error) if !is_no_frame(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whether what is left of a stream is no frame: those before it are whole then, and their
/// checksums right. Helpers up to GitLab Runner 18.2 write the last checksum twice.
fn is_no_frame(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<zstd::Error>());
    cause.is_some_and(|cause| cause.is(ZSTD_ErrorCode::ZSTD_error_prefix_unknown))
}

/// Decompresses on a thread of its own, while files are written on another.
fn decode(mut decoder: impl Read, blocks: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut block = vec![0; UNPACK_BUFFER];
        let mut filled = 0;
        let end = loop {
            match decoder.read(block.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => break Ok(()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        let is_full = filled == block.len();
        block.truncate(filled);
        // Nobody takes more of an archive that is given up.
        if blocks.send(Ok(block)).is_err() {
            return;
        }
        match end {
            Ok(()) if is_full => {}
            Ok(()) => return,
            Err(error) => {
                let _ = blocks.send(Err(error));
                return;
            }
        }
    }
}

/// What was decompressed.
struct Blocks {
    unpacked: Receiver<io::Result<Vec<u8>>>,
    next: Vec<u8>,
    at: usize,
    state: Rc<State>,
}

/// What is known of a stream beside its bytes.
#[derive(Default)]
struct State {
    /// What a header may still take; nothing while content is read.
    header: Cell<Option<usize>>,
    /// Nothing is left, and more was asked for.
    is_over: Cell<bool>,
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.next.len() {
            let Ok(block) = self.unpacked.recv() else {
                self.state.is_over.set(true);
                return Ok(0);
            };
            (self.next, self.at) = (block?, 0);
        }
        let rest = self.next.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let Some(left) = self.state.header.get() {
            let left = left.checked_sub(count);
            self.state
                .header
                .set(Some(left.ok_or_else(|| io::Error::other("the header of an entry is far too long"))?));
        }
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}

fn one<R: Read>(entry: &mut tar::Entry<'_, R>, placer: &mut Placer) -> Result<(), UnpackError> {
    let kind = entry.header().entry_type();
    let is_ours = kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link() || kind.is_gnu_sparse();
    if !is_ours && kind != EntryType::Continuous {
        // Devices and pipes have no content, and headers for all entries say nothing that is
        // needed.
        return Ok(());
    }
    let path = inside(&entry.path_bytes())?;
    let unreadable = |source| UnpackError::Entry { name: shown(path.as_os_str().as_bytes()), source };
    let fields = Fields::of(entry).map_err(unreadable)?;
    if fields.is_map {
        let text = "it is a sparse file as POSIX archives have them, which this program cannot read";
        return Err(unreadable(io::Error::other(text)));
    }
    let attributes = attributes(entry, &fields).map_err(unreadable)?;
    if kind.is_dir() {
        return placer.put(&path, Entry::Directory, attributes);
    }
    if kind.is_symlink() || kind.is_hard_link() {
        let target = entry.link_name_bytes().unwrap_or_default().into_owned();
        if kind.is_hard_link() {
            return placer.put(&path, Entry::HardLink(&inside(&target)?), attributes);
        }
        return placer.put(&path, Entry::Link(&target_path(&target)), attributes);
    }
    let length = entry.size();
    placer.put(&path, Entry::File(entry, length), attributes)
}

/// What stands before an entry and the library does not look at.
#[derive(Default)]
struct Fields {
    /// The content is a map of a sparse file and what is in it, and not the file.
    is_map: bool,
    /// In seconds: a time that its header has no room for.
    modified: Option<i64>,
}

impl Fields {
    fn of<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Self> {
        let mut fields = Self::default();
        for field in entry.pax_extensions()?.into_iter().flatten().filter_map(Result::ok) {
            if field.key_bytes().starts_with(b"GNU.sparse.") {
                fields.is_map = true;
            } else if field.key_bytes() == b"mtime" {
                let whole = field.value().ok().and_then(|text| text.split('.').next()?.parse().ok());
                fields.modified = whole.or(fields.modified);
            }
        }
        Ok(fields)
    }
}

fn target_path(target: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(target)).to_owned()
}

fn attributes<R: Read>(entry: &tar::Entry<'_, R>, fields: &Fields) -> io::Result<Attributes> {
    let header = entry.header();
    let id = |id: io::Result<u64>| id.ok().and_then(|id| u32::try_from(id).ok());
    // What is no octal number is one with a sign, of which the library gives the bits.
    let modified = fields.modified.or_else(|| header.mtime().ok().map(u64::cast_signed));
    Ok(Attributes {
        mode: header.mode()? & 0o777,
        modified: modified.map(time),
        owner: id(header.uid()).zip(id(header.gid())).map(|(uid, gid)| Owner { uid, gid }),
    })
}

fn time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs().min(MAX_TIME));
    if seconds < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

/// A time that every file system and the clock of this process can hold, before 1970 and after: the
/// year 2262.
const MAX_TIME: u64 = 9_223_372_036;
