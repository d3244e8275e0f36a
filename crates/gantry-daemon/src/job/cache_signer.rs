//! Signs requests that save the caches of a job, again and again while it runs: where the runner
//! has the keys of a role those end after an hour, and what was signed with them too, while the job
//! may take longer.

use std::sync::Arc;
use std::time::Duration;

use gantry_plan::CacheRenewal;
use gantry_wire::cache::{CacheObject, ObjectRequests};
use gantry_wire::ticket::Ticket;
use tokio::time::{Instant, sleep_until};

use crate::prepare::Preparation;

/// The least time between two times that a store's keys are asked for, however soon they end.
const SHORTEST: Duration = Duration::from_secs(5);

/// From a refusal to the next time.
const AGAIN: Duration = Duration::from_mins(5);

/// For the caches of one job.
#[derive(Clone)]
pub(crate) struct CacheSigner {
    preparation: Arc<Preparation>,
    objects: Arc<[CacheObject]>,
    valid_for: Duration,
    /// When it is time.
    due: Instant,
}

/// What came of it.
pub(super) struct Signed {
    /// The requests, or why there are none.
    pub(super) requests: Result<Vec<ObjectRequests>, String>,
    /// What signs the next ones, unless these are good for the whole job.
    pub(super) next: Option<CacheSigner>,
}

impl CacheSigner {
    /// Of a job that has just been planned.
    pub(crate) fn of_plan(renewal: &CacheRenewal, preparation: &Arc<Preparation>) -> Self {
        let (preparation, objects) = (Arc::clone(preparation), renewal.objects.clone().into());
        Self { preparation, objects, valid_for: renewal.valid_for, due: Instant::now() + pause(renewal.life) }
    }

    /// Of a job that was found, if its ticket says that it needs that. What its agent has may be
    /// about to end.
    pub(crate) fn of_ticket(ticket: &Ticket, preparation: &Arc<Preparation>) -> Option<Self> {
        let (preparation, objects) = (Arc::clone(preparation), ticket.cache_objects.clone().into());
        let signer =
            Self { preparation, objects, valid_for: Duration::from_secs(ticket.timeout_seconds), due: Instant::now() };
        (!ticket.cache_objects.is_empty()).then_some(signer)
    }

    /// Signs when it is time.
    pub(super) async fn sign(self) -> Signed {
        sleep_until(self.due).await;
        let (requests, next) = match self.preparation.renewed(&self.objects, self.valid_for).await {
            Ok((requests, life)) => (Ok(requests), life.map(pause)),
            Err(problem) => (Err(problem), Some(AGAIN)),
        };
        Signed { requests, next: next.map(|pause| Self { due: Instant::now() + pause, ..self }) }
    }
}

/// Until something is signed again that is good for so long: in time for another try.
fn pause(life: Duration) -> Duration {
    (life / 2).max(SHORTEST)
}
