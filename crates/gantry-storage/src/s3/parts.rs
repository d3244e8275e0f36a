//! An upload in parts: it is begun here, because only its name can be signed, and every request
//! that it can need is signed.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>

use gantry_core::Secret;
use gantry_core::error_chain::chain;
use http::Method;

use super::presign::{RequestTarget, Signed, presign};
use crate::ask::Question;
use crate::encode::{element, uri};
use crate::error::StoreError;
use crate::object::S3Parts;
use crate::world::World;

/// Parts that are signed. Amazon takes 10,000, but each signature travels with the job and takes
/// some microseconds. How large parts are is for whoever sends them to choose: these suffice for an
/// archive of 5 TB, the most that Amazon keeps.
const PARTS: u32 = 1000;

/// Digits of a signature.
const SIGNATURE: usize = 64;

/// Begins an upload of the object at `place`. Where that is not possible the object can still be
/// put with one request.
pub(super) async fn begin(
    signed: &Signed<'_>,
    place: &RequestTarget<'_>,
    headers: &[(String, String)],
    world: &World,
) -> Option<S3Parts> {
    match upload_id(signed, place, headers, world).await {
        Ok(id) => sign(signed, place, &id),
        Err(error) => {
            tracing::warn!("no upload in parts can be begun, so caches over 5 GB are not kept: {}", chain(&error));
            None
        }
    }
}

async fn upload_id(
    signed: &Signed<'_>,
    place: &RequestTarget<'_>,
    headers: &[(String, String)],
    world: &World,
) -> Result<String, StoreError> {
    const WHO: &str = "the cache bucket's store";
    let url = presign(&Signed { method: "POST", ..*signed }, &with(place, &[("uploads", "")]), headers);
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let answer = Question { method: Method::POST, headers, ..Question::get(WHO, &url) }.granted(world).await?;
    let id = element(&answer.text, "UploadId").filter(|id| !id.is_empty());
    id.ok_or_else(|| StoreError::Refused { who: WHO.to_owned(), said: "its answer holds no UploadId".to_owned() })
}

/// Every request of the upload of that name.
fn sign(signed: &Signed<'_>, place: &RequestTarget<'_>, id: &str) -> Option<S3Parts> {
    let url = |method, pairs: &[(&str, &str)]| presign(&Signed { method, ..*signed }, &with(place, pairs), &[]);
    let (mut urls, mut signatures) = (None, String::with_capacity(SIGNATURE * PARTS as usize));
    for number in 1..=PARTS {
        let number = number.to_string();
        let part = url("PUT", &[("partNumber", &number), ("uploadId", id)]);
        let (before, signature) = part.split_at_checked(part.len().checked_sub(SIGNATURE)?)?;
        signatures.push_str(signature);
        if urls.is_none() {
            // The query is in order of its names, and what comes behind the number is the same for
            // all.
            let after = format!("&uploadId={}&X-Amz-Signature=", uri(id));
            let before = before.strip_suffix(&after)?.strip_suffix(&number)?;
            urls = Some((before.to_owned(), after));
        }
    }
    let (before, after) = urls?;
    Some(S3Parts {
        before_number: Secret::new(before),
        after_number: Secret::new(after),
        signatures: Secret::new(signatures),
        complete: Secret::new(url("POST", &[("uploadId", id)])),
        abort: Secret::new(url("DELETE", &[("uploadId", id)])),
    })
}

/// The same place with these in its query.
fn with<'a>(place: &RequestTarget<'a>, pairs: &[(&str, &str)]) -> RequestTarget<'a> {
    let query = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    RequestTarget { query, ..*place }
}
