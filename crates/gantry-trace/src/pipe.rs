//! The stages that one stream passes, in order. Each has its own file; this one only connects them
//! and owns the buffers between them.

use std::sync::Arc;

use jiff::Timestamp;

use crate::forms::forms;
use crate::masking::Masking;
use crate::matcher::Matcher;
use crate::prefixes::Prefixes;
use crate::stamping::Stamping;
use crate::url_params::UrlParams;
use crate::utf8::Utf8;
use crate::{Options, Stream};

/// What all streams of a job share.
#[derive(Debug)]
pub(crate) struct Rules {
    phrases: Matcher,
    prefixes: Matcher,
    timestamps: bool,
}

impl Rules {
    pub(crate) fn new(options: Options) -> Self {
        let Options { masks, token_prefixes, timestamps, limit: _ } = options;
        let phrases: Vec<String> = masks.iter().flat_map(|mask| forms(mask.expose().trim())).collect();
        Self {
            phrases: Matcher::new(phrases.iter().map(String::as_bytes)),
            prefixes: Matcher::new(token_prefixes.iter().map(|prefix| prefix.trim().as_bytes())),
            timestamps,
        }
    }
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Pipe {
    rules: Arc<Rules>,
    masking: Masking,
    params: UrlParams,
    prefixes: Prefixes,
    utf8: Utf8,
    stamping: Option<Stamping>,
    masked: Vec<u8>,
    cleaned: Vec<u8>,
    shown: Vec<u8>,
    valid: Vec<u8>,
}

impl Pipe {
    pub(crate) fn new(stream: Stream, rules: &Arc<Rules>) -> Self {
        Self {
            rules: Arc::clone(rules),
            masking: Masking::default(),
            params: UrlParams::default(),
            prefixes: Prefixes::default(),
            utf8: Utf8::default(),
            stamping: rules.timestamps.then(|| Stamping::new(stream)),
            masked: Vec::new(),
            cleaned: Vec::new(),
            shown: Vec::new(),
            valid: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, now: Timestamp, bytes: &[u8], out: &mut Vec<u8>) {
        self.masking.push(&self.rules.phrases, bytes, &mut self.masked);
        self.pass(now, out);
    }

    /// From now on these rules hold, which mask all that those before did.
    pub(crate) fn change_rules(&mut self, rules: &Arc<Rules>) {
        self.rules = Arc::clone(rules);
        self.masking.search_again(&self.rules.phrases);
    }

    pub(crate) fn flush(&mut self, now: Timestamp, keep: bool, out: &mut Vec<u8>) {
        self.masking.flush(&mut self.masked);
        self.pass(now, out);
        self.params.reset();
        self.prefixes.reset();
        self.utf8.flush(&mut self.valid);
        self.stamp(now, out);
        if let Some(stamping) = &mut self.stamping {
            stamping.flush(keep, out);
        }
    }

    pub(crate) fn flush_partial(&mut self, out: &mut Vec<u8>) {
        if let Some(stamping) = &mut self.stamping {
            stamping.flush_partial(out);
        }
    }

    pub(crate) fn has_partial(&self) -> bool {
        self.stamping.as_ref().is_some_and(Stamping::has_partial)
    }

    /// Sends what masking has decided through the other stages.
    fn pass(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        self.params.push(&self.masked, &mut self.cleaned);
        self.prefixes.push(&self.rules.prefixes, &self.cleaned, &mut self.shown);
        self.utf8.push(&self.shown, &mut self.valid);
        self.masked.clear();
        self.cleaned.clear();
        self.shown.clear();
        self.stamp(now, out);
    }

    fn stamp(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        match &mut self.stamping {
            Some(stamping) => stamping.push(now, &self.valid, out),
            None => out.extend_from_slice(&self.valid),
        }
        self.valid.clear();
    }
}
