//! Watching: the initial objects where asked for, then every change, with bookmarks. A watch reads
//! from the store's bounded history and is told `Expired` when it falls behind it, so a slow client
//! costs no memory.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use futures::stream;
use http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{
    call::Call,
    list::Selectors,
    protobuf,
    representation::{self, Language, Represented, Shape},
    request::Target,
    status::ApiError,
};
use crate::{
    cluster::Cluster,
    faults::Closings,
    store::{Change, TooOld, object},
};

/// How long a watch without `timeoutSeconds` lasts; real servers choose between 30 and 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(45 * 60);
/// The longest watch: a day is for ever here, and a bound keeps the arithmetic of time safe.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);
/// How often a watch that wants bookmarks gets one, as on a real server.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Marks the bookmark that ends the initial events of a streaming list (`sendInitialEvents`).
const INITIAL_END: &str = "k8s.io/initial-events-end";

struct Watch {
    cluster: Arc<Cluster>,
    target: Target,
    selectors: Selectors,
    shape: Shape,
    language: Language,
    /// Everything up to this version was sent or queued.
    cursor: u64,
    /// Lines that are to be sent.
    queue: VecDeque<Bytes>,
    follow: watch::Receiver<u64>,
    deadline: Instant,
    next_bookmark: Option<Instant>,
    /// A table's columns are told once.
    columns_told: bool,
    closings: Closings,
    over: bool,
}

/// `watch`.
pub(crate) fn answer(call: &Call, target: &Target) -> Result<Response, ApiError> {
    let shape = representation::wanted(&call.headers)?;
    let language = representation::language(&call.headers);
    let selectors = Selectors::read(target.kind, &target.query)?;
    let timeout = target.query.number("timeoutSeconds").filter(|seconds| *seconds > 0);
    let timeout = timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs).min(LONGEST_TIMEOUT);
    let bookmarks = target.query.flag("allowWatchBookmarks");
    let streaming_list = target.query.flag("sendInitialEvents");
    let asked = match target.query.get("resourceVersion") {
        None | Some("" | "0") => None,
        Some(text) => Some(text.parse::<u64>().map_err(|_| {
            ApiError::bad_request(format!("Invalid value: {text:?}: strconv.ParseUint: invalid syntax"))
        })?),
    };
    let now = Instant::now();
    let mut watch = Watch {
        follow: call.cluster.store.follow(),
        cluster: Arc::clone(&call.cluster),
        target: target.clone(),
        selectors,
        shape,
        language,
        cursor: asked.unwrap_or(0),
        queue: VecDeque::new(),
        deadline: now + timeout,
        next_bookmark: bookmarks.then_some(now + BOOKMARK_EVERY),
        columns_told: false,
        closings: call.cluster.faults.closings(),
        over: false,
    };
    if asked.is_none() || streaming_list {
        watch.queue_initial(streaming_list && bookmarks);
    }
    let body = Body::from_stream(stream::unfold(watch, |mut watch| async {
        let line = watch.next().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(line), watch))
    }));
    let media = if language == Language::Protobuf { protobuf::WATCH_MEDIA_TYPE } else { "application/json" };
    let response = Response::builder().status(StatusCode::OK).header(header::CONTENT_TYPE, media);
    response.body(body).map_err(ApiError::internal)
}

impl Watch {
    fn queue_initial(&mut self, end_marked: bool) {
        let namespace = (!self.target.namespace.is_empty()).then_some(self.target.namespace.as_str());
        let (objects, version) = self.cluster.store.list(self.target.kind, namespace);
        self.cursor = version;
        for object in &objects {
            if self.selectors.matches(object) {
                let event = self.event("ADDED", object);
                self.queue.push_back(event);
            }
        }
        if end_marked {
            let bookmark = self.bookmark(true);
            self.queue.push_back(bookmark);
        }
    }

