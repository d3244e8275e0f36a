//! The future that keeps the registry true: it runs the feed, and looks single pods up where the
//! feed cannot be enough, namely to prove that a pod is gone, to find one that the selector does
//! not show, and where `watch` is not granted.

use std::{collections::HashSet, pin::Pin, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use kube::Api;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Registry,
    feed::{Event, Feed},
    registry::Source,
};
use crate::{
    limits,
    observed::ObservedPod,
    pods::{self, PodNow, PodRef},
};

/// Events between feed and driver, both of one task: the bound only keeps a burst from being
/// buffered twice.
const EVENTS: usize = 64;

/// Runs the shared watch of one cluster. Waits for the first wake-up; ends when `woken` is closed.
pub(crate) fn drive(
    pods: Api<ObservedPod>,
    selector: String,
    registry: Arc<Registry>,
    woken: mpsc::Receiver<()>,
) -> impl Future<Output = ()> + Send {
    // Made here and not in the future, so that it also works for one that is dropped before it was
    // ever polled.
    let closing = CloseOnDrop(Arc::clone(&registry));
    async move {
        run(pods, selector, registry, woken).await;
        drop(closing);
    }
}

async fn run(pods: Api<ObservedPod>, selector: String, registry: Arc<Registry>, mut woken: mpsc::Receiver<()>) {
    if woken.recv().await.is_none() {
        return;
    }
    let (events, mut received) = mpsc::channel(EVENTS);
    let mut feed: Pin<Box<_>> = Box::pin(Feed { pods: pods.clone(), selector, events }.run());
    let mut poll = interval(limits::POLL_INTERVAL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut driver = Driver::new(pods, registry);
    driver.look_for_unseen();
    loop {
        tokio::select! {
            woken = woken.recv() => match woken {
                Some(()) => driver.look_for_unseen(),
                None => return,
            },
            Some(event) = received.recv() => driver.take(event),
            () = &mut feed => return,
            Some((pod, now)) = driver.lookups.next() => driver.found(pod, now),
            _ = poll.tick(), if driver.polling => driver.look_at_all(),
        }
    }
}

struct CloseOnDrop(Arc<Registry>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Driver {
    pods: Api<ObservedPod>,
    registry: Arc<Registry>,
    lookups: FuturesUnordered<BoxFuture<'static, (PodRef, Option<PodNow>)>>,
    /// Uids that `lookups` are about, so that a pod is not looked up again and again while the API
    /// server is slow.
    looking: HashSet<String>,
    slots: Arc<Semaphore>,
    /// `list` or `watch` is not granted, and no watch has run since.
    polling: bool,
}

impl Driver {
    fn new(pods: Api<ObservedPod>, registry: Arc<Registry>) -> Self {
        Self {
            pods,
            registry,
            lookups: FuturesUnordered::new(),
            looking: HashSet::new(),
            slots: Arc::new(Semaphore::new(limits::LOOKUPS)),
            polling: false,
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Listed(pods) => {
                for pod in self.registry.listed(&pods) {
                    self.look_up_again(pod, Duration::ZERO);
                }
            }
            Event::Changed(pod) => self.registry.observe(&pod, Source::Feed),
            Event::Left(pod) => {
                self.registry.observe(&pod, Source::Feed);
                let Some(pod) = PodRef::of(&pod) else { return };
                self.registry.left(&pod.uid);
                if self.registry.is_hidden(&pod.uid) {
                    self.look_up_again(pod, limits::LEFT);
                }
            }
            Event::Live => {
                self.registry.set_live(true);
                if std::mem::take(&mut self.polling) {
                    tracing::info!("the pods can be listed and watched now");
                    // Asks for those only that the watch does not show, and from then on again and
                    // again.
                    self.look_at_all();
                }
            }
            Event::Broken => self.registry.set_live(false),
            Event::Refused(error) => {
                self.registry.set_refused();
                if !self.polling {
                    tracing::warn!(
                        %error,
                        interval = ?limits::POLL_INTERVAL,
                        "list and watch on pods are not granted: every pod is polled instead, which costs requests and seconds"
                    );
                }
                self.polling = true;
            }
        }
    }

    fn look_for_unseen(&mut self) {
        for pod in self.registry.unseen() {
            self.look_up(pod, limits::FIRST_STATUS);
        }
    }

    fn look_at_all(&mut self) {
        for pod in self.registry.watched() {
            self.look_up(pod, Duration::ZERO);
        }
    }

    fn look_up(&mut self, pod: PodRef, after: Duration) {
        if self.looking.insert(pod.uid.clone()) {
            self.push(pod, after);
        }
    }

    /// Does not wait behind a look-up of the same pod that was put off.
    fn look_up_again(&mut self, pod: PodRef, after: Duration) {
        self.looking.insert(pod.uid.clone());
        self.push(pod, after);
    }

    fn push(&mut self, pod: PodRef, after: Duration) {
        let (pods, registry, slots) = (self.pods.clone(), Arc::clone(&self.registry), Arc::clone(&self.slots));
        let polling = self.polling;
        let lookup = async move {
            sleep(after).await;
            if !polling && !registry.is_hidden(&pod.uid) {
                // The watch was faster: nothing to ask.
                return (pod, None);
            }
            // Never closed.
            let _slot = slots.acquire().await;
            let now = pods::look(&pods, &pod).await;
            (pod, Some(now))
        };
        self.lookups.push(lookup.boxed());
    }

    fn found(&mut self, pod: PodRef, now: Option<PodNow>) {
        self.looking.remove(&pod.uid);
        match now {
            None => return,
            Some(PodNow::Gone | PodNow::Replaced) => return self.registry.gone(&pod.uid),
            Some(PodNow::Present(found)) => self.registry.observe(&found, Source::LookUp),
            Some(PodNow::Unknown(error)) => {
                tracing::debug!(%error, pod = pod.name, "a pod cannot be looked up; trying again");
            }
        }
        // The watch does not show it, perhaps because its labels do not match: nobody else will say
        // when it changes.
        if !self.polling && self.registry.is_hidden(&pod.uid) {
            self.look_up(pod, limits::POLL_INTERVAL);
        }
    }
}
