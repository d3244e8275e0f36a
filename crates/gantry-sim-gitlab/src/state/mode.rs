//! What the whole instance is doing, and how many requests it takes: maintenance mode, migrations,
//! rate limits. No IO.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::clock::Now;
use crate::limits;

/// The state of the instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Normal,
    /// Read-only: whatever would change something is answered 403.
    Maintenance,
    /// The database migrates: every runner endpoint is answered 429.
    Migration,
}

impl Mode {
    /// All of them, with their words under `/sim/mode`.
    pub(crate) const ALL: [(Self, &str); 3] =
        [(Self::Normal, "normal"), (Self::Maintenance, "maintenance"), (Self::Migration, "migration")];

    pub(crate) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(mode, _)| *mode == self).map_or("normal", |(_, word)| word)
    }

    pub(crate) fn from_word(wanted: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, word)| *word == wanted).map(|(mode, _)| *mode)
    }
}

/// What is counted together for one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rated {
    JobRequest,
    LogPatch,
    JobUpdate,
}

/// Requests of the current window, by token.
#[derive(Debug)]
pub(crate) struct Rates {
    window: Instant,
    counts: HashMap<(Rated, String), u32>,
}

impl Rates {
    pub(crate) fn new(now: Now) -> Self {
        Self { window: now.at, counts: HashMap::new() }
    }

    /// Counts a request. `false` if there were `limit` of its kind and token in this window
    /// already.
    pub(crate) fn take(&mut self, what: Rated, token: &str, limit: u32, now: Now) -> bool {
        if limit == 0 || token.is_empty() {
            return true;
        }
        while now.at.duration_since(self.window) >= limits::RATE_WINDOW {
            self.counts.clear();
            let windows = now.at.duration_since(self.window).as_secs() / limits::RATE_WINDOW.as_secs();
            self.window += limits::RATE_WINDOW * u32::try_from(windows).unwrap_or(u32::MAX);
        }
        if self.counts.len() >= limits::RATE_KEYS {
            return true;
        }
        let count = self.counts.entry((what, token.to_owned())).or_default();
        *count = count.saturating_add(1);
        *count <= limit
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;

    #[tokio::test(start_paused = true)]
    async fn each_token_has_its_own_count_in_each_minute() {
        let clock = Clock::start();
        let mut rates = Rates::new(clock.now());
        let mut take = |what, token, limit| rates.take(what, token, limit, clock.now());
        assert!(take(Rated::JobUpdate, "a", 2) && take(Rated::JobUpdate, "a", 2));
        assert!(!take(Rated::JobUpdate, "a", 2));
        assert!(take(Rated::LogPatch, "a", 2) && take(Rated::JobUpdate, "b", 2), "counted apart");
        assert!(take(Rated::JobUpdate, "a", 0) && take(Rated::JobUpdate, "", 1) && take(Rated::JobUpdate, "", 1));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(!take(Rated::JobUpdate, "a", 2));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(take(Rated::JobUpdate, "a", 2));
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(take(Rated::JobUpdate, "a", 2) && take(Rated::JobUpdate, "a", 2) && !take(Rated::JobUpdate, "a", 2));
    }
}
