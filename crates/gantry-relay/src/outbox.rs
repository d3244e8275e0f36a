//! Reports that were not yet read. They are levels, so a newer one replaces an older one: bounded
//! however slowly the caller reads.

use crate::report::Report;

/// At most one report of each kind.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    want: Option<u64>,
    acked: Option<u64>,
    cancel: bool,
    ahead: Option<(u64, u64)>,
    diverged: Option<(u64, u64)>,
    trouble: Option<Report>,
}

impl Outbox {
    pub(crate) fn put(&mut self, report: Report) {
        match report {
            Report::Acked(place) => self.acked = Some(place),
            Report::CancelRequested => self.cancel = true,
            Report::WantFrom(place) => {
                self.want = Some(place);
                // A confirmation of bytes that are asked for again is no longer true.
                self.acked = self.acked.filter(|acked| *acked <= place);
            }
            Report::Ahead { server, ours } => self.ahead = Some((server, ours)),
            Report::Diverged { server, ours } => self.diverged = Some((server, ours)),
            trouble @ Report::Trouble(_) => self.trouble = Some(trouble),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let is_silent = self.ahead.is_none() && self.diverged.is_none() && self.trouble.is_none();
        is_silent && self.want.is_none() && self.acked.is_none() && !self.cancel
    }

    /// The most urgent one.
    pub(crate) fn take(&mut self) -> Option<Report> {
        if std::mem::take(&mut self.cancel) {
            return Some(Report::CancelRequested);
        }
        let want = self.want.take().map(Report::WantFrom);
        want.or_else(|| self.diverged.take().map(|(server, ours)| Report::Diverged { server, ours }))
            .or_else(|| self.ahead.take().map(|(server, ours)| Report::Ahead { server, ours }))
            .or_else(|| self.acked.take().map(Report::Acked))
            .or_else(|| self.trouble.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_levels_replace_older_ones() {
        let mut outbox = Outbox::default();
        for report in [Report::Acked(3), Report::Acked(9), Report::CancelRequested, Report::CancelRequested] {
            outbox.put(report);
        }
        assert_eq!(
            (outbox.take(), outbox.take(), outbox.take()),
            (Some(Report::CancelRequested), Some(Report::Acked(9)), None)
        );
        outbox.put(Report::Acked(9));
        outbox.put(Report::WantFrom(0));
        assert_eq!((outbox.take(), outbox.take()), (Some(Report::WantFrom(0)), None));
        assert!(outbox.is_empty());
    }
}
