//! What is said to a store when a cache goes there: requests with a body, tried again where that
//! may help. A whole cache in one request is here, one in parts in `parts.rs`.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
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
        let mut progress = Progress::default();
        let (body, head) = match &mut call.content {
            Content::Bytes(bytes) => (Body::Bytes(bytes.clone()), CACHE_PART_TIME),
            Content::File(file, length) => {
                progress.length = *length;
                (Body::Stream(progress.watch(pieces(file)?)), limit(self.transfer))
            }
            // Which is counted nowhere else.
            Content::Archive(archive) => {
                progress.length = archive.length();
                let bytes = Meter::new("Uploading cache", Some(progress.length)).watch(archive.stream()?);
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
            if !progress.is_whole() {
                let text = format!("{store} answered ({}) before it had taken all of the archive", head.status);
                return Err(CacheTrouble::Store(text));
            }
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
struct Progress {
    sent: Arc<AtomicU64>,
    /// Of all of it; nothing where it is not watched.
    length: u64,
}

impl Progress {
    fn watch(&self, body: ByteStream) -> ByteStream {
        let sent = Arc::clone(&self.sent);
        Box::pin(body.inspect_ok(move |piece| {
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }))
    }

    /// Whether all of it has been taken.
    fn is_whole(&self) -> bool {
        self.sent.load(Ordering::Relaxed) >= self.length
    }

    /// Ends when nothing is taken for a while, and says how long that was. What the store does with
    /// all of it is bounded elsewhere.
    async fn stalls(&self) -> Duration {
        let mut last = None;
        loop {
            let now = Some(self.sent.load(Ordering::Relaxed));
            if now == last && !self.is_whole() {
                return CACHE_IDLE;
            }
            last = now;
            tokio::time::sleep(CACHE_IDLE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;
    use std::sync::atomic::AtomicBool;

    use futures::StreamExt as _;
    use futures::future::BoxFuture;
    use gantry_http::TransportError;
    use http::Response;

    use super::*;
    use crate::archive::cache::Chosen;
    use crate::archive::noise::noise;
    use crate::archive::pack::Format;
    use crate::archive::root::root;

    /// A store that takes so much of an archive, and then nothing more; of all of it, it thinks for
    /// so long.
    #[derive(Default)]
    struct Idle {
        most: u64,
        thinks: Duration,
        tries: AtomicU64,
        /// Only time is waited for.
        waits: AtomicBool,
    }

    impl Transport for Idle {
        fn send(
            &self,
            request: Request<Body>,
            _: Timeouts,
        ) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
            Box::pin(async move {
                self.tries.fetch_add(1, Ordering::Relaxed);
                self.waits.store(false, Ordering::Relaxed);
                let Body::Stream(mut body) = request.into_body() else { panic!("an archive comes as a stream") };
                let mut taken = 0;
                // Whoever has been told a length does not ask what follows it.
                while taken < self.most
                    && let Some(piece) = body.next().await
                {
                    taken += piece?.len() as u64;
                    if taken > self.most {
                        self.waits.store(true, Ordering::Relaxed);
                        std::future::pending::<()>().await;
                    }
                }
                self.waits.store(true, Ordering::Relaxed);
                tokio::time::sleep(self.thinks).await;
                Ok(Response::new(Box::pin(futures::stream::empty()) as ByteStream))
            })
        }
    }

    /// Sends an archive with a large file that is read meanwhile, on a clock that is turned once
    /// only time is waited for. Gives what came of it, and how often it was tried.
    async fn sent(store: impl FnOnce(&Archive) -> Idle) -> (Result<Answer, CacheTrouble>, u64) {
        let project = tempfile::tempdir().unwrap();
        std::fs::write(project.path().join("noise"), noise(1, 5_000_000)).unwrap();
        let paths: BTreeSet<PathBuf> = [PathBuf::from("noise")].into();
        let chosen = Chosen { root: Arc::new(root(project.path())), paths: Arc::new(paths), remarks: Vec::new() };
        let archive = Archive::pack(chosen, Format::TarZstd.into(), tempfile::tempfile().unwrap()).await.unwrap();
        let idle = Arc::new(store(&archive));
        let transfer = CacheTransfer {
            store: "the store".into(),
            timeout_ms: 3_600_000,
            ca_pem: None,
            max_bytes: None,
            clean_up: false,
        };
        let transport: Arc<dyn Transport> = idle.clone();
        let sender = Sender { transport, transfer: &transfer, shown: String::new() };
        let content = Content::Archive(archive);
        let call = Call { method: Method::PUT, url: "http://store/k", headers: Vec::new(), content };
        let turned = async {
            loop {
                if idle.waits.load(Ordering::Relaxed) {
                    tokio::time::advance(Duration::from_secs(1)).await;
                }
                tokio::task::yield_now().await;
            }
        };
        let done = tokio::select! {
            done = sender.send(call) => done,
            () = turned => unreachable!("the clock is turned for ever"),
        };
        (done, idle.tries.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_takes_no_more_is_given_up() {
        let (done, tries) = sent(|archive| Idle { most: archive.length() / 2, ..Idle::default() }).await;
        let error = done.err().unwrap().to_string();
        assert_eq!((error.as_str(), tries), ("the store has taken nothing of the archive for 30 s", 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_has_all_may_think_about_it() {
        let thinks = Duration::from_secs(600);
        let (done, tries) = sent(|archive| Idle { most: archive.length(), thinks, ..Idle::default() }).await;
        assert_eq!((done.unwrap().status, tries), (StatusCode::OK, 1));
    }
}