    /// The next line; `None` when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.queue.pop_front() {
                return Some(line);
            }
            if self.over {
                return None;
            }
            self.follow.borrow_and_update();
            match self.cluster.store.since(self.cursor) {
                Ok((changes, upto)) => {
                    self.cursor = upto.max(self.cursor);
                    for change in &changes {
                        self.queue_change(change);
                    }
                }
                Err(TooOld { oldest }) => {
                    let status = ApiError::expired(self.cursor, oldest).to_status();
                    let line = self.line("ERROR", &status);
                    self.queue.push_back(line);
                    self.over = true;
                }
            }
            if self.queue.is_empty() && !self.over {
                self.wait().await;
            }
        }
    }

    async fn wait(&mut self) {
        let stopping = self.cluster.tasks.stopping();
        let wake = self.next_bookmark.map_or(self.deadline, |at| at.min(self.deadline));
        let closed = self.closings.closed(self.target.kind.plural, &self.target.namespace);
        tokio::select! {
            changed = self.follow.changed() => self.over = changed.is_err(),
            gone = closed => {
                self.over = true;
                if gone {
                    let status = ApiError::expired(self.cursor, self.cluster.store.version()).to_status();
                    let line = self.line("ERROR", &status);
                    self.queue.push_back(line);
                }
            }
            () = stopping.cancelled() => self.over = true,
            () = tokio::time::sleep_until(wake) => {
                if Instant::now() >= self.deadline {
                    self.over = true;
                } else {
                    self.next_bookmark = Some(Instant::now() + BOOKMARK_EVERY);
                    let bookmark = self.bookmark(false);
                    self.queue.push_back(bookmark);
                }
            }
        }
    }

    fn queue_change(&mut self, change: &Change) {
        let kind = self.target.kind;
        let namespace = self.target.namespace.as_str();
        if change.plural != kind.plural || !(namespace.is_empty() || object::namespace(&change.object) == namespace) {
            return;
        }
        // For a selector an object that stops matching is gone, and one that starts matching is
        // new.
        let was = change.before.as_ref().is_some_and(|before| self.selectors.matches(before));
        let is = !change.removed && self.selectors.matches(&change.object);
        let event = match (was, is) {
            (false, true) => self.event("ADDED", &change.object),
            (true, true) => self.event("MODIFIED", &change.object),
            (true, false) => self.gone(change),
            (false, false) => return,
        };
        self.queue.push_back(event);
    }

    /// The last state that the watcher knew, with the version of the change.
    fn gone(&mut self, change: &Change) -> Bytes {
        if change.removed {
            return self.event("DELETED", &change.object);
        }
        let mut last = Value::clone(change.before.as_ref().unwrap_or(&change.object));
        object::set_version(&mut last, change.version);
        self.event("DELETED", &last)
    }

    fn event(&mut self, kind: &str, object: &Value) -> Bytes {
        let mut shown = representation::one(&self.cluster, self.target.kind, self.shape, &self.target.query, object);
        if self.shape == Shape::Table && std::mem::replace(&mut self.columns_told, true) {
            shown.to_mut()["columnDefinitions"] = Value::Null;
        }
        self.line(kind, &shown)
    }

    /// One event as it is sent; in JSON with its type first, as real servers have it: clients then
    /// read the object without keeping it.
    fn line(&self, kind: &str, object: &Value) -> Bytes {
        if self.language == Language::Protobuf {
            // Records of managed fields are kept as text, and are JSON only when they are written
            // out.
            let shown = serde_json::to_value(Represented(object)).unwrap_or_default();
            return protobuf::event(kind, &shown).unwrap_or_default();
        }
        let mut line = format!("{{\"type\":\"{kind}\",\"object\":").into_bytes();
        // Writing a value that is JSON already into memory cannot fail.
        let _ = serde_json::to_writer(&mut line, &Represented(object));
        line.extend_from_slice(b"}\n");
        line.into()
    }

    fn bookmark(&self, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": self.cursor.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_END: "true"});
        }
        let kind = self.target.kind;
        let (kind, version) = match self.shape {
            Shape::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            Shape::Object | Shape::Table => (kind.kind, kind.api_version()),
        };
        self.line("BOOKMARK", &json!({"kind": kind, "apiVersion": version, "metadata": metadata}))
    }
}
