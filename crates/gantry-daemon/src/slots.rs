//! Places for jobs: a bound that may change while places are taken, and the numbers that tell
//! simultaneous jobs apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bound on things that happen at once. First come, first served.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    semaphore: Arc<Semaphore>,
    bound: Arc<Mutex<Bound>>,
}

#[derive(Debug)]
struct Bound {
    size: usize,
    /// Places that are taken beyond the bound, because it shrank: they vanish when they are given
    /// back.
    surplus: usize,
    waiting: usize,
}

/// A place that is taken; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Absent for a place beyond the bound.
    permit: Option<OwnedSemaphorePermit>,
    semaphore: Arc<Semaphore>,
    bound: Arc<Mutex<Bound>>,
}

impl Slots {
    /// `size` places.
    pub(crate) fn new(size: usize) -> Self {
        let bound = Bound { size, surplus: 0, waiting: 0 };
        Self { semaphore: Arc::new(Semaphore::new(size)), bound: Arc::new(Mutex::new(bound)) }
    }

    /// Changes the number of places. Those that are taken stay taken.
    pub(crate) fn resize(&self, size: usize) {
        let mut bound = lock(&self.bound);
        if size > bound.size {
            let more = size - bound.size;
            let kept = more.min(bound.surplus);
            bound.surplus -= kept;
            self.semaphore.add_permits(more - kept);
        } else {
            let fewer = bound.size - size;
            let free = self.semaphore.forget_permits(fewer);
            bound.surplus += fewer - free;
        }
        bound.size = size;
    }

    /// Waits for a place. Dropping the future loses nothing.
    pub(crate) async fn take(&self) -> Slot {
        let _waiting = Waiting::new(&self.bound);
        // The semaphore is never closed.
        let permit = Arc::clone(&self.semaphore).acquire_owned().await.ok();
        Slot { permit, semaphore: Arc::clone(&self.semaphore), bound: Arc::clone(&self.bound) }
    }

    /// Takes a place now, if need be beyond the bound: then as many that are given back vanish.
    pub(crate) fn take_beyond(&self) -> Slot {
        let permit = Arc::clone(&self.semaphore).try_acquire_owned().ok();
        if permit.is_none() {
            lock(&self.bound).surplus += 1;
        }
        Slot { permit, semaphore: Arc::clone(&self.semaphore), bound: Arc::clone(&self.bound) }
    }

    /// Whether somebody waits for a place.
    pub(crate) fn is_contended(&self) -> bool {
        lock(&self.bound).waiting > 0
    }
}

struct Waiting<'a>(&'a Mutex<Bound>);

impl<'a> Waiting<'a> {
    fn new(bound: &'a Mutex<Bound>) -> Self {
        lock(bound).waiting += 1;
        Self(bound)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(self.0).waiting -= 1;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut bound = lock(&self.bound);
        let permit = self.permit.take();
        if bound.surplus > 0 {
            bound.surplus -= 1;
            permit.into_iter().for_each(OwnedSemaphorePermit::forget);
        } else if permit.is_none() {
            // The place that was to vanish for it has done so already.
            self.semaphore.add_permits(1);
        }
    }
}

/// No code panics while it holds one of these; a poisoned one would be as good as any.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The smallest free numbers of a runner's jobs: `CI_CONCURRENT_ID` among all,
/// `CI_CONCURRENT_PROJECT_ID` among those of a project.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: BTreeSet<u32>,
    by_project: BTreeMap<i64, BTreeSet<u32>>,
}

/// The numbers of one job; dropping it frees them.
#[derive(Debug)]
pub(crate) struct JobNumbers {
    /// `CI_CONCURRENT_ID`.
    pub(crate) among_all: u32,
    /// `CI_CONCURRENT_PROJECT_ID`.
    pub(crate) in_project: u32,
    project: i64,
    taken: Arc<Mutex<Taken>>,
}

impl Numbers {
    /// Takes the numbers for a job of `project`.
    pub(crate) fn take(&self, project: i64) -> JobNumbers {
        let mut taken = lock(&self.taken);
        let among_all = smallest_free(&taken.all);
        taken.all.insert(among_all);
        let of_project = taken.by_project.entry(project).or_default();
        let in_project = smallest_free(of_project);
        of_project.insert(in_project);
        JobNumbers { among_all, in_project, project, taken: Arc::clone(&self.taken) }
    }
}

fn smallest_free(taken: &BTreeSet<u32>) -> u32 {
    (0..=u32::MAX).find(|number| !taken.contains(number)).unwrap_or(u32::MAX)
}

impl Drop for JobNumbers {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all.remove(&self.among_all);
        if let Some(of_project) = taken.by_project.get_mut(&self.project) {
            of_project.remove(&self.in_project);
            if of_project.is_empty() {
                taken.by_project.remove(&self.project);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_bound_that_shrinks_takes_effect_as_places_come_back() {
        let slots = Slots::new(3);
        let mut taken: Vec<Slot> = (0..3).filter_map(|_| slots.take().now_or_never()).collect();
        slots.resize(1);
        taken.pop();
        assert!(slots.take().now_or_never().is_none());
        taken.pop();
        assert!(slots.take().now_or_never().is_none());
        taken.pop();
        assert!(slots.take().now_or_never().is_some());
        slots.resize(2);
        let both: Vec<Slot> = (0..3).filter_map(|_| slots.take().now_or_never()).collect();
        assert_eq!(both.len(), 2);
    }

    #[test]
    fn places_beyond_the_bound_are_made_up_for() {
        let free = |slots: &Slots| {
            let taken: Vec<Slot> = (0..9).filter_map(|_| slots.take().now_or_never()).collect();
            taken.len()
        };
        for beyond_goes_first in [true, false] {
            let slots = Slots::new(2);
            let mut taken: Vec<Slot> = (0..2).filter_map(|_| slots.take().now_or_never()).collect();
            let mut beyond = vec![slots.take_beyond(), slots.take_beyond()];
            assert_eq!(free(&slots), 0);
            if beyond_goes_first {
                beyond.clear();
                assert_eq!(free(&slots), 0);
                taken.pop();
                assert_eq!(free(&slots), 1);
            } else {
                taken.clear();
                assert_eq!(free(&slots), 0);
                beyond.pop();
                assert_eq!(free(&slots), 1);
            }
            taken.clear();
            beyond.clear();
            assert_eq!(free(&slots), 2);
            let within = slots.take_beyond();
            assert_eq!(free(&slots), 1);
            drop(within);
            assert_eq!(free(&slots), 2);
        }
    }

    #[test]
    fn growing_again_forgives_what_was_to_vanish() {
        let slots = Slots::new(2);
        let taken: Vec<Slot> = (0..2).filter_map(|_| slots.take().now_or_never()).collect();
        slots.resize(1);
        slots.resize(2);
        drop(taken);
        let both: Vec<Slot> = (0..3).filter_map(|_| slots.take().now_or_never()).collect();
        assert_eq!(both.len(), 2);
    }

    #[test]
    fn numbers_are_the_smallest_free_ones() {
        let numbers = Numbers::default();
        let (a, b) = (numbers.take(1), numbers.take(2));
        assert_eq!((a.among_all, a.in_project, b.among_all, b.in_project), (0, 0, 1, 0));
        drop(a);
        let c = numbers.take(2);
        assert_eq!((c.among_all, c.in_project), (0, 1));
    }
}
