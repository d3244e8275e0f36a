//! Cuts an archive, as it is packed, into the parts of an upload.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use gantry_http::ByteStream;

use super::send::Content;
use super::trouble::CacheTrouble;
use crate::limits::{CACHE_LARGE_PART, CACHE_PART, CACHE_SMALL_PARTS};

/// A part.
#[derive(Debug)]
pub(super) struct Part {
    /// From 1 on.
    pub(super) number: u32,
    /// Where it begins in the archive.
    pub(super) start: u64,
    pub(super) content: Content,
    /// Nothing follows.
    pub(super) is_last: bool,
}

/// An archive that is cut.
pub(super) struct Cutter {
    archive: ByteStream,
    /// What has come and is in no part yet.
    rest: Bytes,
    number: u32,
    start: u64,
    /// Largest archive.
    most: Option<u64>,
    /// Where large parts lie, for stores that count parts.
    scratch: Option<PathBuf>,
    /// All of the archive has come.
    is_whole: bool,
    /// All of it is in parts.
    is_over: bool,
}

impl Cutter {
    pub(super) fn new(archive: ByteStream, most: Option<u64>, scratch: Option<PathBuf>) -> Self {
        Self { archive, rest: Bytes::new(), number: 0, start: 0, most, scratch, is_whole: false, is_over: false }
    }

    /// The next part; nothing behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<Part>, CacheTrouble> {
        if self.is_over {
            return Ok(None);
        }
        let large = self.scratch.as_ref().filter(|_| self.number >= CACHE_SMALL_PARTS);
        let content = match large.cloned() {
            Some(scratch) => self.large(scratch).await?,
            None => self.small().await?,
        };
        // Whoever takes the parts has to know which is the last.
        self.is_over = !self.more().await?;
        let start = self.start;
        self.start += content.len();
        self.number += 1;
        if let Some(most) = self.most.filter(|most| self.start > *most) {
            return Err(CacheTrouble::TooLarge(most));
        }
        Ok(Some(Part { number: self.number, start, content, is_last: self.is_over }))
    }

    /// Takes more of the archive, if there is any.
    async fn more(&mut self) -> Result<bool, CacheTrouble> {
        while self.rest.is_empty() && !self.is_whole {
            match self.archive.next().await {
                Some(piece) => self.rest = piece.map_err(|_| CacheTrouble::Packing)?,
                None => self.is_whole = true,
            }
        }
        Ok(!self.rest.is_empty())
    }

    async fn small(&mut self) -> Result<Content, CacheTrouble> {
        let mut part = BytesMut::new();
        while part.len() < CACHE_PART && self.more().await? {
            part.extend_from_slice(&self.rest.split_to(self.rest.len().min(CACHE_PART - part.len())));
        }
        Ok(Content::Bytes(part.freeze()))
    }

    async fn large(&mut self, scratch: PathBuf) -> Result<Content, CacheTrouble> {
        let trouble = |source| CacheTrouble::Scratch { directory: scratch.display().to_string(), source };
        let mut file: File = tempfile::tempfile_in(&scratch).map_err(trouble)?;
        let mut length = 0;
        while length < CACHE_LARGE_PART && self.more().await? {
            let room = usize::try_from(CACHE_LARGE_PART - length).unwrap_or(usize::MAX);
            let piece = self.rest.split_to(self.rest.len().min(room));
            file.write_all(&piece).map_err(trouble)?;
            length += piece.len() as u64;
        }
        Ok(Content::File(file, length))
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn parts_have_their_size_and_the_last_is_known() {
        for (length, expected) in [
            (0, vec![(0, true)]),
            (5, vec![(5, true)]),
            (CACHE_PART, vec![(CACHE_PART, true)]),
            (CACHE_PART + 1, vec![(CACHE_PART, false), (1, true)]),
            (2 * CACHE_PART, vec![(CACHE_PART, false), (CACHE_PART, true)]),
        ] {
            let pieces =
                vec![7; length].chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>();
            let mut cutter = Cutter::new(Box::pin(stream::iter(pieces)), None, None);
            let (mut parts, mut start) = (Vec::new(), 0);
            while let Some(part) = cutter.next().await.unwrap() {
                assert_eq!((part.number as usize, part.start), (parts.len() + 1, start));
                start += part.content.len();
                parts.push((usize::try_from(part.content.len()).unwrap(), part.is_last));
            }
            assert_eq!(parts, expected);
        }
    }

    #[tokio::test]
    async fn an_archive_that_is_too_large_ends() {
        let pieces = [Ok(Bytes::from_static(b"abc")), Ok(Bytes::from_static(b"def"))];
        let mut cutter = Cutter::new(Box::pin(stream::iter(pieces)), Some(5), None);
        assert!(matches!(cutter.next().await, Err(CacheTrouble::TooLarge(5))));
    }
}
