//! Connections to a server of ours: whoever reaches its port takes no more of the process than its
//! places are worth.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::notices::{ConnectionsRefused, Notice as _};
use crate::tasks;

/// What a connection takes of a server, for as long as it lasts in any form.
pub(crate) type ConnectionPermit = Arc<OwnedSemaphorePermit>;

/// Rest when no connection can be taken, for want of file descriptors say.
const REST: Duration = Duration::from_millis(200);

/// Takes connections until it is dropped, `places` of them at once, and serves each beside the
/// others. `server`: its name, for the log.
pub(crate) async fn accept<F>(
    server: &str,
    listener: TcpListener,
    places: usize,
    serve: impl Fn(TcpStream, ConnectionPermit) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(places));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => drop(tasks::spawn(serve(stream, Arc::new(place)))),
            Err(error) => {
                ConnectionsRefused { server, error: &error }.say();
                sleep(REST).await;
            }
        }
    }
}
