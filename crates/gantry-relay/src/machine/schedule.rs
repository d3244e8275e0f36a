//! When things are due. The interval that GitLab asks for bundles small pieces of a trace; three
//! kinds of output do not wait for it: a full piece, the end of a job, and, as long as their
//! allowances last, what comes after a silence or begins a section.

use std::time::Duration;

use tokio::time::Instant;

use crate::allowance::Allowance;
use crate::limits;

/// What a section of the log begins with, behind the time stamp of its line (GitLab's
/// `section_start:<time>:<name>`).
const SECTION: &[u8] = b"section_start:";

/// When the requests of a relay are due.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The next piece by the interval.
    patch: Instant,
    /// The next piece, where output must not wait so long.
    early: Option<Instant>,
    pub(super) keep_alive: Instant,
    /// When the answer to the request under way is given up.
    pub(super) answer_by: Instant,
    /// GitLab was asked how the job stands since it has taken something last, or since this process
    /// woke.
    pub(super) asked_at_waking: bool,
    /// The next try of the terminal state after "not yet".
    pub(super) put: Option<Instant>,
    pub(super) retry: Option<Instant>,
    /// What the caller was asked for, and when it is asked again.
    pub(super) want: Option<(u64, Instant)>,
    pub(super) failures: u32,
    pub(super) mismatches: u32,
    /// When the last request failed, if that was a PATCH.
    pub(super) patch_failed: Option<Instant>,
    /// When output came last.
    heard: Option<Instant>,
    patches: Allowance,
    after_silence: Allowance,
    new_section: Allowance,
}

impl Schedule {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            patch: now,
            early: None,
            // The first silent tick says something, as in the reference.
            keep_alive: now + interval,
            answer_by: now,
            asked_at_waking: false,
            put: None,
            retry: None,
            want: None,
            failures: 0,
            mismatches: 0,
            patch_failed: None,
            heard: None,
            patches: Allowance::new(limits::PATCHES, now),
            after_silence: Allowance::new(limits::AFTER_SILENCE, now),
            new_section: Allowance::new(limits::NEW_SECTION, now),
        }
    }

    /// A request is over. One that has taken much longer than it may has slept with this process.
    pub(super) fn request_ends(&mut self, now: Instant) {
        self.asked_at_waking &= now < self.answer_by + limits::SLEPT;
    }

    /// This process has slept, and the job may have ended meanwhile: GitLab is asked once before it
    /// gets more of the log.
    pub(super) fn wakes(&self, now: Instant) -> bool {
        !self.asked_at_waking && now >= self.keep_alive + limits::SLEPT
    }

    /// When the next piece may go out; if `at_once`, the interval does not count.
    pub(super) fn patch_due(&self, at_once: bool) -> Instant {
        let allowed = self.patches.next();
        if at_once { allowed } else { allowed.max(self.wanted()) }
    }

    /// When the next piece should go out, by the interval or earlier.
    fn wanted(&self) -> Instant {
        self.early.map_or(self.patch, |early| early.min(self.patch))
    }

    /// A piece goes out, with all that has come so far. What comes from now on waits for the next
    /// one.
    pub(super) fn patch_begins(&mut self, interval: Duration, now: Instant) {
        self.patches.take(now);
        self.patch = now + interval;
        self.early = None;
    }

    /// GitLab has answered a piece, and taken it or not: what is due has to be decided anew.
    pub(super) fn patch_ends(&mut self, now: Instant) {
        self.patch = now;
    }

    /// GitLab asks for this interval until the next piece.
    pub(super) fn patch_after(&mut self, interval: Duration, now: Instant) {
        self.patch = now + interval;
    }

    /// The verdict is there. What is still missing of the log is waited for no longer than this.
    pub(super) fn end_begins(&mut self, interval: Duration, now: Instant) {
        self.patch = self.patch.min(now + interval);
    }

    /// New output is there.
    pub(super) fn output_came(&mut self, section: bool, interval: Duration, now: Instant) {
        let silent = self.heard.replace(now).is_none_or(|heard| now - heard >= limits::SILENCE);
        if silent {
            self.hasten(now + limits::COLLECT, now, |schedule| &mut schedule.after_silence);
        }
        if section {
            let collect = if is_watched(interval) { limits::COLLECT } else { limits::COLLECT_UNWATCHED };
            self.hasten(now + collect, now, |schedule| &mut schedule.new_section);
        }
    }

    /// Moves the next piece to `early`, unless it is due by then anyway or the allowance is used
    /// up.
    fn hasten(&mut self, early: Instant, now: Instant, allowance: impl FnOnce(&mut Self) -> &mut Allowance) {
        if early < self.wanted() && allowance(self).try_take(now) {
            self.early = Some(early);
        }
    }
}

/// Whether a piece of the trace begins a section. One that is cut in the middle of the word is
/// missed, and waits for the interval.
pub(super) fn begins_section(bytes: &[u8]) -> bool {
    bytes.windows(SECTION.len()).any(|window| window == SECTION)
}

/// Silence after which GitLab hears from a job, where `usual` is meant for jobs that nobody
/// watches.
pub(super) fn keep_alive(usual: Duration, interval: Duration) -> Duration {
    if is_watched(interval) { usual.min(limits::KEEP_ALIVE_WATCHED) } else { usual }
}

/// Whether somebody watches the log, by the interval that GitLab asks for.
fn is_watched(interval: Duration) -> bool {
    interval <= limits::WATCHED_INTERVAL
}
