//! A client that is made anew when a file behind it has changed: certificates, keys and tokens are used within seconds, without a restart.
//! What runs over the old one, such as execs, goes on.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use gantry_core::error_chain::chain;
use kube::Client;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    access::{self, Access, ConnectError},
    answers, limits,
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
    files: Vec<(PathBuf, Option<Stamp>)>,
    looked: Instant,
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

impl Made {
    async fn new(access: &Access) -> Result<(Self, Target), ConnectError> {
        // Before they are read: a change meanwhile is then seen as one.
        let files = access::files(access).into_iter().map(|path| {
            let stamp = stamp(&path);
            (path, stamp)
        });
        let files = files.collect();
        let (client, target) = access::client(access).await?;
        Ok((Self { client, files, looked: Instant::now() }, target))
    }
}

impl Renewing {
    async fn client(&self) -> Client {
        let mut made = self.made.lock().await;
        if made.looked.elapsed() < limits::LOOK_AT_FILES {
            return made.client.clone();
        }
        made.looked = Instant::now();
        // A file that has vanished is being replaced.
        let changed = |(path, old): &(PathBuf, Option<Stamp>)| stamp(path).is_some_and(|new| Some(new) != *old);
        if made.files.iter().any(changed) {
            match Made::new(&self.access).await {
                Ok((new, _)) => {
                    tracing::info!("files for the access to the cluster have changed and are used from now on");
                    *made = new;
                }
                Err(error) => {
                    tracing::warn!("changed files for the access to the cluster are not used: {}", chain(&error));
                    for (path, seen) in &mut made.files {
                        *seen = stamp(path).or(*seen);
                    }
                }
            }
        }
        made.client.clone()
    }
}

fn stamp(path: &std::path::Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: meta.modified().ok(), size: meta.len(), inode: meta.ino() })
}
