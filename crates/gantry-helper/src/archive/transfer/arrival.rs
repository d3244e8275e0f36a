//! Artifacts that come as one answer. Where the connection breaks, the next try asks for what is
//! missing, if it is known how much there is: five gigabytes need not come twice for their last.

use std::io::Write as _;

use futures::StreamExt as _;
use gantry_gitlab::{ByteStream, Client, Download, DownloadError, TransportError, TransportFault};
use tempfile::NamedTempFile;

use super::{DOWNLOADING, TransferError, scratch, scratch_error};
use crate::archive::job::MoverJob;
use crate::archive::meter::Meter;
use crate::archive::say;

/// What has come so far.
pub(super) struct Arrival {
    scratch: NamedTempFile,
    done: u64,
    /// Of all of it, if the server has said.
    length: Option<u64>,
}

/// One try. What it leaves in `begun` is for the next one.
pub(super) async fn download(
    client: &Client,
    job: &MoverJob,
    direct: bool,
    begun: &mut Option<Arrival>,
) -> Result<NamedTempFile, TransferError> {
    let (mut arrival, content) = next(client, job, direct, begun).await?;
    match arrival.receive(job, content).await {
        Ok(()) => Ok(arrival.scratch),
        Err(error) => {
            let goes_on = matches!(error, TransferError::Broken(_)) && arrival.done > 0;
            *begun =
                Some(arrival).filter(|arrival| goes_on && arrival.length.is_some_and(|length| arrival.done < length));
            Err(error)
        }
    }
}

/// All of it, from an answer that is there.
pub(super) async fn whole(
    job: &MoverJob,
    content: ByteStream,
    length: Option<u64>,
) -> Result<NamedTempFile, TransferError> {
    let mut arrival = Arrival::new(job, length)?;
    arrival.receive(job, content).await?;
    Ok(arrival.scratch)
}

async fn begin(client: &Client, job: &MoverJob, direct: bool) -> Result<(Arrival, ByteStream), TransferError> {
    let answer = client.download_artifact(job.job_id, &job.token.0, direct).await;
    let Download { content, content_length } = answer.map_err(TransferError::Download)?;
    Ok((Arrival::new(job, content_length)?, content))
}

/// Asks for what is missing; for all of it where there are no parts, or it is of another length
/// now.
async fn next(
    client: &Client,
    job: &MoverJob,
    direct: bool,
    begun: &mut Option<Arrival>,
) -> Result<(Arrival, ByteStream), TransferError> {
    let Some(Arrival { done, length: Some(length), .. }) = *begun else { return begin(client, job, direct).await };
    let part = match client.download_part(job.job_id, &job.token.0, direct, done..length).await {
        Ok(part) => part,
        // A server that knows no parts may say so in many ways.
        Err(DownloadError::Refused { .. }) => {
            *begun = None;
            return begin(client, job, direct).await;
        }
        Err(error) => return Err(TransferError::Download(error)),
    };
    match (part.whole_length, begun.take()) {
        (Some(now), Some(arrival)) if now == length => {
            say(&format!("Going on with the download at {done} of {length} bytes"));
            Ok((arrival, part.content))
        }
        (Some(_), _) => begin(client, job, direct).await,
        (None, _) => Ok((Arrival::new(job, part.content_length)?, part.content)),
    }
}

impl Arrival {
    fn new(job: &MoverJob, length: Option<u64>) -> Result<Self, TransferError> {
        Ok(Self { scratch: scratch(job)?, done: 0, length })
    }

