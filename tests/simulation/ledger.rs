//! What really happened in a world, written down by those who made it happen: the other side of every invariant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Something that ends or changes a job and is nobody's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Harm {
    PodDeleted,
    Evicted,
    HelperKilled,
    BuildKilled,
    OutOfMemory,
    Canceled,
}

/// The facts about one job.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Every pod that was asked for.
    pub(crate) pods: Vec<String>,
    /// Every script that was started: pod and stage.
    pub(crate) starts: Vec<(String, String)>,
    /// Every try of a stage in a helper container: pod, stage, attempt.
    pub(crate) tries: Vec<(String, String, u32)>,
    /// How scripts ended that ended by themselves.
    pub(crate) ends: Vec<(String, i32)>,
    /// Fetching the sources succeeded.
    pub(crate) fetched: bool,
    pub(crate) harms: BTreeSet<Harm>,
    /// The trace as the agent had it when it ended.
    pub(crate) trace: Option<Vec<u8>>,
}

/// The facts about a whole world.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) jobs: BTreeMap<u64, Facts>,
    /// When managers were killed or told to leave.
    pub(crate) managers_lost: Vec<Instant>,
    /// GitLab could not be reached, or did not answer as it should.
    pub(crate) gitlab_trouble: bool,
    /// How long it could not be reached at all, summed up.
    pub(crate) gitlab_away: Duration,
    /// The API server could not be reached, or did not answer as it should; or a connection through it did not last.
    pub(crate) api_trouble: bool,
    /// What must never be, seen while it happened.
    pub(crate) wrong: Vec<String>,
}

/// Shared by everything in a world.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    book: Arc<Mutex<Book>>,
    begun: Instant,
    tells: bool,
}

impl Ledger {
    /// An empty one. `tells` prints what happens, for people who look for a cause.
    pub(crate) fn new(tells: bool) -> Self {
        Self { book: Arc::default(), begun: Instant::now(), tells }
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the facts about a job.
    pub(crate) fn of<T>(&self, job: u64, change: impl FnOnce(&mut Facts) -> T) -> T {
        change(self.book().jobs.entry(job).or_default())
    }

    /// Tells what happens.
    pub(crate) fn tell(&self, line: impl FnOnce() -> String) {
        if self.tells {
            println!("{:>10.3} {}", self.begun.elapsed().as_secs_f64(), line());
        }
    }

    /// Notes something that must never be.
    pub(crate) fn wrong(&self, what: String) {
        self.tell(|| format!("WRONG: {what}"));
        self.book().wrong.push(what);
    }
}
