//! Connections to a server of ours: whoever reaches its port takes no more of the process than its
//! places are worth.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::notices::{ConnectionsRefused, Notice as _};
use crate::tasks;

/// What a connection takes of a server, for as long as it lasts in any form.
#[derive(Clone)]
pub(crate) struct ConnectionPermit {
    _place: Arc<OwnedSemaphorePermit>,
    wanted: CancellationToken,
}

/// What happens when all places are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// Who comes waits until a connection ends.
    NewestWaits,
    /// The oldest connection ends.
    OldestEnds,
}

/// Rest when no connection can be taken, for want of file descriptors say.
const REST: Duration = Duration::from_millis(200);

impl ConnectionPermit {
    /// Does something for as long as nobody else needs the place.
    pub(crate) async fn until_wanted<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.wanted.run_until_cancelled(work).await
    }
}

/// Takes connections until it is dropped, `places` of them at once, and serves each beside the
/// others. `server`: its name, for the log.
pub(crate) async fn accept<F>(
    (server, when_full): (&str, WhenFull),
    listener: TcpListener,
    places: usize,
    serve: impl Fn(TcpStream, ConnectionPermit) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(places));
    let mut open: VecDeque<(Weak<OwnedSemaphorePermit>, CancellationToken)> = VecDeque::new();
    loop {
        let place = match when_full {
            WhenFull::NewestWaits => Some(Arc::clone(&places).acquire_owned().await),
            WhenFull::OldestEnds => None,
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                ConnectionsRefused { server, error: &error }.say();
                sleep(REST).await;
                continue;
            }
        };
        open.retain(|(place, _)| place.strong_count() > 0);
        if place.is_none()
            && places.available_permits() == 0
            && let Some((_, wanted)) = open.pop_front()
        {
            wanted.cancel();
        }
        let place = match place {
            Some(place) => place,
            None => Arc::clone(&places).acquire_owned().await,
        };
        let Ok(place) = place else { return };
        let (place, wanted) = (Arc::new(place), CancellationToken::new());
        open.push_back((Arc::downgrade(&place), wanted.clone()));
        drop(tasks::spawn(serve(stream, ConnectionPermit { _place: place, wanted })));
    }
}
