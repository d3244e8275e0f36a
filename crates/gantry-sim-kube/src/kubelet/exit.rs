//! Waiting for the end of an exec'd command from a task that may move between threads.

use std::time::Duration;

use futures::FutureExt;

use crate::container::{ExecChild, ExitStatus};

/// The first and the longest pause between two looks.
const FIRST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(50);

/// How the command ended. `ExecChild` cannot be shared between threads (its streams are not `Sync`), so a future that
/// borrows it cannot be part of a task of the multi-threaded runtime, and its own `wait` is only asked, not awaited.
/// Called when the command's output has ended, this is over after a look or two.
pub(crate) async fn ended(child: &mut ExecChild) -> ExitStatus {
    let mut pause = FIRST;
    loop {
        if let Some(status) = child.wait().now_or_never() {
            return status;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}
