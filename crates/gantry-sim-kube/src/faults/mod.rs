//! Faults on demand: what a test or a person wants to go wrong, kept here and asked for at the
//! place where it can happen. Nothing happens here; a part that has no fault to suffer never waits.

mod effect;
mod parse;
mod state;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{auth::attributes::Attributes, pattern::matches};
use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

pub(crate) use effect::{Effect, Stream};
pub(crate) use state::{Closings, Coming, Kubelet, LOW_ON_DISK, PodFault, Server};

/// More faults at once than anybody can mean; a loop that forgets to remove its own is told.
const MOST: usize = 1_000;

/// A fault that has been ordered.
#[derive(Debug)]
struct Fault {
    effect: Effect,
    /// How often it may still happen.
    left: Option<u64>,
    hits: u64,
    probability: f64,
    rng: StdRng,
    since: Instant,
    until: Option<Instant>,
}

impl Fault {
    fn is_over(&self, now: Instant) -> bool {
        self.left == Some(0) || self.until.is_some_and(|until| until <= now)
    }

    fn to_json(&self, id: u64) -> Value {
        let mut json = serde_json::to_value(&self.effect).unwrap_or_default();
        if let Some(fields) = json.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        json["id"] = json!(id);
        json["hits"] = json!(self.hits);
        if let Some(left) = self.left {
            json["left"] = json!(left);
        }
        if let Some(until) = self.until {
            json["secondsLeft"] = json!(until.saturating_duration_since(Instant::now()).as_secs_f64());
        }
        json
    }
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    faults: BTreeMap<u64, Fault>,
}

/// All faults of a cluster.
#[derive(Debug)]
pub(crate) struct Faults {
    inner: Mutex<Inner>,
    /// Counts changes of the list, for those who wait for a fault to come or go.
    changed: watch::Sender<u64>,
    /// Counts restarts of the API server.
    restarts: watch::Sender<u64>,
    /// The watches that are to be closed, by number, and what for.
    closings: watch::Sender<(u64, Option<Effect>)>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            changed: watch::Sender::new(0),
            restarts: watch::Sender::new(0),
            closings: watch::Sender::new((0, None)),
        }
    }
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders a fault; the error is a sentence for the client.
    pub(crate) fn add(&self, order: &Value) -> Result<Value, String> {
        let fault = parse::fault(order)?;
        let effect = fault.effect.clone();
        let shown = {
            let mut inner = self.lock();
            inner.faults.retain(|_, fault| !fault.is_over(Instant::now()));
            if inner.faults.len() >= MOST {
                return Err(format!("there are {MOST} faults already; remove some with DELETE /sim/faults"));
            }
            inner.next += 1;
            let id = inner.next;
            let shown = fault.to_json(id);
            if !effect.is_momentary() {
                inner.faults.insert(id, fault);
            }
            shown
        };
        match &effect {
            Effect::ApiRestart { .. } => self.restarts.send_modify(|count| *count += 1),
            Effect::WatchClose { .. } => self.closings.send_modify(|(count, what)| {
                *count += 1;
                *what = Some(effect.clone());
            }),
            _ => {}
        }
        self.changed.send_modify(|count| *count += 1);
        Ok(shown)
    }

    /// Every fault that is not over.
    pub(crate) fn list(&self) -> Value {
        let now = Instant::now();
        let inner = self.lock();
        let faults = inner.faults.iter().filter(|(_, fault)| !fault.is_over(now));
        json!({"kind": "Faults", "items": faults.map(|(id, fault)| fault.to_json(*id)).collect::<Vec<_>>()})
    }

    /// Ends one fault, or all. Returns how many there were.
    pub(crate) fn remove(&self, id: Option<u64>) -> usize {
        let removed = {
            let mut inner = self.lock();
            let before = inner.faults.len();
            inner.faults.retain(|known, _| id.is_some_and(|id| id != *known));
            before - inner.faults.len()
        };
        self.changed.send_modify(|count| *count += 1);
        removed
    }

    /// Lets the first fault happen that `look` finds something in.
    fn take<T>(&self, look: impl Fn(&Effect) -> Option<T>) -> Option<T> {
        let now = Instant::now();
        let mut inner = self.lock();
        for fault in inner.faults.values_mut().filter(|fault| !fault.is_over(now)) {
            let Some(found) = look(&fault.effect) else { continue };
            if fault.probability < 1.0 && fault.rng.random::<f64>() >= fault.probability {
                continue;
            }
            fault.hits += 1;
            fault.left = fault.left.map(|left| left.saturating_sub(1));
            return Some(found);
        }
        None
    }

    /// Whether and since when a fault of that kind lasts, and until when.
    fn lasting<T>(&self, look: impl Fn(&Effect) -> Option<T>) -> Option<(T, Instant, Option<Instant>)> {
        let now = Instant::now();
        let inner = self.lock();
        let mut faults = inner.faults.values().filter(|fault| !fault.is_over(now));
        faults.find_map(|fault| Some((look(&fault.effect)?, fault.since, fault.until)))
    }

    /// Waits until the list changes or `until`.
    async fn next_change(&self, changed: &mut watch::Receiver<u64>, until: Option<Instant>) {
        let over = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = changed.changed() => {}
            () = over => {}
        }
    }

    /// Follows changes of the list.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// How a request is refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    /// Type and text of a body that is no `Status`.
    pub(crate) body: Option<(Option<String>, String)>,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RequestFault {
    Refuse(Refusal),
    Delay(Duration),
    LoseAnswer,
}

/// A failed pull, in words of its own where they are not to be the usual ones.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PullError {
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
}

