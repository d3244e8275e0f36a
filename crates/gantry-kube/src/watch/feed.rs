//! List, then watch, for ever: the one stream of what happens to the pods of a selector. It resumes
//! a watch that ends, lists again when the API server no longer keeps the version (410), and says
//! so when it is refused.

use futures::{StreamExt as _, TryStreamExt as _, pin_mut};
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use crate::{
    error::{ApiError, Fault},
    limits,
    observed::ObservedPod,
    pods, retry,
};

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// All pods there are.
    Listed(Vec<ObservedPod>),
    /// One was added or has changed.
    Changed(Box<ObservedPod>),
    /// One was deleted, or its labels have changed.
    Left(Box<ObservedPod>),
    /// A watch runs: everything will be shown.
    Live,
    /// Something may be missed: the list or the watch has failed.
    Broken,
    /// `list` or `watch` is not granted.
    Refused(ApiError),
}

/// Why a watch cannot be resumed from where it was.
enum Stop {
    /// The version is too old, or nobody listens any more.
    Relist,
    Refused(ApiError),
}

/// How a watch ended that has not failed.
enum Pause {
    /// The API server ended it, as it does from time to time.
    Ended,
    /// Nothing came over it for too long.
    Silent,
}

pub(crate) struct Feed {
    pub(crate) pods: Api<ObservedPod>,
    pub(crate) selector: String,
    pub(crate) events: mpsc::Sender<Event>,
}

impl Feed {
    /// Runs until nobody listens.
    pub(crate) async fn run(self) {
        let mut backoff = retry::backoff(limits::BACKOFF_MOST);
        let mut complained = false;
        while !self.events.is_closed() {
            let started = Instant::now();
            let error = match pods::list(&self.pods, &self.selector).await {
                Ok((pods, version)) => {
                    if self.events.send(Event::Listed(pods)).await.is_err() {
                        return;
                    }
                    complained = false;
                    match self.follow(version).await {
                        Stop::Relist => None,
                        Stop::Refused(error) => Some(error),
                    }
                }
                Err(error) => Some(error),
            };
            if started.elapsed() > limits::WATCH_SILENCE {
                backoff.reset();
            }
            let mut pause = backoff.next_spread_pause();
            if let Some(error) = error {
                pause = pause.max(error.retry_after.unwrap_or_default());
                if error.fault == Fault::Forbidden {
                    pause = limits::WATCH_REFUSED_RETRY;
                    let _ = self.events.send(Event::Refused(error)).await;
                } else {
                    let _ = self.events.send(Event::Broken).await;
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!(%error, "the pods cannot be listed; trying again until they can");
                    }
                }
            }
            sleep(pause).await;
        }
    }

    /// Watches from `version`, again and again.
    async fn follow(&self, mut version: String) -> Stop {
        let params = WatchParams::default().labels(&self.selector).timeout(limits::WATCH_SECONDS);
        let mut backoff = retry::backoff(limits::BACKOFF_MOST);
        loop {
            let started = Instant::now();
            let ended = match retry::once(self.pods.watch(&params, &version)).await {
                Ok(stream) => {
                    let _ = self.events.send(Event::Live).await;
                    let before = version.clone();
                    let ended = self.read(stream, &mut version).await;
                    if version != before || started.elapsed() >= limits::WATCH_SILENCE {
                        backoff.reset();
                    }
                    ended
                }
                Err(error) => Err(error),
            };
            let pause = backoff.next_spread_pause();
            match ended {
                Ok(Pause::Ended) => {}
                // The connection may have been half open for some time.
                Ok(Pause::Silent) => drop(self.events.send(Event::Broken).await),
                // Credentials that are not accepted any more are complained of where the list
                // fails.
                Err(error) if matches!(error.fault, Fault::Gone | Fault::Unauthenticated) => return Stop::Relist,
                Err(error) if error.fault == Fault::Forbidden => return Stop::Refused(error),
                Err(error) => {
                    tracing::debug!(%error, ?pause, "the watch on pods broke off; resuming");
                    let _ = self.events.send(Event::Broken).await;
                }
            }
            if self.events.is_closed() {
                return Stop::Relist;
            }
            sleep(pause).await;
        }
    }

    /// Hands on what one watch says, until there is nothing more or nobody listens.
    async fn read(
        &self,
        stream: impl futures::Stream<Item = kube::Result<WatchEvent<ObservedPod>>>,
        version: &mut String,
    ) -> Result<Pause, ApiError> {
        let stream = stream.into_stream().fuse();
        pin_mut!(stream);
        let mut garbled = 0;
        loop {
            let Ok(next) = timeout(limits::WATCH_SILENCE, stream.next()).await else { return Ok(Pause::Silent) };
            let event = match next {
                None => return Ok(Pause::Ended),
                Some(Ok(event)) => {
                    garbled = 0;
                    event
                }
                Some(Err(error)) => {
                    let error = ApiError::from(error);
                    garbled += 1;
                    if error.fault != Fault::Garbled || garbled > limits::GARBLED_EVENTS {
                        return Err(error);
                    }
                    tracing::warn!(%error, "an event of the watch on pods cannot be understood and is left out");
                    continue;
                }
            };
            let event = match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => Event::Changed(Box::new(pod)),
                WatchEvent::Deleted(pod) => Event::Left(Box::new(pod)),
                WatchEvent::Bookmark(bookmark) => {
                    *version = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(status) => return Err(ApiError::from(status.as_ref())),
            };
            let (Event::Changed(pod) | Event::Left(pod)) = &event else { continue };
            if let Some(newer) = &pod.metadata.resource_version {
                version.clone_from(newer);
            }
            if self.events.send(event).await.is_err() {
                return Ok(Pause::Ended);
            }
        }
    }
}
