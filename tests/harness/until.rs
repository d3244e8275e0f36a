//! Waiting for a condition, with a bound. The only place of the harness that lets time pass.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Pauses between two looks: quick at first, then gentle to the machine that the product has to
/// share.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// What a look showed: the thing that was waited for, or what there was instead.
pub type Look<T> = Result<T, String>;

/// Looks until the thing is there.
///
/// # Errors
/// The bound passed (the message has what was seen last), or looking itself failed.
pub async fn until<T>(
    what: &str,
    bound: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Look<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + bound;
    let mut pause = FIRST_PAUSE;
    loop {
        let seen = match look().await? {
            Ok(found) => return Ok(found),
            Err(seen) => seen,
        };
        if Instant::now() >= deadline {
            anyhow::bail!("not in {} s: {what}; last seen: {seen}", bound.as_secs_f32());
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}
