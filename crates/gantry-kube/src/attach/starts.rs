//! When a try of an exec pays: learned from how long earlier pods took from their node to a working
//! exec.
//!
//! No status says when a container can be reached, and each try is an audited request. So pods of a
//! kind that has been seen before are first tried shortly before the quickest of them could be
//! reached, then densely as long as they took, then ever more rarely. Those of an unknown kind are
//! tried from the start on, or from when fewer of them at once could be reached, with growing
//! pauses: the more pods share the node, the longer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::limits;

/// Pods that take about the same time to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// The node: each has its own speed.
    pub(crate) node: String,
    /// The image of the helper container: one that is not there has to be pulled.
    pub(crate) image: String,
    /// How many pods start at once, as a power of two: they share the node.
    crowd: u32,
}

impl Kind {
    /// Of a pod that is one of `crowd` that start.
    pub(crate) fn new(node: &str, image: &str, crowd: usize) -> Self {
        Self { node: node.to_owned(), image: image.to_owned(), crowd: crowd.max(1).ilog2() }
    }

    /// Starts to remember.
    fn remembered(&self) -> usize {
        limits::STARTS_OF_KIND + 4 * usize::try_from(self.crowd).unwrap_or(0)
    }

    /// Whether more pods start now than when it was made, or looked at last, by so many that it is
    /// another kind.
    pub(crate) fn grows(&mut self, crowd: usize) -> bool {
        let crowd = crowd.max(1).ilog2();
        let grows = crowd > self.crowd;
        self.crowd = self.crowd.max(crowd);
        grows
    }
}

/// How long pods took, by their kind. The kind that was heard of last comes last.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    kinds: Mutex<VecDeque<(Kind, VecDeque<Duration>)>>,
    starting: AtomicUsize,
}

/// A pod that starts, until this is dropped.
#[derive(Debug)]
pub(crate) struct Starting<'a>(&'a Starts);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.starting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Starts {
    /// One more pod starts.
    pub(crate) fn begin(&self) -> Starting<'_> {
        self.starting.fetch_add(1, Ordering::Relaxed);
        Starting(self)
    }

    /// How many pods start now.
    pub(crate) fn crowd(&self) -> usize {
        self.starting.load(Ordering::Relaxed)
    }

    /// When to try a pod of this kind.
    pub(crate) fn pace(&self, kind: &Kind) -> Pace {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |kind: &Kind| kinds.iter().find(|(known, _)| known == kind).and_then(|(_, took)| usual(took));
        if let Some((quickest, slowest)) = known(kind) {
            return Pace::learned(quickest, slowest);
        }
        // Pods that share their node with more others are not quicker.
        let fewer = (0..kind.crowd).rev().find_map(|crowd| known(&Kind { crowd, ..kind.clone() }));
        Pace::unknown(fewer.map(|(quickest, _)| quickest).unwrap_or_default(), kind.crowd)
    }

    /// A pod of this kind could be reached so long after it had its node, at the `tries`-th try.
    pub(crate) fn learn(&self, kind: Kind, mut took: Duration, tries: u32) {
        if tries == 1 {
            // It might have been reached earlier, and the next one will show that.
            took = took.saturating_sub(limits::ATTACH_EARLIER.max(took / 8));
        }
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kinds.iter().position(|(known, _)| *known == kind);
        let mut entry = known.and_then(|place| kinds.remove(place)).unwrap_or_else(|| (kind, VecDeque::new()));
        if entry.1.len() >= entry.0.remembered() {
            entry.1.pop_front();
        }
        entry.1.push_back(took);
        if kinds.len() >= limits::KINDS_OF_STARTS {
            kinds.pop_front();
        }
        kinds.push_back(entry);
    }
}

/// The quickest and the slowest start but for accidents.
fn usual(took: &VecDeque<Duration>) -> Option<(Duration, Duration)> {
    let mut sorted: Vec<Duration> = took.iter().copied().collect();
    sorted.sort_unstable();
    let accidents = sorted.len() / 8;
    Some((*sorted.get(accidents)?, *sorted.iter().rev().nth(accidents)?))
}

/// The tries of one pod.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// From the node to the first try.
    pub(crate) first: Duration,
    /// Between two tries, for so long after the node.
    dense: Option<(Duration, Duration)>,
    /// From then on, growing.
    pause: Duration,
    /// Whether any news of the pod is a reason to try at once: where many start, each has some.
    follows_news: bool,
}

impl Pace {
    /// Nothing is known of one pod: at once, and then with growing pauses.
    pub(crate) fn unknown_alone() -> Self {
        Self::unknown(Duration::ZERO, 0)
    }

    /// Nothing is known of so many at once (as a power of two), but that none is quicker than this.
    fn unknown(quickest: Duration, crowd: u32) -> Self {
        let pause = limits::ATTACH_FIRST.saturating_mul(2_u32.saturating_pow(crowd)).min(limits::ATTACH_MOST);
        let first = quickest.saturating_sub(limits::ATTACH_EARLIER);
        Self { first, dense: None, pause, follows_news: crowd == 0 }
    }

