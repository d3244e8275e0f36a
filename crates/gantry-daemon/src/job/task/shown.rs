//! What the manager shows in the job log while somebody else may write it.

use gantry_core::{Ending, NoteLevel};
use gantry_kube::PodState;
use gantry_plan::HeadLine;
use gantry_wire::frame::{Frame, Note};
use tokio::time::Instant;

use super::Task;
use crate::moments::Moments;

impl Task {
    /// Notes when something has happened for the first time.
    pub(super) fn note(&self, moment: impl FnOnce(&mut Moments) -> &mut Option<Instant>) {
        self.around.view.send_if_modified(|view| {
            moment(&mut view.moments).get_or_insert_with(Instant::now);
            // Nobody waits for it.
            false
        });
    }

    /// The same, of the pod's node.
    pub(super) fn note_node(&self, pod_state: &PodState) {
        if pod_state.facts().is_some_and(|facts| facts.node.is_some()) {
            self.note(|moments| &mut moments.placed);
        }
    }

    /// Tells the agent how the job ends, after what the cluster has to say about it.
    pub(super) fn fail(&mut self, ending: Ending) {
        let words = std::mem::take(&mut self.outcome.final_lines);
        self.show_notes(&words);
        self.send(Frame::Fail(ending));
    }

    /// Shows why the pod does not run yet: in the head until that is handed over with the plan,
    /// then as a note of the agent. Nothing is shown behind a verdict.
    pub(super) fn show_waiting(&mut self, lines: &[String]) {
        if self.outcome.verdict.is_none() && !self.feed.say(lines) {
            self.send(Frame::Note(Note::new(NoteLevel::Plain, lines.join("\n"))));
        }
    }

    /// Shows other lines in the same places.
    pub(super) fn show_notes(&mut self, notes: &[HeadLine]) {
        if self.outcome.verdict.is_some() || self.feed.note(notes) {
            return;
        }
        for HeadLine { level, text } in notes {
            self.send(Frame::Note(Note::new(*level, text.clone())));
        }
    }
}
