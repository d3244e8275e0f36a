//! Artifacts that come in several parts at once (`FF_USE_PARALLEL_ARTIFACT_TRANSFER`), where
//! whoever has them gives parts. Each part goes to its place in the file as it comes, so that
//! nothing is in memory of it but what the connection holds.

use std::cell::RefCell;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use gantry_core::error_chain::chain;
use gantry_gitlab::{ByteStream, Client, DownloadError, Part, TransportError, TransportFault};
use tempfile::NamedTempFile;

use super::arrival::whole;
use super::{DOWNLOADING, TransferError, scratch, scratch_error};
use crate::archive::job::MoverJob;
use crate::archive::meter::Meter;
use crate::archive::warn;
use crate::limits::{ARTIFACT_PART, ARTIFACT_PARTS_AT_ONCE, DOWNLOAD_PAUSE, DOWNLOAD_TRIES};

/// One artifact on its way into a file.
struct Parts<'a> {
    client: &'a Client,
    job: &'a MoverJob,
    direct: bool,
    file: &'a File,
    /// Of all parts together.
    length: u64,
    meter: RefCell<Meter>,
}

pub(super) async fn download(client: &Client, job: &MoverJob, direct: bool) -> Result<NamedTempFile, TransferError> {
    download_by(ARTIFACT_PART, client, job, direct).await
}

/// The same by parts of `size` bytes.
async fn download_by(size: u64, client: &Client, job: &MoverJob, direct: bool) -> Result<NamedTempFile, TransferError> {
    let first = ask(client, job, direct, 0..size).await?;
    let Some(length) = first.whole_length else { return whole(job, first.content, first.content_length).await };
    let scratch = scratch(job)?;
    let meter = RefCell::new(Meter::new(DOWNLOADING, Some(length)));
    let parts = Parts { client, job, direct, file: scratch.as_file(), length, meter };
    let rest = (1..length.div_ceil(size)).map(|number| number * size);
    let rest = stream::iter(rest.map(|start| parts.fetch(start..length.min(start.saturating_add(size)))));
    let rest = rest.buffer_unordered(ARTIFACT_PARTS_AT_ONCE - 1).try_collect::<()>();
    let first = async {
        let range = 0..length.min(size);
        match parts.put(range.clone(), first.content).await {
            Err(TransferError::Broken(_)) => parts.fetch(range).await,
            put => put,
        }
    };
    futures::try_join!(first, rest)?;
    parts.meter.borrow_mut().end();
    Ok(scratch)
}

async fn ask(client: &Client, job: &MoverJob, direct: bool, range: Range<u64>) -> Result<Part, TransferError> {
    client.download_part(job.job_id, &job.token.0, direct, range).await.map_err(TransferError::Download)
}

impl Parts<'_> {
    /// One part, tried again where it breaks off: the others need not come again for that.
    async fn fetch(&self, range: Range<u64>) -> Result<(), TransferError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.once(range.clone()).await {
                Err(error @ (TransferError::Broken(_) | TransferError::Download(DownloadError::Failed(_))))
                    if tries < DOWNLOAD_TRIES =>
                {
                    error
                }
                done => return done,
            };
            warn(&format!("{}; retrying...", chain(&error)));
            tokio::time::sleep(DOWNLOAD_PAUSE).await;
        }
    }

    async fn once(&self, range: Range<u64>) -> Result<(), TransferError> {
        let part = ask(self.client, self.job, self.direct, range.clone()).await?;
        if part.whole_length != Some(self.length) {
            return Err(broken("the artifacts have changed while they came"));
        }
        self.put(range, part.content).await
    }

    /// Writes a part to its place. What comes again is not counted twice.
    async fn put(&self, range: Range<u64>, content: ByteStream) -> Result<(), TransferError> {
        let mut at = range.start;
        let written = self.write(&mut at, range.end, content).await;
        if written.is_err() {
            self.meter.borrow_mut().done -= at - range.start;
        }
        written
    }

    /// Writes what comes from `at` on, and says there how far it is.
    async fn write(&self, at: &mut u64, end: u64, mut content: ByteStream) -> Result<(), TransferError> {
        while let Some(piece) = content.next().await {
            let piece = piece.map_err(TransferError::Broken)?;
            if piece.len() as u64 > end - *at {
                return Err(broken("a part has more bytes than were asked for"));
            }
            self.file.write_all_at(&piece, *at).map_err(|source| scratch_error(self.job, source))?;
            self.meter.borrow_mut().add(piece.len());
            *at += piece.len() as u64;
        }
        if *at == end { Ok(()) } else { Err(broken("a part has fewer bytes than were asked for")) }
    }
}

fn broken(what: &'static str) -> TransferError {
    TransferError::Broken(TransportError::new(TransportFault::Broken, what))
}

#[cfg(test)]
mod tests {
    use gantry_gitlab::ClientOptions;

    use super::super::server::{Answer, Asked, CONTENT, job, server};
    use super::*;

    /// Gives ranges, and breaks off in the middle of the first answer to the range that begins at
    /// `cut`. Says what was asked for.
    fn ranges(cut: usize) -> (String, Asked) {
        server(move |asked| {
            let (range, before) = asked.split_last().unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
            Answer {
                status: "206 Partial Content",
                range: Some(format!("{start}-{end}/{}", CONTENT.len())),
                body: &CONTENT[start..CONTENT.len().min(end + 1)],
                breaks: !before.contains(range) && start == cut,
            }
        })
    }

    #[tokio::test]
    async fn parts_come_to_their_places_and_again_where_they_break_off() {
        let scratch = tempfile::tempdir().unwrap();
        for (size, cut, asked) in [(10, 10, 4), (10, 0, 4), (5, 99, 6), (100, 99, 1)] {
            let (url, told) = ranges(cut);
            let client = Client::new(ClientOptions::new(&url)).unwrap();
            let file = download_by(size, &client, &job(url, scratch.path()), false).await.unwrap();
            assert_eq!(std::fs::read(file.path()).unwrap(), CONTENT, "{size} {cut}");
            assert_eq!(told.lock().unwrap().len(), asked, "{:?}", told.lock().unwrap());
        }
    }

    #[tokio::test]
    async fn what_is_tried_again_is_counted_once() {
        let scratch = tempfile::tempdir().unwrap();
        let client = Client::new(ClientOptions::new("http://localhost/")).unwrap();
        let (job, file) = (job(String::new(), scratch.path()), tempfile::tempfile().unwrap());
        let meter = RefCell::new(Meter::new(DOWNLOADING, Some(8)));
        let parts = Parts { client: &client, job: &job, direct: false, file: &file, length: 8, meter };
        let cut = || Err(TransportError::new(TransportFault::Broken, "cut"));
        let content = |pieces: Vec<_>| -> ByteStream { Box::pin(stream::iter(pieces)) };
        parts.put(0..4, content(vec![Ok("abcd".into())])).await.unwrap();
        for broken in [vec![Ok("ef".into()), cut()], vec![Ok("efg".into())], vec![Ok("ef".into()), Ok("ghi".into())]] {
            assert!(matches!(parts.put(4..8, content(broken)).await, Err(TransferError::Broken(_))));
            assert_eq!(parts.meter.borrow().done, 4);
        }
        parts.put(4..8, content(vec![Ok("ef".into()), Ok("gh".into())])).await.unwrap();
        assert_eq!(parts.meter.borrow().done, 8);
    }
}
