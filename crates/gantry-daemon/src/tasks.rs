//! The one place where the daemon spawns tasks.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    /// Of the task and all that it spawns.
    static LIFE: Life;
}

/// The life of a daemon that is one of several in a process, as in a simulation: whoever holds it
/// can end the daemon, or stop it for a while, at any moment.
#[derive(Clone, Debug, Default)]
pub struct Life {
    end: CancellationToken,
    pause: Arc<Mutex<Pause>>,
}

#[derive(Debug, Default)]
struct Pause {
    is_on: bool,
    /// Tasks that would have done something meanwhile.
    waiting: Vec<Waker>,
}

impl Life {
    /// Ends it, as SIGKILL does.
    pub fn end(&self) {
        self.end.cancel();
    }

    /// Stops it, as SIGSTOP does: clocks and connections go on, and nothing of it does.
    pub fn freeze(&self) {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner).is_on = true;
    }

    /// Lets it go on, as SIGCONT does.
    pub fn thaw(&self) {
        let waiting = {
            let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
            pause.is_on = false;
            std::mem::take(&mut pause.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether nothing may happen now; then the task is woken when something may.
    fn is_frozen(&self, context: &Context<'_>) -> bool {
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        if pause.is_on {
            pause.waiting.push(context.waker().clone());
        }
        pause.is_on
    }
}

/// Work that stands still while its life is frozen.
struct Living<F> {
    life: Life,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Living<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.life.is_frozen(context) { Poll::Pending } else { self.work.as_mut().poll(context) }
    }
}

/// Runs `work` beside everything else. Its handle may be dropped: whoever needs to know how it went
/// gets a message from it.
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    start(Box::pin(work))
}

/// Runs what may block its thread, as changes of a file do that others change too.
///
/// # Errors
/// It has panicked, or the process ends.
#[expect(clippy::disallowed_methods, reason = "the one place where the daemon spawns")]
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// The runtime's code for a task is compiled once for each kind of output, not of future, and no
/// wrapper holds the work once more.
#[expect(clippy::disallowed_methods, reason = "the one place where the daemon spawns")]
fn start<T: Send + 'static>(work: Pin<Box<dyn Future<Output = T> + Send>>) -> JoinHandle<T> {
    let work = match LIFE.try_with(Life::clone) {
        Err(_) => work,
        Ok(life) => Box::pin(async move {
            match until(life, work).await {
                Some(output) => output,
                None => std::future::pending().await,
            }
        }),
    };
    tokio::spawn(work)
}

/// Runs `work` until it ends, or until `life` does: then it and every task that it has spawned are
/// dropped where they are, as if the process had been killed.
pub async fn until<F: Future>(life: Life, work: F) -> Option<F::Output> {
    let end = life.end.clone();
    let work = Living { life: life.clone(), work: Box::pin(work) };
    end.run_until_cancelled_owned(LIFE.scope(life, work)).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_life_ends_everything_that_was_spawned_in_it() {
        let (alive, mut signs) = mpsc::channel::<()>(1);
        let life = Life::default();
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
        life.end();
        assert_eq!(whole.await.unwrap(), None);
        sleep(Duration::from_millis(1)).await;
        assert!(signs.try_recv() == Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_life_misses_what_happens_meanwhile_and_does_it_afterwards() {
        let life = Life::default();
        let begun = Instant::now();
        let work = async move {
            let inner = spawn(async move {
                sleep(Duration::from_secs(5)).await;
                begun.elapsed()
            });
            inner.await.unwrap()
        };
        let whole = spawn(until(life.clone(), work));
        sleep(Duration::from_secs(1)).await;
        life.freeze();
        sleep(Duration::from_secs(60)).await;
        assert!(!whole.is_finished());
        life.thaw();
        assert_eq!(whole.await.unwrap(), Some(Duration::from_secs(61)));
    }
}
