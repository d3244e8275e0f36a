//! What the manager itself writes into a job's trace: the head, until the agent takes over, and the
//! last lines of a job that no agent can end. Rendered by the same code, with the same rules, as
//! all the rest.

use gantry_core::Verdict;
use gantry_plan::HeadLine;
use gantry_trace::line;
use gantry_trace::{Options, Stream, Trace};
use gantry_wire::plan::{HEAD_SECTION, TracePlan};
use jiff::Timestamp;

/// The head of a trace.
pub(crate) struct HeadLog {
    /// Absent once nothing is added any more.
    trace: Option<Trace>,
    text: Vec<u8>,
    sections: bool,
}

impl HeadLog {
    /// Renders the lines before the first section, and opens the section of the executor.
    pub(crate) fn new(plan: &TracePlan, banner: &[HeadLine], now: Timestamp) -> Self {
        let mut text = Vec::new();
        let trace = Trace::new(options(plan), "", &mut text);
        let mut log = Self { trace: Some(trace), text, sections: plan.sections };
        log.lines(banner, now);
        if log.sections {
            log.write(Stream::RunnerOut, &line::section_start(HEAD_SECTION, now.as_second()), now);
        }
        log.write(Stream::RunnerOut, &line::section_title("Preparing the \"kubernetes\" executor"), now);
        log
    }

    /// Of a trace whose head another manager has written.
    pub(crate) fn of_another() -> Self {
        Self { trace: None, text: Vec::new(), sections: false }
    }

    /// Appends lines of the plan.
    pub(crate) fn lines(&mut self, lines: &[HeadLine], now: Timestamp) {
        for head in lines {
            self.write(Stream::RunnerOut, &shown(head), now);
        }
    }

    /// Appends a line about waiting.
    pub(crate) fn waiting(&mut self, text: &str, now: Timestamp) {
        self.write(Stream::RunnerErr, &format!("{text}\n"), now);
    }

    /// Ends the trace here, without an agent.
    pub(crate) fn end(&mut self, verdict: &Verdict, now: Timestamp) {
        if self.sections {
            self.write(Stream::RunnerOut, &line::section_end(HEAD_SECTION, now.as_second()), now);
        }
        self.write(Stream::RunnerOut, &line::verdict(verdict), now);
        if let Some(mut trace) = self.trace.take() {
            trace.close(now, &mut self.text);
        }
    }

    /// The agent has the head: nothing is added any more. What finds secrets is larger than most
    /// logs, and goes.
    pub(crate) fn handed_over(&mut self) {
        self.trace = None;
        self.text.shrink_to_fit();
    }

    /// Forgets the text once all of it lies before `place`.
    pub(crate) fn forget_until(&mut self, place: u64) {
        if self.text.len() as u64 <= place {
            self.text = Vec::new();
        }
    }

    /// Everything so far. Only ever grows until it is forgotten.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }

    fn write(&mut self, stream: Stream, text: &str, now: Timestamp) {
        if let Some(trace) = &mut self.trace {
            trace.write(stream, now, text.as_bytes(), &mut self.text);
        }
    }
}

fn shown(head: &HeadLine) -> String {
    line::note(head.level, &head.text)
}

/// The last lines of a trace whose agent is gone, to be appended to what there is of it.
pub(crate) fn epilogue(plan: &TracePlan, words: &[HeadLine], verdict: &Verdict, now: Timestamp) -> Vec<u8> {
    let mut text = Vec::new();
    let mut trace = Trace::new(options(plan), "", &mut text);
    // The agent may have died in the middle of a line.
    let words: String = words.iter().map(shown).collect();
    let last = format!("\n{words}{}", line::verdict(verdict));
    trace.write(Stream::RunnerOut, now, last.as_bytes(), &mut text);
    trace.close(now, &mut text);
    text
}

fn options(plan: &TracePlan) -> Options {
    Options {
        masks: plan.masks.clone(),
        token_prefixes: plan.token_prefixes.clone(),
        timestamps: plan.timestamps,
        limit: plan.limit_bytes,
    }
}
