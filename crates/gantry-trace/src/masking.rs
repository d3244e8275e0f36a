//! Masked values: every byte of every occurrence of every phrase is replaced, however the text is
//! cut into writes.
//!
//! Occurrences that overlap become one `[MASKED]`. GitLab Runner 19.4 replaces phrase by phrase,
//! longest first, and so shows what is left of a value that overlaps another; where values do not
//! overlap the result is the same. Inserted text is never searched.

use gantry_core::secret::MASKED;

use crate::matcher::{Matcher, State};

/// Where a stream stands.
#[derive(Debug, Default)]
pub(crate) struct Masking {
    state: State,
    /// Bytes that are not decided yet.
    held: Held,
    /// Stretches to replace in `held`, by their place in it, in order and without overlap. The
    /// first may have begun before it.
    spans: Vec<Span>,
}

#[derive(Default)]
struct Held(Vec<u8>);

/// Shows the size only: the bytes may be the beginning of a secret.
impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
    /// `[MASKED]` stands already in the output.
    shown: bool,
}

impl Masking {
    /// Takes bytes and appends to `out` what is decided.
    pub(crate) fn push(&mut self, matcher: &Matcher, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        if matcher.pending(self.state) == 0 && self.spans.is_empty() {
            self.state = State::default();
            // Nothing is held: text before the first possible beginning passes without being looked
            // at twice.
            let start = matcher.find_start(bytes).unwrap_or(bytes.len());
            out.extend_from_slice(&bytes[..start]);
            rest = &bytes[start..];
        }
        if rest.is_empty() {
            return;
        }
        let base = self.held.0.len();
        self.held.0.extend_from_slice(rest);
        let mut at = 0;
        loop {
            if self.state == State::default() {
                at += matcher.find_start(rest.get(at..).unwrap_or_default()).unwrap_or(rest.len() - at);
            }
            let Some(byte) = rest.get(at) else { break };
            self.state = matcher.step(self.state, *byte);
            at += 1;
            let length = matcher.longest(self.state);
            if length > 0 {
                let end = base + at;
                self.add(end - length, end);
            }
            // One byte that might have begun a phrase, and did not.
            if matcher.depth(self.state) == 1 && rest.get(at).is_some_and(|next| !matcher.begins(*byte, *next)) {
                self.state = State::default();
            }
        }
        let decided = self.held.0.len() - matcher.pending(self.state);
        self.emit(decided, out);
    }

    /// Decides everything: what has begun and not ended is not a masked value.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        self.emit(self.held.0.len(), out);
        self.spans.clear();
        self.state = State::default();
    }

    /// Looks again at what is not decided yet, with phrases that contain all earlier ones.
    pub(crate) fn search_again(&mut self, matcher: &Matcher) {
        let before = std::mem::take(&mut self.spans);
        self.state = State::default();
        for at in 0..self.held.0.len() {
            let Some(byte) = self.held.0.get(at) else { break };
            self.state = matcher.step(self.state, *byte);
            let length = matcher.longest(self.state);
            if length > 0 {
                self.add(at + 1 - length, at + 1);
            }
        }
        // What was found before may have begun before what is held.
        let found = std::mem::take(&mut self.spans);
        let mut all: Vec<Span> = before.into_iter().chain(found).collect();
        all.sort_by_key(|span| (span.start, span.end));
        for span in all {
            match self.spans.last_mut().filter(|last| span.start < last.end) {
                Some(last) => {
                    last.end = last.end.max(span.end);
                    last.shown |= span.shown;
                }
                None => self.spans.push(span),
            }
        }
    }

    /// Adds an occurrence. Ends never decrease, so only the last spans can overlap it.
    fn add(&mut self, mut start: usize, end: usize) {
        let mut shown = false;
        while let Some(last) = self.spans.last() {
            if last.end <= start {
                break;
            }
            start = start.min(last.start);
            shown |= last.shown;
            self.spans.pop();
        }
        self.spans.push(Span { start, end, shown });
    }

    /// Appends what lies before `decided` and forgets it. A later occurrence can begin only at
    /// `decided` or after.
    fn emit(&mut self, decided: usize, out: &mut Vec<u8>) {
        let mut at = 0;
        let mut done = 0;
        for span in &mut self.spans {
            if span.start >= decided && !span.shown {
                break;
            }
            out.extend_from_slice(self.held.0.get(at..span.start).unwrap_or_default());
            if !span.shown {
                out.extend_from_slice(MASKED.as_bytes());
                span.shown = true;
            }
            at = span.end.min(decided);
            if span.end > decided {
                break;
            }
            done += 1;
        }
        out.extend_from_slice(self.held.0.get(at..decided).unwrap_or_default());
        self.held.0.drain(..decided);
        self.spans.drain(..done);
        for span in &mut self.spans {
            span.start = span.start.saturating_sub(decided);
            span.end -= decided;
        }
    }
}
