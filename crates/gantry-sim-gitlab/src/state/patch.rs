//! How `PATCH jobs/<id>/trace` is judged (GitLab server, `AppendBuildTraceService`). Pure, apart
//! from the job it changes.

use std::time::Duration;

use super::job::{Breach, Job};
use super::trace::Append;
use crate::clock::Now;
use crate::config::Timing;

/// What a PATCH brings.
#[derive(Debug)]
pub(crate) struct Chunk<'a> {
    /// `Content-Range`.
    pub(crate) range: Option<&'a str>,
    pub(crate) body: &'a [u8],
    /// Largest log.
    pub(crate) limit: u64,
}

/// The answer to a PATCH.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PatchAnswer {
    pub(crate) code: u16,
    /// Whether `Job-Status` is sent: only when the chunk was stored, or because of that status it
    /// was not.
    pub(crate) shows_status: bool,
    /// The stored size for `Range: 0-<size>`.
    pub(crate) size: Option<u64>,
    /// `X-GitLab-Trace-Update-Interval` in seconds.
    pub(crate) interval: Option<u64>,
    pub(crate) breach: Option<Breach>,
}

impl PatchAnswer {
    fn plain(code: u16, breach: Option<Breach>) -> Self {
        Self { code, shows_status: false, size: None, interval: None, breach }
    }
}

impl Job {
    /// Judges and applies one PATCH whose token was right.
    pub(crate) fn patch(&mut self, chunk: &Chunk<'_>, now: Now, timing: &Timing) -> PatchAnswer {
        let body = chunk.body;
        if self.token_expired(now) {
            return PatchAnswer { shows_status: true, ..PatchAnswer::plain(403, None) };
        }
        if !self.status.is_processing() {
            let breach = self.patch_out_of_turn(chunk.range, body);
            return PatchAnswer { shows_status: true, ..PatchAnswer::plain(403, breach) };
        }
        let Some(range) = chunk.range else {
            return PatchAnswer::plain(400, Some(Breach::new("content range", "PATCH without Content-Range")));
        };
        self.hear(now, timing);
        if self.log_is_locked(now) {
            return PatchAnswer::plain(409, None);
        }
        let (start, mut breach) = first_byte(range, body.len());
        let size = match self.trace.append(start, body, chunk.limit) {
            Append::TooLarge => {
                self.fail("trace_size_exceeded", now);
                return PatchAnswer::plain(403, breach);
            }
            Append::WrongOffset => {
                return PatchAnswer { size: Some(self.trace.len()), ..PatchAnswer::plain(416, breach) };
            }
            Append::Repeated { differs } => {
                if differs {
                    breach = Some(Breach::new("log rewritten", format!("other bytes than before from offset {start}")));
                }
                self.trace.len()
            }
            Append::Stored => {
                self.log_live_until = Some(now.at + timing.log_flush);
                self.trace.len()
            }
        };
        self.log_locked_until = Some(now.at + timing.log_write);
        let interval =
            if self.is_watched(now, timing) { timing.trace_interval_watched } else { timing.trace_interval_idle };
        PatchAnswer { code: 202, shows_status: true, size: Some(size), interval: Some(whole_seconds(interval)), breach }
    }

    /// A late PATCH is the runner's fault only if the runner itself decides the order: before its
    /// acknowledgement, or after its own verdict. After a cancel it may simply not know yet. A
    /// repeat of stored bytes may have been on its way when its connection broke, and be overtaken
    /// by what the runner sent on the next one.
    fn patch_out_of_turn(&self, range: Option<&str>, body: &[u8]) -> Option<Breach> {
        if self.is_waiting() {
            return Some(Breach::new("log before acknowledgement", format!("{} bytes", body.len())));
        }
        let is_stored = range.is_some_and(|range| self.trace.has(first_byte(range, body.len()).0, body));
        let verdict = self.reported.as_ref().filter(|_| !body.is_empty() && !is_stored)?;
        Some(Breach::new("log after verdict", format!("{} bytes after {verdict}", body.len())))
    }
}

/// The first byte's offset, read as leniently as the server does (digits up to the `-`, else 0),
/// and what is wrong with the header: the form is `<first>-<last>`, inclusive, without unit (GitLab
/// Runner 19.4).
fn first_byte(range: &str, length: usize) -> (u64, Option<Breach>) {
    let digits: String = range.trim_start().chars().take_while(char::is_ascii_digit).collect();
    let start = digits.parse::<u64>().unwrap_or(0);
    let last = start.saturating_add(length as u64).saturating_sub(1);
    let right = length == 0 || range == format!("{start}-{last}");
    let breach = (!right)
        .then(|| Breach::new("content range", format!("{range:?} with {length} bytes; {start}-{last} is right")));
    (start, breach)
}

/// At least one second: the header is a whole number and clients ignore 0.
fn whole_seconds(interval: Duration) -> u64 {
    interval.as_secs().max(1)
}
