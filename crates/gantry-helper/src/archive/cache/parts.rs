//! A cache that is sent in parts while it is packed: no archive lies on the disk, a part that does
//! not arrive is sent again alone, and the whole may be larger than one request takes. Each store
//! has its own way, and each part is signed for the one object.

use std::path::Path;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gantry_http::ByteStream;
use gantry_storage::refusal::{self, Refusal, Wish};
use gantry_wire::cache::{PartsStart, PartsUpload, S3Parts, SignedRequest};
use http::header::{CONTENT_RANGE, ETAG, LOCATION};
use http::{Method, StatusCode};

use super::cut::{Cutter, Part};
use super::send::{Call, Content, Sender};
use super::trouble::CacheTrouble;
use crate::limits::{CACHE_GIVE_UP, CACHE_PARTS_AT_ONCE};

/// Digits of a signature of S3.
const SIGNATURE: usize = 64;

/// An upload to one object.
pub(super) struct Upload<'a> {
    pub(super) sender: &'a Sender<'a>,
    pub(super) request: &'a SignedRequest,
    pub(super) parts: &'a PartsUpload,
    /// Largest archive.
    pub(super) most: Option<u64>,
    pub(super) scratch: &'a Path,
}

impl Upload<'_> {
    /// Sends an archive as it comes. Of one that does not arrive as a whole, nothing is kept.
    pub(super) async fn send(&self, archive: ByteStream) -> Result<(), CacheTrouble> {
        let scratch = matches!(self.parts, PartsUpload::S3(_)).then(|| self.scratch.to_owned());
        let mut cutter = Cutter::new(archive, self.most, scratch);
        let sent = async {
            match cutter.next().await? {
                // What fits into one part needs no more than one request.
                Some(Part { content, is_last: true, .. }) => {
                    give_up(self.sender, self.parts).await;
                    self.sender.put(self.request, content).await
                }
                Some(first) => self.all(first, cutter).await,
                None => Err(CacheTrouble::Packing),
            }
        };
        let sent = sent.await;
        if sent.is_err() {
            give_up(self.sender, self.parts).await;
        }
        sent
    }

    async fn all(&self, first: Part, rest: Cutter) -> Result<(), CacheTrouble> {
        match self.parts {
            PartsUpload::S3(parts) => self.to_s3(parts, first, rest).await,
            PartsUpload::Gcs(start) => self.to_gcs(start, first, rest).await,
            PartsUpload::Azure => self.to_azure(first, rest).await,
            _ => Err(CacheTrouble::Refused(
                "this helper does not know how the store takes parts: use a newer helper image".to_owned(),
            )),
        }
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html>
    async fn to_s3(&self, parts: &S3Parts, first: Part, rest: Cutter) -> Result<(), CacheTrouble> {
        let send = async |part: Part| {
            let at = (part.number as usize - 1) * SIGNATURE;
            let signature = parts.signatures.expose().get(at..at + SIGNATURE).ok_or_else(|| {
                CacheTrouble::Refused("the archive has more parts than the runner has signed: cache less".to_owned())
            })?;
            let (before, after) = (parts.before_number.expose(), parts.after_number.expose());
            let url = format!("{before}{}{after}{signature}", part.number);
            let answer = self.sender.send(put(&url, part.content)).await?;
            let tag =
                answer.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default().replace('"', "&quot;");
            Ok::<_, CacheTrouble>(format!("<Part><PartNumber>{}</PartNumber><ETag>{tag}</ETag></Part>", part.number))
        };
        let list: String = in_turn(first, rest)
            .map(async |part| send(part?).await)
            .buffered(CACHE_PARTS_AT_ONCE)
            .try_collect()
            .await?;
        let body = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let call = Call { content: Content::Bytes(body.into()), ..bare(Method::POST, parts.complete.expose()) };
        let answer = self.sender.send(call).await?;
        // This request may be answered before it is known whether it worked.
        if answer.text.contains("<Error>") {
            return Err(match refusal::read(&self.sender.transfer.store, Wish::Put, StatusCode::OK, &answer.text) {
                Refusal::Trouble(text) => CacheTrouble::Store(text),
                Refusal::Refused(text) => CacheTrouble::Refused(text),
                Refusal::Missing => CacheTrouble::Missing,
            });
        }
        Ok(())
    }

    /// One part after the other. <https://cloud.google.com/storage/docs/resumable-uploads>
    async fn to_gcs(&self, start: &PartsStart, first: Part, rest: Cutter) -> Result<(), CacheTrouble> {
        let begin = Call { headers: start.headers.clone(), ..bare(Method::POST, start.url.expose()) };
        let begun = self.sender.send(begin).await?;
        let address = begun.headers.get(LOCATION).and_then(|address| address.to_str().ok());
        let address = address.ok_or_else(|| {
            let store = &self.sender.transfer.store;
            CacheTrouble::Refused(format!("{store} has begun an upload without saying where it goes on"))
        })?;
        let mut parts = Box::pin(in_turn(first, rest));
        while let Some(part) = parts.try_next().await? {
            let end = part.start + part.content.len();
            let total = if part.is_last { end.to_string() } else { "*".to_owned() };
            let range = format!("bytes {}-{}/{total}", part.start, end.saturating_sub(1));
            let headers = vec![(CONTENT_RANGE.to_string(), range)];
            let answer = self.sender.send(Call { headers, ..put(address, part.content) }).await?;
            if answer.status.is_success() != part.is_last {
                let store = &self.sender.transfer.store;
                return Err(CacheTrouble::Refused(format!("{store} lost count of the parts ({})", answer.status)));
            }
        }
        Ok(())
    }

    /// <https://learn.microsoft.com/rest/api/storageservices/put-block>
    async fn to_azure(&self, first: Part, rest: Cutter) -> Result<(), CacheTrouble> {
        let blob = self.request.url.expose();
        let send = async |part: Part| {
            // Names of blocks are base64 texts of one length, which eight digits are.
            let block = format!("{:08}", part.number);
            self.sender.send(put(&format!("{blob}&comp=block&blockid={block}"), part.content)).await?;
            Ok::<_, CacheTrouble>(format!("<Latest>{block}</Latest>"))
        };
        let list: String = in_turn(first, rest)
            .map(async |part| send(part?).await)
            .buffered(CACHE_PARTS_AT_ONCE)
            .try_collect()
            .await?;
        let body = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{list}</BlockList>");
        let url = format!("{blob}&comp=blocklist");
        self.sender.send(put(&url, Content::Bytes(body.into()))).await.map(|_| ())
    }
}

/// Gives up an upload that the runner has begun. One that is forgotten is for the bucket's own
/// rules.
pub(super) async fn give_up(sender: &Sender<'_>, parts: &PartsUpload) {
    if let PartsUpload::S3(parts) = parts {
        let giving_up = sender.send(bare(Method::DELETE, parts.abort.expose()));
        let _ = tokio::time::timeout(CACHE_GIVE_UP, giving_up).await;
    }
}

/// All parts in order.
fn in_turn(first: Part, rest: Cutter) -> impl stream::Stream<Item = Result<Part, CacheTrouble>> {
    stream::try_unfold((Some(first), rest), async |(first, mut rest)| {
        let part = match first {
            Some(first) => Some(first),
            None => rest.next().await?,
        };
        Ok(part.map(|part| (part, (None, rest))))
    })
}

fn put(url: &str, content: Content) -> Call<'_> {
    Call { content, ..bare(Method::PUT, url) }
}

fn bare(method: Method, url: &str) -> Call<'_> {
    Call { method, url, headers: Vec::new(), content: Content::Bytes(Bytes::new()) }
}