impl Faults {
    /// What happens to a request, delays first.
    pub(crate) fn request(&self, wish: &Attributes, delays: bool) -> Option<RequestFault> {
        let fits = |what: &effect::Requests| what.fit(wish);
        self.take(|effect| match effect {
            Effect::Delay { what, delay } if delays && fits(what) => Some(RequestFault::Delay(parse::seconds(*delay))),
            Effect::Refuse { what, status, retry_after, reason, message, body, content_type }
                if !delays && fits(what) =>
            {
                Some(RequestFault::Refuse(Refusal {
                    status: *status,
                    retry_after: *retry_after,
                    reason: reason.clone(),
                    message: message.clone(),
                    body: body.clone().map(|body| (content_type.clone(), body)),
                }))
            }
            Effect::LoseAnswer { what } if !delays && fits(what) => Some(RequestFault::LoseAnswer),
            _ => None,
        })
    }

    /// Whether the pull of an image fails.
    pub(crate) fn pull_error(&self, image: &str) -> Option<PullError> {
        self.take(|effect| match effect {
            Effect::ImagePullError { image: pattern, reason, message } if matches(pattern, image) => {
                Some(PullError { reason: reason.clone(), message: message.clone() })
            }
            _ => None,
        })
    }

    /// Whether faults make the pull of an image wait.
    pub(crate) fn is_slow(&self, image: &str) -> bool {
        let slow = |effect: &Effect| match effect {
            Effect::SlowPull { image: pattern, .. } => matches(pattern, image).then_some(()),
            _ => None,
        };
        self.lasting(slow).is_some()
    }

    /// Waits as long as faults make the pull of an image wait.
    pub(crate) async fn slow_pull(&self, image: &str) {
        let slow = |effect: &Effect| match effect {
            Effect::SlowPull { image: pattern, delay } if matches(pattern, image) => Some(*delay),
            _ => None,
        };
        let mut changed = self.follow();
        let begun = Instant::now();
        self.take(|effect| slow(effect).map(drop));
        loop {
            changed.borrow_and_update();
            let Some((delay, _, until)) = self.lasting(slow) else { return };
            let enough = delay.map(|delay| begun + parse::seconds(delay));
            if enough.is_some_and(|enough| enough <= Instant::now()) {
                return;
            }
            let wake = [enough, until].into_iter().flatten().min();
            self.next_change(&mut changed, wake).await;
        }
    }

    /// Why the scheduler is to find no node for a pod.
    pub(crate) fn unschedulable(&self, namespace: &str, pod: &str) -> Option<String> {
        self.take(|effect| match effect {
            Effect::Unschedulable { namespace: wanted, pod: name, message }
                if effect::fits(wanted.as_ref(), namespace) && effect::fits(name.as_ref(), pod) =>
            {
                let usual = || "node(s) had untolerated taint {gantry.dev/fault: }".to_owned();
                Some(message.clone().unwrap_or_else(usual))
            }
            _ => None,
        })
    }

    /// The sentence of a quota that forbids a new pod.
    pub(crate) fn quota(&self, namespace: &str) -> Option<String> {
        self.take(|effect| match effect {
            Effect::Quota { namespace: wanted, quota, resource } if effect::fits(wanted.as_ref(), namespace) => {
                let quota = quota.as_deref().unwrap_or("quota");
                let resource = resource.as_deref().unwrap_or("pods");
                Some(format!(
                    "exceeded quota: {quota}, requested: {resource}=1, used: {resource}=1, limited: {resource}=1"
                ))
            }
            _ => None,
        })
    }

    /// How a stream goes wrong, if it does: what, and whether it only stops.
    pub(crate) fn stream(
        &self,
        subresource: &str,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Option<(Stream, bool)> {
        self.take(|effect| match effect {
            Effect::StreamCut(stream) if stream.fits(subresource, namespace, pod, container) => {
                Some((stream.clone(), false))
            }
            Effect::StreamStall(stream) if stream.fits(subresource, namespace, pod, container) => {
                Some((stream.clone(), true))
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(verb: &str) -> Attributes {
        Attributes { verb: verb.to_owned(), resource: "pods".to_owned(), ..Attributes::default() }
    }

    #[test]
    fn a_fault_happens_as_often_as_it_was_ordered() {
        let faults = Faults::default();
        faults
            .add(&json!({"kind": "refuse", "verb": "create", "resource": "pods", "status": 503, "count": 2}))
            .unwrap();
        let asked = || faults.request(&wish("create"), false);
        assert!(asked().is_some() && faults.request(&wish("get"), false).is_none());
        assert_eq!(faults.list()["items"][0]["left"], 1);
        assert!(asked().is_some() && asked().is_none());
        assert_eq!(faults.list()["items"], json!([]));
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed() {
        let draws = |seed: u64| {
            let faults = Faults::default();
            let order = json!({"kind": "refuse", "status": 429, "probability": 0.5, "seed": seed});
            faults.add(&order).unwrap();
            (0..64).map(|_| faults.request(&wish("get"), false).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        assert!(draws(7).contains(&true) && draws(7).contains(&false));
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        let faults = Faults::default();
        for order in [
            json!(3),
            json!({"kind": "flood"}),
            json!({"kind": "refuse"}),
            json!({"kind": "refuse", "status": 200}),
            json!({"kind": "slow-pull", "image": "x", "colour": 1}),
            json!({"kind": "refuse", "status": 500, "colour": 1}),
            json!({"kind": "refuse", "status": 500, "probability": 2}),
        ] {
            assert!(faults.add(&order).is_err(), "{order}");
        }
    }
}
