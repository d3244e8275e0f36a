//! Panics of tasks, which their runtime would swallow: nothing of the product may panic, so each of
//! them is a failure of its world.

use std::cell::RefCell;

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Takes note of panics from now on.
pub(crate) fn watch() {
    std::panic::set_hook(Box::new(|info| {
        SEEN.with_borrow_mut(|seen| seen.push(format!("a panic: {info}")));
    }));
}

/// Those of this thread since the last call.
pub(crate) fn take() -> Vec<String> {
    SEEN.take()
}
