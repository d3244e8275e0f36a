//! The last part of an archive: large files that nothing makes smaller, as they are, the end of the
//! tar archive, and what it was made of. Its length is known before its files are read, and it can
//! be written as often as it is sent.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt as _;

use super::entries::{Apart, Large};
use super::raw::{self, Frame};
use super::{END, padding};
use crate::archive::pack::{PackError, io_error};
use crate::archive::tree::{ContentHasher, TRAILER, TreeHasher};

/// What is still to be written of an archive.
#[derive(Default)]
pub(in crate::archive) struct Tail {
    /// With the place of its hash in the tree.
    files: Vec<(usize, Apart)>,
    pub(super) tree: TreeHasher,
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

impl Tail {
    pub(super) fn add(&mut self, file: Apart) {
        self.files.push((self.tree.place_apart(), file));
    }

    /// Whether no file is left to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// How many bytes [`Self::write`] writes.
    pub(in crate::archive) fn length(&self) -> u64 {
        let frame = if self.is_empty() { 0 } else { raw::length(self.content()) };
        frame.saturating_add(TRAILER as u64)
    }

    /// How long the entries of the files and the end of the tar archive are. Files may be of any
    /// length, and those that are mostly holes are: what is too much is so as the largest number.
    fn content(&self) -> u64 {
        let entry = |(_, Apart { head, content }): &(usize, Apart)| {
            content.length.saturating_add((head.len() + padding(content.length)) as u64)
        };
        self.files.iter().map(entry).fold(END.len() as u64, u64::saturating_add)
    }

    /// Writes it. Files that have shrunk meanwhile end in zeros.
    pub(in crate::archive) fn write(&self, out: &mut impl Write) -> Result<(), PackError> {
        let mut tree = self.tree.clone();
        if !self.is_empty() {
            let mut frame = Frame::begin(out, self.content()).map_err(PackError::Out)?;
            for (place, Apart { head, content }) in &self.files {
                frame.put(head).map_err(PackError::Out)?;
                tree.bytes_apart(*place, copy(content, &mut frame)?);
                let fill = END.get(..padding(content.length)).unwrap_or_default();
                frame.put(fill).map_err(PackError::Out)?;
            }
            frame.put(&END).and_then(|()| frame.end()).map_err(PackError::Out)?;
        }
        out.write_all(&tree.digest().trailer()).map_err(PackError::Out)
    }
}

/// Copies the content of a file, and gives its hash.
fn copy(Large { path, file, length }: &Large, frame: &mut Frame<'_, impl Write>) -> Result<[u8; 32], PackError> {
    let (mut at, mut hash) = (0, ContentHasher::new(*length));
    while at < *length {
        let room = frame.room();
        let most = usize::try_from(length - at).unwrap_or(usize::MAX).min(room.len());
        let room = room.get_mut(..most).unwrap_or_default();
        let count = match file.read_at(room, at) {
            Ok(0) => {
                room.fill(0);
                most
            }
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(source) => return Err(io_error(&path.to_string_lossy(), source)),
        };
        hash.update(room.get(..count).unwrap_or_default());
        frame.advance(count).map_err(PackError::Out)?;
        at += count as u64;
    }
    Ok(hash.end())
}
