//! What is said to a store when a cache goes there: requests with a body, tried again where that
//! may help. A whole cache in one request is here, one in parts in `parts.rs`.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use gantry_core::backoff::Backoff;
use gantry_core::error_chain::chain;
use gantry_http::{Body, ByteStream, Timeouts, Transport, read};
use gantry_storage::refusal::{self, Refusal, Wish};
use gantry_wire::cache::{CacheTransfer, SignedRequest};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use url::Url;

use super::archive::{Archive, pieces};
use super::trouble::CacheTrouble;
use super::{connect, limit, shown, warn};
use crate::archive::meter::Meter;
use crate::archive::pack::PackError;
use crate::limits::{CACHE_IDLE, CACHE_PART_TIME, CACHE_UPLOAD_PAUSE, CACHE_UPLOAD_TRIES, REFUSAL_BODY};

/// A store and how it is reached.
pub(super) struct Sender<'a> {
    transport: Arc<dyn Transport>,
    pub(super) transfer: &'a CacheTransfer,
    /// Where the cache goes, for people.
    pub(super) shown: String,
}

/// A request with what it brings.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: &'a str,
    pub(super) headers: Vec<(String, String)>,
    pub(super) content: Content,
}

/// What a request brings.
#[derive(Debug)]
pub(super) enum Content {
    Bytes(Bytes),
    /// A file of that length.
    File(File, u64),
    /// All of a cache.
    Archive(Archive),
}

/// A good answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl<'a> Sender<'a> {
    /// Towards the store of a signed request.
    pub(super) fn new(request: &SignedRequest, transfer: &'a CacheTransfer) -> Result<Self, CacheTrouble> {
        let url = Url::parse(request.url.expose()).map_err(|_| CacheTrouble::Link)?;
        Ok(Self { transport: connect(&url, transfer)?, transfer, shown: shown(&url) })
    }

    /// Puts all of a cache in one request.
    pub(super) async fn put(&self, request: &SignedRequest, content: Content) -> Result<(), CacheTrouble> {
        let store = &self.transfer.store;
        let length = content.len();
        if let Some(most) = request.most_bytes.filter(|most| length > *most) {
            return Err(CacheTrouble::Refused(format!(
                "the archive has {length} bytes, and {store} takes {most} in one request. The operator of this runner can set \
                 MaxUploadedArchiveSize in [runners.cache] to the largest size that may be uploaded: then it is uploaded in parts"
            )));
        }
        let mut headers = request.headers.clone();
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str())) {
            headers.push((CONTENT_TYPE.to_string(), "application/octet-stream".to_owned()));
        }
        self.send(Call { method: Method::PUT, url: request.url.expose(), headers, content }).await.map(|_| ())
    }

    /// Sends until an answer stands. Nobody may tell by it whether an earlier try has arrived.
    pub(super) async fn send(&self, mut call: Call<'_>) -> Result<Answer, CacheTrouble> {
        let mut backoff = Backoff::new(CACHE_UPLOAD_PAUSE, Duration::MAX);
        let mut tries = 0;
        loop {
            tries += 1;
            let trouble = match self.once(&mut call).await {
                Err(trouble @ (CacheTrouble::Store(_) | CacheTrouble::Unreachable { .. })) => trouble,
                done => return done,
            };
            if tries >= CACHE_UPLOAD_TRIES {
                return Err(trouble);
            }
            warn(&format!("{}; retrying...", chain(&trouble)));
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }

    async fn once(&self, call: &mut Call<'_>) -> Result<Answer, CacheTrouble> {
        let store = &self.transfer.store;
        let mut request =
            Request::builder().method(call.method.clone()).uri(call.url).header(CONTENT_LENGTH, call.content.len());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let progress = Progress::default();
        let (body, head) = match &mut call.content {
            Content::Bytes(bytes) => (Body::Bytes(bytes.clone()), CACHE_PART_TIME),
            Content::File(file, _) => (Body::Stream(progress.watch(pieces(file)?)), limit(self.transfer)),
            // Which is counted nowhere else.
            Content::Archive(archive) => {
                let bytes = Meter::new("Uploading cache", Some(archive.length())).watch(archive.stream()?);
                (Body::Stream(progress.watch(bytes)), limit(self.transfer))
            }
        };
        let request = request.body(body).map_err(|_| CacheTrouble::Link)?;
        let unreachable = |source| CacheTrouble::Unreachable { store: store.clone(), source };
        let answer = tokio::select! {
            answer = self.transport.send(request, Timeouts { head, idle: CACHE_IDLE }) => {
                let failure = call.content.failure();
                answer.map_err(|source| failure.map_or_else(|| unreachable(source), CacheTrouble::from))?
            }
            pause = progress.stalls() => {
                let seconds = pause.as_secs();
                return Err(CacheTrouble::Store(format!("{store} has taken nothing of the archive for {seconds} s")));
            }
        };
        let (head, body) = answer.into_parts();
        let body = read(body, REFUSAL_BODY, CACHE_IDLE).await.bytes;
        let text = String::from_utf8_lossy(&body).into_owned();
        // An upload that goes on answers with this status (Google: "resume incomplete").
        let is_good = head.status.is_success() || head.status == StatusCode::PERMANENT_REDIRECT;
        if is_good && !refusal::is_page(&text) {
            return Ok(Answer { status: head.status, headers: head.headers, text });
        }
        Err(match refusal::read(store, Wish::Put, head.status, &text) {
            Refusal::Trouble(text) => CacheTrouble::Store(text),
            Refusal::Refused(text) => CacheTrouble::Refused(text),
            Refusal::Missing => CacheTrouble::Missing,
        })
    }
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, length) => *length,
            Self::Archive(archive) => archive.length(),
        }
    }

    /// Why it broke off by itself, if it did.
    fn failure(&mut self) -> Option<PackError> {
        match self {
            Self::Archive(archive) => archive.failure(),
            _ => None,
        }
    }
}

/// How far the body of a request is.
#[derive(Default)]
struct Progress(Arc<AtomicU64>);

/// A body that has come to its end.
const AT_END: u64 = u64::MAX;

impl Progress {
    fn watch(&self, body: ByteStream) -> ByteStream {
        let (pieces, end) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let counted = body.inspect(move |_| {
            pieces.fetch_add(1, Ordering::Relaxed);
        });
        let ended = stream::once(async move {
            end.store(AT_END, Ordering::Relaxed);
        });
        Box::pin(counted.chain(ended.filter_map(async |()| None)))
    }

    /// Ends when nothing is taken for a while, and says how long that was. What the store does with
    /// all of it is bounded elsewhere.
    async fn stalls(&self) -> Duration {
        let mut last = AT_END;
        loop {
            let now = self.0.load(Ordering::Relaxed);
            if now == last && now != AT_END {
                return CACHE_IDLE;
            }
            last = now;
            tokio::time::sleep(CACHE_IDLE).await;
        }
    }
}
