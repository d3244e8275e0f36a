//! Room for pods: why none can be made just now, so that nobody asks for jobs whose pods would have
//! to wait, and how many pods of a kind there may be at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::{ApiError, Cluster, Fault, PodFacts, limits};

/// Why pods cannot be made just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Which kind.
    pub kind: ShortageKind,
    /// The API server's words.
    pub message: String,
}

/// What pods have to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShortageKind {
    /// A `ResourceQuota` of the namespace is used up.
    Quota,
    /// The API server, or an admission webhook behind it, asks to come again, or cannot be reached.
    Server,
    /// As many pods of the fleet as there may be.
    Fleet,
}

/// Shared by the clones of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Room {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What each pod waits for that is being made, by the order in which they came.
    waiting: BTreeMap<u64, Option<Shortage>>,
    next: u64,
    /// Most pods with a value of the label, by that value.
    bounds: BTreeMap<String, usize>,
    /// Pods that are being made within such a bound.
    making: BTreeMap<String, usize>,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The making of one pod; dropping it says that this pod waits for nothing any more.
pub(crate) struct Making<'a> {
    room: &'a Room,
    number: u64,
    /// The bound that it takes a place of, once it has one.
    of: Option<String>,
}

impl<'a> Making<'a> {
    pub(crate) fn begin(room: &'a Room) -> Self {
        let mut state = room.lock();
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number, None);
        Self { room, number, of: None }
    }

    /// The last try has failed.
    pub(crate) fn refused(&self, error: &ApiError) {
        let kind = if error.quota().is_some() { ShortageKind::Quota } else { ShortageKind::Server };
        self.waits(kind, &error.message);
    }

    fn waits(&self, kind: ShortageKind, message: &str) {
        let shortage = Shortage { kind, message: message.to_owned() };
        self.room.lock().waiting.insert(self.number, Some(shortage));
    }

    /// Takes a place within the bound of `value`, if there is one free beside those that `running`
    /// pods have and nobody else is taking one. `Err`: the bound.
    fn enter(&mut self, value: &str, running: usize) -> Result<(), usize> {
        let mut state = self.room.lock();
        let Some(bound) = state.bounds.get(value).copied() else { return Ok(()) };
        let making = state.making.entry(value.to_owned()).or_default();
        // One after the other: what the next one counts has been shown to other managers too, which
        // count at the same time.
        if running >= bound || *making > 0 {
            return Err(bound);
        }
        *making += 1;
        self.of = Some(value.to_owned());
        state.waiting.insert(self.number, None);
        Ok(())
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut state = self.room.lock();
        state.waiting.remove(&self.number);
        if let Some(making) = self.of.take().and_then(|value| state.making.get_mut(&value)) {
            *making = making.saturating_sub(1);
        }
    }
}

impl Cluster {
    /// What a pod waits for that could not be made yet; the longest wait, if there are several.
    pub fn shortage(&self) -> Option<Shortage> {
        self.room().lock().waiting.values().flatten().next().cloned()
    }

    /// Bounds the pods of this namespace whose label [`limits::BOUNDED_LABEL`] has this value,
    /// whoever makes them: [`Cluster::create_pod`] waits while there are as many. `None` lifts the
    /// bound.
    pub fn bound(&self, value: &str, most: Option<usize>) {
        let mut state = self.room().lock();
        match most {
            Some(most) => state.bounds.insert(value.to_owned(), most),
            None => state.bounds.remove(value),
        };
    }

    /// Waits for a place within the bound that counts for a pod, if one does. `tell` hears why it
    /// waits.
    pub(crate) async fn wait_for_place(
        &self,
        making: &mut Making<'_>,
        value: &str,
        deadline: Instant,
        tell: &mut impl FnMut(&ApiError),
    ) -> Result<(), ApiError> {
        let is_one = |facts: &PodFacts| facts.takes_room() && facts.mark(limits::BOUNDED_LABEL) == Some(value);
        let mut told = false;
        loop {
            let running = self.registry().count(is_one);
            let Err(bound) = making.enter(value, running) else { return Ok(()) };
            if running < bound && Instant::now() + limits::ROOM_LOOK < deadline {
                tokio::time::sleep(limits::ROOM_LOOK).await;
                continue;
            }
            let message = format!("{bound} jobs of the fleet have pods already (fleet_concurrent in [gantry])");
            making.waits(ShortageKind::Fleet, &message);
            let error = ApiError::without_answer(Fault::Throttled, message);
            if Instant::now() + limits::ROOM_LOOK >= deadline {
                return Err(error);
            }
            if !std::mem::replace(&mut told, true) {
                tell(&error);
            }
            tokio::time::sleep(limits::ROOM_LOOK).await;
        }
    }
}
