//! The one place where the daemon spawns tasks.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    /// Ends the task and all that it spawns.
    static LIFE: CancellationToken;
}

/// Runs `work` beside everything else. Its handle may be dropped: whoever needs to know how it went gets a message from it.
#[expect(clippy::disallowed_methods, reason = "the one place where the daemon spawns")]
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    match LIFE.try_with(CancellationToken::clone) {
        Err(_) => tokio::spawn(work),
        Ok(life) => {
            // Every wrapper around it would hold the work once more.
            let work = Box::pin(work);
            tokio::spawn(async move {
                match until(life, work).await {
                    Some(output) => output,
                    None => std::future::pending().await,
                }
            })
        }
    }
}

/// Runs `work` until it ends, or until `life` is canceled: then it and every task that it has spawned are dropped where they are, as if the
/// process had been killed.
pub async fn until<F: Future>(life: CancellationToken, work: F) -> Option<F::Output> {
    life.clone().run_until_cancelled_owned(LIFE.scope(life, work)).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_life_ends_everything_that_was_spawned_in_it() {
        let (alive, mut signs) = mpsc::channel::<()>(1);
        let life = CancellationToken::new();
        let work = async move {
            spawn(async move {
                spawn(async move {
                    sleep(Duration::from_hours(1)).await;
                    drop(alive);
                });
                std::future::pending::<()>().await;
            });
            std::future::pending::<()>().await;
        };
        let whole = spawn(until(life.clone(), work));
        sleep(Duration::from_secs(1)).await;
        assert!(signs.try_recv() == Err(mpsc::error::TryRecvError::Empty));
        life.cancel();
        assert_eq!(whole.await.unwrap(), None);
        sleep(Duration::from_millis(1)).await;
        assert!(signs.try_recv() == Err(mpsc::error::TryRecvError::Disconnected));
    }
}
