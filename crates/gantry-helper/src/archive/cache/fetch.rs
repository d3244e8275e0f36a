//! A cache on its way here: ranges of it are fetched several at once and handed on in order, so
//! that it is unpacked while it comes. Where a store gives no ranges it comes as one stream.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures::{StreamExt as _, stream};
use gantry_http::retry::Idempotency;
use gantry_http::{ByteStream, ContentRange, Timeouts, Transport, read, send};
use gantry_storage::refusal::{self, Refusal, Wish};
use gantry_wire::cache::{CacheTransfer, SignedRequest};
use http::header::{ETAG, IF_MATCH, RANGE};
use http::{Request, Response, StatusCode};
use tokio::sync::mpsc;
use url::Url;

use super::trouble::CacheTrouble;
use super::{connect, limit, shown};
use crate::archive::meter::Meter;
use crate::archive::unpack::MAGIC;
use crate::limits::{
    CACHE_IDLE, CACHE_PIECE, CACHE_PIECE_PAUSE, CACHE_PIECE_TRIES, CACHE_PIECES_AT_ONCE, REFUSAL_BODY,
};
use crate::tasks::{self, Task};

/// A cache as it comes.
pub(super) struct Incoming {
    /// Where from, for people.
    pub(super) shown: String,
    /// Why it broke off, if it did: told beside the bytes, which only say that they end.
    pub(super) failure: Arc<Mutex<Option<CacheTrouble>>>,
    /// The first bytes, which say what it is.
    start: Vec<u8>,
    source: Source,
    _task: Option<Task>,
}

enum Source {
    /// The next bytes, and those behind them.
    Stream {
        next: Bytes,
        pieces: mpsc::Receiver<Result<Bytes, Broken>>,
    },
    File(File),
}

/// The bytes end before the cache does.
struct Broken;

impl Incoming {
    /// A file that is there.
    pub(super) fn of_file(mut file: File, shown: String) -> io::Result<Self> {
        let mut start = Vec::new();
        (&mut file).take(MAGIC as u64).read_to_end(&mut start)?;
        file.rewind()?;
        Ok(Self { shown, failure: Arc::default(), start, source: Source::File(file), _task: None })
    }

    pub(super) fn start(&self) -> &[u8] {
        &self.start
    }

    /// All of it in a file, for archives that are not read from the front.
    pub(super) fn into_file(mut self, scratch: &Path) -> io::Result<File> {
        if let Source::File(file) = self.source {
            return Ok(file);
        }
        let mut file = tempfile::tempfile_in(scratch)?;
        io::copy(&mut self, &mut file)?;
        file.flush()?;
        file.rewind()?;
        Ok(file)
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.source {
            Source::File(file) => file.read(buffer),
            Source::Stream { next, pieces } => {
                while next.is_empty() {
                    match pieces.blocking_recv() {
                        Some(Ok(piece)) => *next = piece,
                        Some(Err(Broken)) => return Err(io::Error::other("it broke off")),
                        None => return Ok(0),
                    }
                }
                let count = next.len().min(buffer.len());
                if let (Some(to), Some(from)) = (buffer.get_mut(..count), next.get(..count)) {
                    to.copy_from_slice(from);
                }
                next.advance(count);
                Ok(count)
            }
        }
    }
}

/// One object of a store.
#[derive(Clone)]
struct Object {
    transport: Arc<dyn Transport>,
    request: SignedRequest,
    store: String,
    limit: Duration,
}

/// Begins a download. Comes back when the first bytes are there.
pub(super) async fn fetch(request: &SignedRequest, transfer: &CacheTransfer) -> Result<Incoming, CacheTrouble> {
    let url = Url::parse(request.url.expose()).map_err(|_| CacheTrouble::Link)?;
    let limit = limit(transfer);
    let object =
        Object { transport: connect(&url, transfer)?, request: request.clone(), store: transfer.store.clone(), limit };
    let too_slow = CacheTrouble::TooSlow { store: transfer.store.clone(), minutes: limit.as_secs() / 60 };
    let deadline = tokio::time::Instant::now() + limit;
    let Ok(begun) = tokio::time::timeout_at(deadline, begin(&object)).await else { return Err(too_slow) };
    let Begun { first, rest } = begun?;
    let (sender, mut pieces) = mpsc::channel(1);
    let failure: Arc<Mutex<Option<CacheTrouble>>> = Arc::default();
    let told = Arc::clone(&failure);
    let mut meter = Meter::new("Downloading cache", rest.length());
    meter.add(first.len());
    let task = tasks::spawn(async move {
        let moving = rest.into_channel(&object, &sender, &mut meter);
        let ended = tokio::time::timeout_at(deadline, moving).await;
        let trouble = match ended {
            Ok(Ok(())) => return,
            Ok(Err(trouble)) => trouble,
            Err(_) => too_slow,
        };
        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
        let _ = sender.send(Err(Broken)).await;
    });
    let mut next = first;
    // A stream may come in pieces of any size.
    while next.len() < MAGIC {
        match pieces.recv().await {
            Some(Ok(piece)) => next = [next, piece].concat().into(),
            Some(Err(Broken)) => {
                let trouble = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
                return Err(trouble.unwrap_or(CacheTrouble::Missing));
            }
            None => break,
        }
    }
    let start = next.get(..next.len().min(MAGIC)).unwrap_or_default().to_vec();
    let source = Source::Stream { next, pieces };
    Ok(Incoming { shown: shown(&url), failure, start, source, _task: Some(task) })
}

