//! An archive whose length is known: what is compressed lies in a temporary file, and large files
//! that nothing makes smaller are read while they are sent, with no copy on the disk.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use gantry_http::{ByteStream, TransportError, TransportFault};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

use super::Chosen;
use super::trouble::CacheTrouble;
use crate::archive::pack::{PackError, Style, Tail, pack_head};
use crate::archive::packing::written;
use crate::limits::ARCHIVE_PIECE;
use crate::tasks;

/// A packed cache.
#[derive(Debug)]
pub(super) struct Archive {
    head: File,
    head_length: u64,
    tail: Option<Arc<Tail>>,
    failures: (mpsc::Sender<PackError>, mpsc::Receiver<PackError>),
}

impl Archive {
    /// Packs into `head`, an empty file.
    pub(super) async fn pack(chosen: Chosen, style: Style, head: File) -> Result<Self, CacheTrouble> {
        let packed = tasks::blocking(move || -> Result<Self, PackError> {
            let mut out = BufWriter::new(head);
            let tail = pack_head(style, &chosen.root, &chosen.paths, &mut out)?.map(Arc::new);
            let head = out.into_inner().map_err(|error| PackError::Out(error.into_error()))?;
            let head_length = head.metadata().map_err(PackError::Out)?.len();
            Ok(Self { head, head_length, tail, failures: mpsc::channel(1) })
        });
        Ok(packed.await.map_err(CacheTrouble::Thread)??)
    }

    pub(super) fn length(&self) -> u64 {
        self.head_length.saturating_add(self.tail.as_ref().map_or(0, |tail| tail.length()))
    }

    /// The archive from its beginning.
    pub(super) fn stream(&mut self) -> Result<ByteStream, CacheTrouble> {
        let head = pieces(&mut self.head)?;
        let Some(tail) = self.tail.clone() else { return Ok(head) };
        let tail = written(move |out| tail.write(out), self.failures.0.clone());
        Ok(Box::pin(head.chain(tail)))
    }

    /// Why a stream of it broke off, if a file could not be read any more.
    pub(super) fn failure(&mut self) -> Option<PackError> {
        self.failures.1.try_recv().ok()
    }

    /// Writes all of it elsewhere.
    pub(super) fn write(mut self, out: &mut impl Write) -> Result<(), CacheTrouble> {
        self.head.rewind().and_then(|()| io::copy(&mut self.head, out)).map_err(PackError::Out)?;
        Ok(self.tail.map_or(Ok(()), |tail| tail.write(out))?)
    }
}

/// The bytes of a file, from its beginning.
pub(super) fn pieces(file: &mut File) -> Result<ByteStream, CacheTrouble> {
    let scratch = |source| CacheTrouble::File { path: "of the packed cache".to_owned(), source };
    file.rewind().map_err(scratch)?;
    let file = tokio::fs::File::from_std(file.try_clone().map_err(scratch)?);
    Ok(Box::pin(stream::unfold(Some(file), |file| async {
        let mut file = file?;
        let mut piece = BytesMut::with_capacity(ARCHIVE_PIECE);
        match file.read_buf(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok::<Bytes, TransportError>(piece.freeze()), Some(file))),
            Err(error) => Some((Err(TransportError::new(TransportFault::Request, error)), None)),
        }
    })))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use futures::TryStreamExt as _;

    use super::*;
    use crate::archive::noise::noise;
    use crate::archive::pack::Format;
    use crate::archive::root::root;

    #[tokio::test]
    async fn it_is_as_long_as_it_says_as_often_as_it_is_sent() {
        let project = tempfile::tempdir().unwrap();
        std::fs::write(project.path().join("noise"), noise(1, 3_000_000)).unwrap();
        std::fs::write(project.path().join("text"), vec![b'x'; 3_000_000]).unwrap();
        for format in [Format::TarZstd, Format::Zip] {
            let paths: BTreeSet<PathBuf> = ["noise", "text"].map(PathBuf::from).into();
            let chosen = Chosen { root: Arc::new(root(project.path())), paths: Arc::new(paths), remarks: Vec::new() };
            let mut archive = Archive::pack(chosen, format.into(), tempfile::tempfile().unwrap()).await.unwrap();
            // A try that breaks off changes nothing for the next one.
            drop(archive.stream().unwrap().next().await);
            let mut sent = Vec::new();
            for _ in 0..2 {
                let pieces: Vec<_> = archive.stream().unwrap().try_collect().await.unwrap();
                sent.push(pieces.concat());
            }
            assert_eq!(sent[0].len() as u64, archive.length());
            let mut copy = Vec::new();
            archive.write(&mut copy).unwrap();
            assert!(sent[0] == sent[1] && sent[1] == copy, "{format:?}");
        }
    }
}
