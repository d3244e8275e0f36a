//! What really happened in a world, written down by those who made it happen: the other side of
//! every invariant.

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

/// Requests that are farther apart are no tries of one thing.
const TRIES_APART: Duration = Duration::from_secs(60);

/// The facts about one job.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Every pod that was asked for.
    pub(crate) pods: Vec<String>,
    /// Every script that was started: pod and stage.
    pub(crate) starts: Vec<(String, String)>,
    /// Every try of a stage in a helper container: pod, stage, attempt.
    pub(crate) tries: Vec<(String, String, u32)>,
    /// How scripts ended.
    pub(crate) ends: Vec<(String, i32)>,
    /// Those that did not end by themselves.
    pub(crate) stopped: BTreeSet<String>,
    /// Fetching the sources succeeded.
    pub(crate) fetched: bool,
    pub(crate) harms: BTreeSet<Harm>,
    /// When GitLab got a piece of its log, or its end, and from whom.
    pub(crate) reports: Vec<(Instant, Arc<str>)>,
    /// GitLab has heard that it runs.
    is_acknowledged: bool,
    /// When the first and the last of the requests about it were sent that did not get there, one
    /// soon after the other.
    unheard_since: Option<(Instant, Instant)>,
    /// For how long that was so at most, before GitLab heard that it runs.
    pub(crate) unheard: Duration,
    /// The trace as the agent had it when it ended.
    pub(crate) trace: Option<Vec<u8>>,
}

impl Facts {
    /// Notes that a request about it is sent to GitLab, and whether it gets there, and says that
    /// the job runs.
    pub(crate) fn asked_gitlab(&mut self, got_there: bool, acknowledges: bool) {
        let now = Instant::now();
        self.is_acknowledged |= got_there && acknowledges;
        if got_there || self.is_acknowledged {
            self.unheard_since = None;
            return;
        }
        let is_soon = |(_, last): &(Instant, Instant)| now - *last <= TRIES_APART;
        let first = self.unheard_since.filter(is_soon).map_or(now, |(first, _)| first);
        self.unheard_since = Some((first, now));
        self.unheard = self.unheard.max(now - first);
    }
}

/// The facts about a whole world.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) jobs: BTreeMap<u64, Facts>,
    /// From when until when managers lived, by their names. One that stands still does not.
    lives: BTreeMap<String, Vec<(Instant, Option<Instant>)>>,
    /// When a manager was killed or told to leave for the first time.
    managers_lost: Option<Instant>,
    /// When a manager was killed for the first time.
    managers_killed: Option<Instant>,
    /// When GitLab could not be reached, or did not answer as it should, for the first time.
    gitlab_trouble: Option<Instant>,
    /// When it was slow for the first time.
    gitlab_slow: Option<Instant>,
    /// From when and for how long it could not be reached at all.
    gitlab_away: Vec<(Instant, Duration)>,
    /// When the API server could not be reached, or did not answer as it should, or a connection
    /// through it did not last, for the first time.
    api_trouble: Option<Instant>,
    /// Pods cannot reach GitLab.
    pods_are_blind: bool,
    /// Agents speak the first version of the protocol, which knows no claims: the newest connection
    /// wins.
    is_first_version: bool,
    /// What must never be, seen while it happened.
    pub(crate) wrong: Vec<String>,
}

impl Book {
    /// Notes what holds in this world from its beginning.
    pub(crate) fn world_is(&mut self, pods_are_blind: bool, is_first_version: bool) {
        (self.pods_are_blind, self.is_first_version) = (pods_are_blind, is_first_version);
    }

    /// Notes that a manager lives from now on.
    pub(crate) fn manager_lives(&mut self, name: &str) {
        self.lives.entry(name.to_owned()).or_default().push((Instant::now(), None));
    }

    /// Notes that a manager lives no more, or stands still.
    pub(crate) fn manager_rests(&mut self, name: &str) {
        if let Some((_, until @ None)) = self.lives.get_mut(name).and_then(|lives| lives.last_mut()) {
            *until = Some(Instant::now());
        }
    }

    /// For how long a manager has lived at most, between two moments.
    pub(crate) fn longest_life(&self, after: Instant, before: Instant) -> Duration {
        let length = |(from, until): &(Instant, Option<Instant>)| {
            until.unwrap_or(before).min(before).saturating_duration_since((*from).max(after))
        };
        self.lives.values().flatten().map(length).max().unwrap_or_default()
    }

    /// Notes that a manager is told to leave now.
    pub(crate) fn manager_leaves(&mut self) {
        self.managers_lost.get_or_insert_with(Instant::now);
    }

    /// Notes that a manager is killed now.
    pub(crate) fn manager_killed(&mut self) {
        self.manager_leaves();
        self.managers_killed.get_or_insert_with(Instant::now);
    }

    /// Notes that a manager stands still from now on, for a while. GitLab and the API server may
    /// then hear nothing of its jobs.
    pub(crate) fn manager_frozen(&mut self) {
        self.manager_killed();
    }

    /// Notes that GitLab does not do as it should.
    pub(crate) fn gitlab_trouble(&mut self) {
        self.gitlab_trouble.get_or_insert_with(Instant::now);
    }

    /// Notes that every answer of GitLab takes seconds for a while.
    pub(crate) fn gitlab_slow(&mut self) {
        self.gitlab_slow.get_or_insert_with(Instant::now);
    }

    /// Notes that GitLab cannot be reached for a while.
    pub(crate) fn gitlab_away(&mut self, time: Duration) {
        self.gitlab_trouble();
        self.gitlab_away.push((Instant::now(), time));
    }

    /// Notes that the API server does not do as it should.
    pub(crate) fn api_trouble(&mut self) {
        self.api_trouble.get_or_insert_with(Instant::now);
    }

    /// What had gone wrong around everybody until then; altogether if there is no such time.
    pub(crate) fn troubles(&self, until: Option<Instant>) -> Troubles {
        let had = |first: Option<Instant>| first.is_some_and(|first| until.is_none_or(|until| first <= until));
        let away = self.gitlab_away.iter().filter(|(begun, _)| had(Some(*begun)));
        Troubles {
            manager_lost: had(self.managers_lost),
            manager_killed: had(self.managers_killed),
            gitlab: had(self.gitlab_trouble),
            gitlab_slow: had(self.gitlab_slow),
            gitlab_away: away.map(|(_, time)| *time).sum(),
            api: had(self.api_trouble),
            pods_are_blind: self.pods_are_blind,
            is_first_version: self.is_first_version,
        }
    }
}

/// What excuses an end that a job alone would not have come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Troubles {
    /// A manager was killed or told to leave.
    pub(crate) manager_lost: bool,
    /// A manager was killed.
    pub(crate) manager_killed: bool,
    /// GitLab could not be reached, or did not answer as it should.
    pub(crate) gitlab: bool,
    /// Its answers took seconds, which is longer than a manager has that leaves.
    pub(crate) gitlab_slow: bool,
    /// How long it could not be reached at all, summed up.
    pub(crate) gitlab_away: Duration,
    /// The API server could not be reached or did not answer as it should, or a connection through
    /// it did not last.
    pub(crate) api: bool,
    /// Pods cannot reach GitLab: nobody speaks for a job while there is no manager.
    pub(crate) pods_are_blind: bool,
    /// Agents of the first version let two managers relay that both believe in their right.
    pub(crate) is_first_version: bool,
}

/// Shared by everything in a world.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    book: Arc<Mutex<Book>>,
    /// When the world began.
    pub(crate) begun: Instant,
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