/// The last bytes of an object, up to so many.
pub(super) async fn tail(
    request: &SignedRequest,
    transfer: &CacheTransfer,
    most: usize,
) -> Result<Vec<u8>, CacheTrouble> {
    let url = Url::parse(request.url.expose()).map_err(|_| CacheTrouble::Link)?;
    let limit = limit(transfer);
    let object =
        Object { transport: connect(&url, transfer)?, request: request.clone(), store: transfer.store.clone(), limit };
    // Azure knows no ranges that count from the end.
    let first = object.get(Some((0, 1)), None).await?;
    let range = ContentRange::of(first.headers()).filter(|_| first.status() == StatusCode::PARTIAL_CONTENT);
    let Some(ContentRange { whole_length: length, .. }) = range else { return Ok(Vec::new()) };
    // To its end, so that the connection can be used again.
    read(first.into_body(), 1, CACHE_IDLE).await;
    let start = length.saturating_sub(most as u64);
    Ok(object.piece((start, length), length, None).await?.to_vec())
}

/// The beginning of an object, and how the rest comes.
struct Begun {
    first: Bytes,
    rest: Rest,
}

enum Rest {
    /// The answer goes on.
    Stream(ByteStream),
    /// Ranges up to this length, of the version with this tag.
    Ranges { length: u64, tag: Option<String> },
}

async fn begin(object: &Object) -> Result<Begun, CacheTrouble> {
    let answer = object.get(Some((0, CACHE_PIECE)), None).await?;
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => {}
        StatusCode::RANGE_NOT_SATISFIABLE => {
            return Ok(Begun { first: Bytes::new(), rest: Rest::Ranges { length: 0, tag: None } });
        }
        _ => return Ok(Begun { first: Bytes::new(), rest: Rest::Stream(answer.into_body()) }),
    }
    let Some(range) = ContentRange::of(answer.headers()) else {
        // Ranges of what has no length are of no use.
        let whole = object.get(None, None).await?;
        return Ok(Begun { first: Bytes::new(), rest: Rest::Stream(whole.into_body()) });
    };
    let length = range.whole_length;
    object.check(Some(range), (0, length))?;
    // A weak tag may be that of another content.
    let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let tag = tag.filter(|tag| tag.starts_with('"'));
    let rest = Rest::Ranges { length, tag: tag.clone() };
    let end = length.min(CACHE_PIECE);
    let content = read(answer.into_body(), usize::try_from(CACHE_PIECE).unwrap_or(usize::MAX), object.limit).await;
    if content.end.is_ok() && content.bytes.len() as u64 == end {
        return Ok(Begun { first: content.bytes, rest });
    }
    Ok(Begun { first: object.piece((0, end), length, tag.as_deref()).await?, rest })
}

impl Rest {
    /// How long the object is, where that is known.
    fn length(&self) -> Option<u64> {
        match self {
            Self::Stream(_) => None,
            Self::Ranges { length, .. } => Some(*length),
        }
    }

