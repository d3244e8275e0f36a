//! What the relay says.

use gantry_relay::Report;
use gantry_wire::frame::{Frame, Offset};

use super::Task;
use crate::events::{Said as _, TraceAhead, TraceDiverged, UpdatesRefused};
use crate::job::events::Event;

impl Task {
    pub(super) fn report(&mut self, report: Report) {
        match report {
            Report::Acked(offset) => self.send(Frame::Acked(Offset { offset })),
            Report::CancelRequested => {
                self.end_visits();
                self.step(Event::CancelRequested);
            }
            Report::WantFrom(offset) => match self.link.as_mut().filter(|link| link.follows) {
                Some(link) => link.send(Frame::Follow(Offset { offset })),
                None => self.feed.want(offset),
            },
            Report::Ahead { server, ours } => TraceAhead { server, ours }.say(),
            Report::Diverged { server, ours } => TraceDiverged { server, ours }.say(),
            Report::Trouble(message) => UpdatesRefused(message.as_deref()).say(),
        }
    }
}
