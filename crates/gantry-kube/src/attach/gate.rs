//! How many execs may be opened at once and how fast new ones are tried, for all pods of one
//! cluster together: each is an audited request and a connection from the API server to a kubelet.

use std::sync::{Mutex, PoisonError};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep_until},
};

use crate::limits;

/// A token bucket before a bounded number of places.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Semaphore,
    /// When the bucket is full again: each passage moves it on by [`limits::EXEC_REFILL`].
    full_at: Mutex<Option<Instant>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { places: Semaphore::new(limits::OPENING), full_at: Mutex::new(None) }
    }
}

impl Gate {
    /// Waits for a token and a place. The place is held until the returned permit is dropped;
    /// `None` cannot happen while the gate lives.
    pub(crate) async fn pass(&self) -> Option<SemaphorePermit<'_>> {
        sleep_until(self.take_token(Instant::now())).await;
        self.places.acquire().await.ok()
    }

    /// When the token that is taken now may be used.
    fn take_token(&self, now: Instant) -> Instant {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full = full_at.map_or(now, |at| at.max(now)) + limits::EXEC_REFILL;
        *full_at = Some(full);
        let burst = limits::EXEC_REFILL * limits::EXEC_BURST;
        full.checked_sub(burst).map_or(now, |at| at.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let gate = Gate::default();
        let start = Instant::now();
        for _ in 0..limits::EXEC_BURST {
            drop(gate.pass().await);
        }
        assert_eq!(start.elapsed(), std::time::Duration::ZERO);
        for _ in 0..50 {
            drop(gate.pass().await);
        }
        assert!(start.elapsed() >= limits::EXEC_REFILL * 50 && start.elapsed() < limits::EXEC_REFILL * 60);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_open_at_once() {
        let gate = Gate::default();
        let mut held = Vec::new();
        for _ in 0..limits::OPENING {
            held.push(gate.pass().await);
        }
        let next = tokio::time::timeout(limits::UPGRADE, gate.pass()).await;
        assert!(next.is_err());
        held.pop();
        assert!(gate.pass().await.is_some());
    }
}