    /// Hands on what comes. Whoever takes no more has given up on the cache.
    async fn into_channel(
        self,
        object: &Object,
        sender: &mpsc::Sender<Result<Bytes, Broken>>,
        meter: &mut Meter,
    ) -> Result<(), CacheTrouble> {
        match self {
            Self::Stream(mut stream) => {
                while let Some(piece) = stream.next().await {
                    let piece =
                        piece.map_err(|source| CacheTrouble::Unreachable { store: object.store.clone(), source })?;
                    meter.add(piece.len());
                    if sender.send(Ok(piece)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Self::Ranges { length, tag } => {
                let starts = (1..length.div_ceil(CACHE_PIECE)).map(|number| number * CACHE_PIECE);
                let ranges = starts.map(|start| (start, length.min(start.saturating_add(CACHE_PIECE))));
                let mut pieces = stream::iter(ranges)
                    .map(|range| object.piece(range, length, tag.as_deref()))
                    .buffered(CACHE_PIECES_AT_ONCE);
                while let Some(piece) = pieces.next().await {
                    let piece = piece?;
                    meter.add(piece.len());
                    if sender.send(Ok(piece)).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        meter.end();
        Ok(())
    }
}

impl Object {
    /// The bytes of a range of so many in all, tried again where they break off.
    async fn piece(&self, (start, end): (u64, u64), length: u64, tag: Option<&str>) -> Result<Bytes, CacheTrouble> {
        // Of an object without a byte there is no range that could be asked for.
        let Some(most) = end.checked_sub(start).filter(|most| *most > 0) else { return Ok(Bytes::new()) };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = self.get(Some((start, end)), tag).await?;
            if answer.status() != StatusCode::PARTIAL_CONTENT {
                return Err(CacheTrouble::Changed);
            }
            self.check(ContentRange::of(answer.headers()), (start, length))?;
            let content = read(answer.into_body(), most, self.limit).await;
            if content.end.is_ok() && content.bytes.len() == most {
                return Ok(content.bytes);
            }
            if tries >= CACHE_PIECE_TRIES {
                let what = format!("{} broke the download off {tries} times", self.store);
                return Err(CacheTrouble::Store(what));
            }
            tokio::time::sleep(CACHE_PIECE_PAUSE).await;
        }
    }

    /// Looks whether an answer is about the bytes that were asked for: what stands between here and
    /// a store may give those of another answer.
    fn check(&self, got: Option<ContentRange>, (start, length): (u64, u64)) -> Result<(), CacheTrouble> {
        let what = match got {
            Some(got) if got.start != start => format!("they begin at {} and not at {start}", got.start),
            Some(got) if got.whole_length != length => {
                format!("they are of a whole of {} and not of {length}", got.whole_length)
            }
            Some(_) => return Ok(()),
            None => "they come without a word of which they are".to_owned(),
        };
        let store = &self.store;
        let text = format!("{store} gives other bytes than it was asked for, {what}: is there a proxy before it?");
        Err(CacheTrouble::Store(text))
    }

    /// An answer with content.
    async fn get(&self, range: Option<(u64, u64)>, tag: Option<&str>) -> Result<Response<ByteStream>, CacheTrouble> {
        let mut request = Request::get(self.request.url.expose());
        for (name, value) in &self.request.headers {
            request = request.header(name, value);
        }
        if let Some((start, end)) = range {
            request = request.header(RANGE, format!("bytes={start}-{}", end - 1));
        }
        if let Some(tag) = tag {
            request = request.header(IF_MATCH, tag);
        }
        let request = request.body(Bytes::new()).map_err(|_| CacheTrouble::Link)?;
        let timeouts = Timeouts { head: CACHE_IDLE, idle: CACHE_IDLE };
        let sent = send(self.transport.as_ref(), request, &[], timeouts, Idempotency::Idempotent).await;
        let unreachable = |source| CacheTrouble::Unreachable { store: self.store.clone(), source };
        let answer = sent.answer.map_err(unreachable)?;
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Ok(answer),
            StatusCode::PRECONDITION_FAILED => Err(CacheTrouble::Changed),
            status => {
                let body = read(answer.into_body(), REFUSAL_BODY, CACHE_IDLE).await.bytes;
                Err(match refusal::read(&self.store, Wish::Get, status, &String::from_utf8_lossy(&body)) {
                    Refusal::Missing => CacheTrouble::Missing,
                    Refusal::Trouble(text) => CacheTrouble::Store(text),
                    Refusal::Refused(text) => CacheTrouble::Refused(text),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use gantry_http::{Body, TransportError};
    use http::header::CONTENT_RANGE;

    use super::*;

    /// Says `Content-Range` with every answer, and gives one byte.
    struct OneByte(&'static str);

    impl Transport for OneByte {
        fn send(&self, _: Request<Body>, _: Timeouts) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
            let body: ByteStream = Box::pin(stream::iter([Ok(Bytes::from_static(b"x"))]));
            let answer = Response::builder().status(StatusCode::PARTIAL_CONTENT).header(CONTENT_RANGE, self.0);
            Box::pin(std::future::ready(Ok(answer.body(body).unwrap())))
        }
    }

    fn object(range: &'static str) -> Object {
        let request =
            SignedRequest { url: "http://store/k".into(), headers: Vec::new(), most_bytes: None, parts: None };
        let store = "the store".to_owned();
        Object { transport: Arc::new(OneByte(range)), request, store, limit: Duration::from_secs(1) }
    }

    #[tokio::test]
    async fn a_part_of_nothing_is_nothing() {
        let Begun { first, rest } = begin(&object("bytes 0-0/0")).await.unwrap();
        assert_eq!((first.len(), rest.length()), (0, Some(0)));
    }
}
