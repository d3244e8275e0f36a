//! Caches in a plan: what is restored and saved, and where it is kept. No credentials of a store:
//! only requests that were signed for one object each.

use gantry_core::Secret;
use serde::{Deserialize, Serialize};

use crate::secret_text;

/// The caches that a job restores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreCaches {
    /// In order.
    pub caches: Vec<CacheRestore>,
    /// How they are moved.
    pub transfer: CacheTransfer,
}

/// The caches that a job saves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveCaches {
    /// Whether these are the caches of a job that went well so far.
    pub on_success: bool,
    /// In order.
    pub caches: Vec<CacheSave>,
    /// How they are moved.
    pub transfer: CacheTransfer,
}

/// How caches are moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheTransfer {
    /// The store in words, such as `the S3 bucket "ci-cache" at minio:9000`; empty without one.
    pub store: String,
    /// Limit of one download or upload (`CACHE_REQUEST_TIMEOUT`).
    pub timeout_ms: u64,
    /// Roots of trust for the store beside the usual ones, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Largest archive that is sent to the store, in bytes (`MaxUploadedArchiveSize`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Whether the paths of a cache are removed where it could not be restored
    /// (`FF_CLEAN_UP_FAILED_CACHE_EXTRACT`).
    #[serde(default)]
    pub clean_up: bool,
}

/// One cache to restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRestore {
    /// What the log says first.
    pub remarks: Vec<CacheRemark>,
    /// The key, then its fallbacks; the first that is found counts. Empty if nothing is to be
    /// restored.
    pub sources: Vec<CacheSource>,
    /// What the cache holds: globs relative to the project.
    pub paths: Vec<String>,
    /// Also files that git does not track.
    pub untracked: bool,
}

/// A key and where its cache may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheSource {
    /// The key as it is shown.
    pub key: String,
    /// In order; the next is asked where one has nothing.
    pub places: Vec<CachePlace>,
}

/// Where a cache is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CachePlace {
    /// In an object store.
    Store(SignedRequest),
    /// On a volume.
    File(CacheFile),
}

/// A request that was signed for one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRequest {
    /// Where it goes; its query holds the signature.
    #[serde(with = "secret_text")]
    pub url: Secret,
    /// Headers that must be sent with it, name and value.
    pub headers: Vec<(String, String)>,
    /// Largest body that the store takes in this one request, in bytes; nothing where it has no
    /// such limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_bytes: Option<u64>,
    /// How the object may be put in parts instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<PartsUpload>,
}

/// How an object is put in parts, each of them signed for the one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PartsUpload {
    /// An upload of S3 that the runner has begun.
    S3(S3Parts),
    /// A `POST` to Google that begins an upload; its answer names the address that all parts go to,
    /// one after the other.
    Gcs(PartsStart),
    /// Blocks of Azure go to the address of the blob, with the same signature.
    Azure,
}

/// The requests of an upload of S3 that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Parts {
    /// The URL of every part (`PUT`) up to its number.
    #[serde(with = "secret_text")]
    pub before_number: Secret,
    /// What follows the number, up to the part's signature.
    #[serde(with = "secret_text")]
    pub after_number: Secret,
    /// The signatures of the parts from 1 on, 64 hexadecimal digits each, with nothing between
    /// them.
    #[serde(with = "secret_text")]
    pub signatures: Secret,
    /// Makes the parts one object (`POST`).
    #[serde(with = "secret_text")]
    pub complete: Secret,
    /// Gives the upload up (`DELETE`).
    #[serde(with = "secret_text")]
    pub abort: Secret,
}

/// A signed request that begins an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartsStart {
    /// Where it goes; its query holds the signature.
    #[serde(with = "secret_text")]
    pub url: Secret,
    /// Headers that must be sent with it, name and value.
    pub headers: Vec<(String, String)>,
}

/// A file on a volume that outlives the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheFile {
    /// The volume's mount path: what is below was made by jobs.
    pub volume: String,
    /// The file, relative to the volume.
    pub path: String,
}

/// One cache to save.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheSave {
    /// What the log says first.
    pub remarks: Vec<CacheRemark>,
    /// The key as it is shown.
    pub key: String,
    /// The first is where the cache goes, the others where it may go if that cannot take it. Empty
    /// if nothing is to be saved.
    pub places: Vec<CachePlace>,
    /// Reads what the first place holds now, if that is a store: what is the same there need not be
    /// sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<SignedRequest>,
    /// Name of the object in the store, where both requests end before the job has to: the runner
    /// signs others while it runs ([`ObjectRequests`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Globs relative to the project.
    pub paths: Vec<String>,
    /// Also files that git does not track.
    pub untracked: bool,
}

impl SaveCaches {
    /// Takes requests in place of those that were signed for the same object before.
    pub fn renew(&mut self, fresh: &[ObjectRequests]) {
        for cache in &mut self.caches {
            let Some(requests) = fresh.iter().find(|requests| Some(&requests.object) == cache.object.as_ref()) else {
                continue;
            };
            if let Some(CachePlace::Store(put)) = cache.places.first_mut() {
                put.clone_from(&requests.put);
            }
            cache.now = Some(requests.now.clone());
        }
    }
}

/// An object of the cache store for which requests are signed again while a job runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CacheObject {
    /// Its name in the bucket.
    pub name: String,
    /// The key of the cache as people write it, which goes with the object.
    pub key: String,
}

/// What saves a cache, signed anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRequests {
    /// Name of the object.
    pub object: String,
    /// Replaces it.
    pub put: SignedRequest,
    /// Reads what it is now.
    pub now: SignedRequest,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheRemark {
    /// A green one.
    Notice(String),
    /// A yellow one.
    Warning(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str) -> SignedRequest {
        SignedRequest { url: url.into(), ..SignedRequest::default() }
    }

    #[test]
    fn fresh_requests_go_to_their_object_and_to_no_other() {
        let cache = |object: Option<&str>, places| CacheSave {
            remarks: Vec::new(),
            key: "k".into(),
            places,
            now: Some(request("now")),
            object: object.map(str::to_owned),
            paths: Vec::new(),
            untracked: false,
        };
        let transfer =
            CacheTransfer { store: "s".into(), timeout_ms: 1, ca_pem: None, max_bytes: None, clean_up: false };
        let store = || vec![CachePlace::Store(request("put"))];
        let caches = vec![cache(Some("a"), store()), cache(Some("b"), store()), cache(None, store())];
        let mut save = SaveCaches { on_success: true, caches, transfer };
        let fresh = ObjectRequests { object: "b".into(), put: request("put again"), now: request("now again") };
        save.renew(&[fresh]);
        let urls = save.caches.iter().map(|cache| match (cache.places.first(), &cache.now) {
            (Some(CachePlace::Store(put)), Some(now)) => (put.url.expose(), now.url.expose()),
            _ => ("", ""),
        });
        let urls: Vec<_> = urls.collect();
        assert_eq!(urls, [("put", "now"), ("put again", "now again"), ("put", "now")]);
    }
}
