//! A client that is made anew when a file behind it has changed: certificates, keys and tokens are
//! used within seconds, without a restart. What runs over the old one, such as execs, goes on.

use std::sync::Arc;

use gantry_core::error_chain::chain;
use gantry_http::{FileStamps, limits::LOOK_AT_FILES};
use kube::Client;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    access::{self, Access, ConnectError},
    answers,
    target::Target,
};

/// A client for `access`, and what to say when it does not work.
pub(crate) async fn client(access: Access) -> Result<(Client, Target), ConnectError> {
    let (first, target) = Made::new(&access).await?;
    let namespace = first.client.default_namespace().to_owned();
    let renewing = Arc::new(Renewing { access, made: Mutex::new(first) });
    let service = tower::service_fn(move |request| {
        let renewing = Arc::clone(&renewing);
        async move { answers::bounded(renewing.client().await, request).await }
    });
    Ok((Client::new(service, namespace), target))
}

struct Renewing {
    access: Access,
    made: Mutex<Made>,
}

/// A client, and the files as they were when it was made.
struct Made {
    client: Client,
    files: FileStamps,
    looked: Instant,
}

impl Made {
    async fn new(access: &Access) -> Result<(Self, Target), ConnectError> {
        // Before they are read: a change meanwhile is then seen as one.
        let files = access::files(access).into_iter().collect();
        let (client, target) = access::client(access).await?;
        Ok((Self { client, files, looked: Instant::now() }, target))
    }
}

impl Renewing {
    async fn client(&self) -> Client {
        let mut made = self.made.lock().await;
        if made.looked.elapsed() < LOOK_AT_FILES {
            return made.client.clone();
        }
        made.looked = Instant::now();
        if made.files.have_changed() {
            match Made::new(&self.access).await {
                Ok((new, _)) => {
                    tracing::info!("files for the access to the cluster have changed and are used from now on");
                    *made = new;
                }
                Err(error) => {
                    tracing::warn!("changed files for the access to the cluster are not used: {}", chain(&error));
                    made.files.accept();
                }
            }
        }
        made.client.clone()
    }
}
