//! Whether only pieces of the log are refused: by something before GitLab that lets no PATCH
//! through. Then more tries bring nothing, and the state of a job need not wait for its log.

use tokio::time::Instant;

use crate::limits;

/// The evidence for it. It counts only while nothing says otherwise: pieces that are refused with a
/// 403 which says nothing of the job, and between them states that GitLab takes. Maintenance mode
/// refuses both, and a GitLab that is troubled gives other answers as well.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// When the first of the pieces was refused.
    since: Option<Instant>,
    /// GitLab has taken a state since the last piece was refused.
    state_taken: bool,
    /// Pieces that were refused behind a state that was taken.
    rounds: u32,
    is_proof: bool,
    /// Pieces that were refused while the evidence was proof and the verdict known.
    at_end: u32,
}

impl Refusals {
    /// A piece was refused with a 403 that says nothing of the job.
    pub(super) fn piece_refused(&mut self, is_ending: bool, now: Instant) {
        let since = *self.since.get_or_insert(now);
        self.rounds += u32::from(std::mem::take(&mut self.state_taken));
        self.is_proof |= self.rounds >= limits::REFUSED_ROUNDS && now - since >= limits::REFUSED_TIME;
        self.at_end += u32::from(self.is_proof && is_ending);
    }

    /// GitLab has taken a state.
    pub(super) fn state_taken(&mut self) {
        self.state_taken = self.since.is_some();
    }

    /// Anything else has happened.
    pub(super) fn begin_anew(&mut self) {
        *self = Self::default();
    }

    /// Whether only the log is refused.
    pub(super) fn are_proof(&self) -> bool {
        self.is_proof
    }

    /// Whether the state goes out without the rest of the log.
    pub(super) fn are_final(&self) -> bool {
        self.at_end >= limits::FINAL_REFUSALS
    }
}
