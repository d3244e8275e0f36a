//! Counts log lines by level, for `gitlab_runner_errors_total`: one process, one count, so the
//! numbers are process-wide.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

static ERRORS: AtomicU64 = AtomicU64::new(0);
static WARNINGS: AtomicU64 = AtomicU64::new(0);

/// A layer that counts and shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountLines;

impl<S: Subscriber> Layer<S> for CountLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        match *event.metadata().level() {
            Level::ERROR => ERRORS.fetch_add(1, Ordering::Relaxed),
            Level::WARN => WARNINGS.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

/// Lines so far, by the level's word in the metric.
pub(crate) fn counts() -> [(&'static str, u64); 4] {
    let (errors, warnings) = (ERRORS.load(Ordering::Relaxed), WARNINGS.load(Ordering::Relaxed));
    [("panic", 0), ("fatal", 0), ("error", errors), ("warning", warnings)]
}