    async fn receive(&mut self, job: &MoverJob, content: ByteStream) -> Result<(), TransferError> {
        let mut meter = Meter::new(DOWNLOADING, self.length);
        meter.done = self.done;
        let mut content = meter.watch(content);
        while let Some(piece) = content.next().await {
            let piece = piece.map_err(TransferError::Broken)?;
            self.scratch.write_all(&piece).map_err(|source| scratch_error(job, source))?;
            self.done += piece.len() as u64;
        }
        match self.length.filter(|length| self.done != *length) {
            // An answer may be whole and yet bring less than was asked for.
            Some(length) => Err(TransferError::Broken(TransportError::new(
                TransportFault::Broken,
                format!("the answers have {} of {length} bytes", self.done),
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use gantry_gitlab::ClientOptions;

    use super::super::server::{Answer, Asked, CONTENT, job, server};
    use super::*;

    /// What a server does with the range that it is asked for once an answer has broken off.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Ranges {
        Given,
        Ignored,
        Refused,
        OfAnother,
    }

    #[tokio::test]
    async fn a_part_that_is_shorter_than_asked_is_gone_on_with() {
        let scratch = tempfile::tempdir().unwrap();
        let (url, asked) = server(|asked| {
            let Some(start) = asked.last().unwrap().split('-').next().and_then(|start| start.parse::<usize>().ok())
            else {
                return Answer { status: "200 OK", range: None, body: CONTENT, breaks: true };
            };
            let end = (start + 8).min(CONTENT.len());
            let range = Some(format!("{start}-{}/{}", end - 1, CONTENT.len()));
            Answer { status: "206 Partial Content", range, body: &CONTENT[start..end], breaks: false }
        });
        let client = Client::new(ClientOptions::new(&url)).unwrap();
        let (job, mut begun) = (job(url, scratch.path()), None);
        for _ in 0..2 {
            let error = download(&client, &job, false, &mut begun).await.err().unwrap();
            assert!(matches!(error, TransferError::Broken(_)), "{error:?}");
        }
        let file = download(&client, &job, false, &mut begun).await.unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), CONTENT);
        assert_eq!(*asked.lock().unwrap(), ["all", "13-25", "21-25"]);
    }

    /// Breaks each of the first answers off in the middle of what it has to say, so many of them.
    /// Says which ranges were asked for.
    fn breaking(ranges: Ranges, mut broken: usize) -> (String, Asked) {
        server(move |asked| {
            let start = asked.last().unwrap().split('-').next().and_then(|start| start.parse().ok());
            let whole = CONTENT.len() + usize::from(ranges == Ranges::OfAnother);
            let (status, range, body) = match (start, ranges) {
                (Some(_), Ranges::Refused) => ("416 Range Not Satisfiable", None, &b"{}"[..]),
                (Some(start), Ranges::Given | Ranges::OfAnother) => {
                    ("206 Partial Content", Some(format!("{start}-25/{whole}")), &CONTENT[start..])
                }
                _ => ("200 OK", None, CONTENT),
            };
            let breaks = broken > 0;
            broken = broken.saturating_sub(1);
            Answer { status, range, body, breaks }
        })
    }

    #[tokio::test]
    async fn what_broke_off_goes_on_where_it_can() {
        let scratch = tempfile::tempdir().unwrap();
        for (ranges, broken, expected) in [
            (Ranges::Given, 0, &["all"][..]),
            (Ranges::Given, 1, &["all", "13-25"]),
            (Ranges::Given, 2, &["all", "13-25", "19-25"]),
            (Ranges::Ignored, 1, &["all", "13-25"]),
            (Ranges::Ignored, 2, &["all", "13-25", "13-25"]),
            (Ranges::Refused, 1, &["all", "13-25", "all"]),
            (Ranges::OfAnother, 1, &["all", "13-25", "all"]),
        ] {
            let (url, asked) = breaking(ranges, broken);
            let client = Client::new(ClientOptions::new(&url)).unwrap();
            let (job, mut begun) = (job(url, scratch.path()), None);
            for _ in 0..broken {
                let error = download(&client, &job, false, &mut begun).await.err().unwrap();
                assert!(matches!(error, TransferError::Broken(_)), "{error:?}");
            }
            let file = download(&client, &job, false, &mut begun).await.unwrap();
            assert_eq!(std::fs::read(file.path()).unwrap(), CONTENT);
            assert_eq!(*asked.lock().unwrap(), expected);
        }
    }
}