    fn learned(quickest: Duration, slowest: Duration) -> Self {
        let first = quickest.saturating_sub(limits::ATTACH_EARLIER);
        let step = (slowest.saturating_sub(first) / limits::ATTACH_DENSE_TRIES)
            .clamp(limits::ATTACH_DENSEST, limits::ATTACH_SPARSEST);
        Self { first, dense: Some((step, slowest)), pause: step, follows_news: true }
    }

    /// Begins again with short pauses, unless it is known when to try, or too many start.
    pub(crate) fn restart(&mut self, since: Duration) -> bool {
        let is_known = self.dense.is_some_and(|(_, until)| since <= until);
        let restarts = self.follows_news && !is_known;
        if restarts {
            self.pause = limits::ATTACH_FIRST;
        }
        restarts
    }

    /// The pause after a try, `since` the pod had its node.
    pub(crate) fn next(&mut self, since: Duration) -> Duration {
        if let Some((step, until)) = self.dense
            && since <= until
        {
            return step;
        }
        let pause = self.pause;
        self.pause = (pause * limits::ATTACH_GROWTH_PERCENT / 100).min(limits::ATTACH_MOST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Starts a pod that can be reached after `ready`, where a try takes 10 ms: how many tries, and
    /// how late.
    fn start(starts: &Starts, ready: u64, others: usize) -> (u32, u128) {
        let kind = Kind::new("node", "helper", others + 1);
        let mut pace = starts.pace(&kind);
        let (mut now, mut tries) = (pace.first, 1);
        while now < milliseconds(ready) {
            now += milliseconds(10);
            now += pace.next(now);
            tries += 1;
        }
        starts.learn(kind, now, tries);
        (tries, now.saturating_sub(milliseconds(ready)).as_millis())
    }

    #[test]
    fn few_tries_and_little_delay_once_a_cluster_is_known() {
        let starts = Starts::default();
        let (tries, late) = start(&starts, 550, 0);
        assert!(tries > 5 && late < 300, "{tries} {late}");
        let later: Vec<(u32, u128)> = (0..30).map(|job| start(&starts, 550 + job * 7 % 40, 0)).collect();
        for (tries, late) in &later[8..] {
            assert!(*tries <= 5 && *late <= 30, "{later:?}");
        }
        // A cluster that has become quicker is noticed.
        let quicker: Vec<(u32, u128)> = (0..20).map(|_| start(&starts, 300, 0)).collect();
        assert!(quicker[19].1 <= 40, "{quicker:?}");
        // One that has become slower too.
        let slower: Vec<(u32, u128)> = (0..30).map(|_| start(&starts, 2000, 0)).collect();
        assert!(slower[29].0 <= 5 && slower[29].1 <= 30, "{slower:?}");
    }

    #[test]
    fn the_first_crowd_costs_few_tries() {
        let starts = Starts::default();
        for _ in 0..5 {
            start(&starts, 500, 0);
        }
        let kind = Kind::new("node", "helper", 20);
        for ready in (1_000..9_000).step_by(400) {
            // Each of them is the first.
            let mut pace = starts.pace(&kind);
            let (mut now, mut tries) = (pace.first, 1);
            while now < milliseconds(ready) {
                now += pace.next(now);
                tries += 1;
                assert!(!pace.restart(now), "{ready}");
            }
            assert!(tries <= 7 && now <= milliseconds(ready + 2_000), "{ready}: {tries} {now:?}");
        }
        // One alone, of an image that nobody has seen, is tried whenever there is news.
        let mut alone = starts.pace(&Kind::new("node", "other", 1));
        assert!(alone.first.is_zero() && alone.restart(Duration::ZERO));
    }

    #[test]
    fn many_at_once_are_another_kind() {
        let starts = Starts::default();
        for _ in 0..3 {
            start(&starts, 500, 0);
        }
        for pod in 0..40 {
            start(&starts, 3000 + pod * 150, 19);
        }
        let tries: Vec<u32> = (0..20).map(|pod| start(&starts, 3000 + pod * 290, 19).0).collect();
        assert!(tries.iter().all(|tries| *tries < 7), "{tries:?}");
        assert!(start(&starts, 500, 0).1 <= 50);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let starts = Starts::default();
        for pod in 0..10_000 {
            let kind = Kind::new(&format!("node-{}", pod % 1000), "helper", 1);
            starts.learn(kind, milliseconds(1), 2);
        }
        let kinds = starts.kinds.lock().unwrap();
        assert_eq!(kinds.len(), limits::KINDS_OF_STARTS);
        assert!(kinds.iter().all(|(kind, took)| took.len() <= kind.remembered()));
    }
}
