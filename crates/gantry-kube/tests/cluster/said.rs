//! What a test logs: all of it runs on one thread.

use std::{cell::RefCell, fmt::Debug, sync::Once};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

thread_local! {
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what is said on this thread from now on.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    // One for the process: whether a line is wanted at all is remembered for all threads at once.
    ONCE.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
    SAID.take();
}

/// Messages of level info and above on this thread with these words.
pub(crate) fn count(of: &str) -> usize {
    SAID.with_borrow(|said| said.iter().filter(|message| message.contains(of)).count())
}

struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= &Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Words);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Words;

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            SAID.with_borrow_mut(|said| said.push(format!("{value:?}")));
        }
    }
}
