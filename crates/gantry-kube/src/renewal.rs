//! A client that is made anew when a file behind it has changed: certificates, keys and tokens are
//! used within seconds, without a restart. What runs over the old one, such as execs, goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gantry_core::error_chain::chain;
use gantry_http::{FileStamps, limits::LOOK_AT_FILES};
use kube::Client;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use crate::{
    access::{self, Access, ConnectError},
    answers,
    target::Target,
};

/// A client for `access`, and what to say when it does not work.
pub(crate) async fn client(access: Access) -> Result<(Client, Target), ConnectError> {
    let (renewing, target) = Renewing::new(access).await?;
    let namespace = renewing.made().client.default_namespace().to_owned();
    let renewing = Arc::new(renewing);
    let service = tower::service_fn(move |request| {
        let renewing = Arc::clone(&renewing);
        async move { answers::bounded(renewing.client().await, request).await }
    });
    Ok((Client::new(service, namespace), target))
}

struct Renewing {
    access: Access,
    made: Mutex<Made>,
    /// Whose turn it is to look at the files.
    turn: AsyncMutex<()>,
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
    async fn new(access: Access) -> Result<(Self, Target), ConnectError> {
        let (first, target) = Made::new(&access).await?;
        Ok((Self { access, made: Mutex::new(first), turn: AsyncMutex::default() }, target))
    }

    async fn client(&self) -> Client {
        // The others go on with the client that there is: a kubeconfig's plugin may take long.
        let Ok(_turn) = self.turn.try_lock() else { return self.made().client.clone() };
        let Some(changed) = self.changed() else { return self.made().client.clone() };
        let new = Made::new(&self.access).await;
        let mut made = self.made();
        match new {
            Ok((new, _)) => {
                tracing::info!("files for the access to the cluster have changed and are used from now on");
                *made = new;
            }
            Err(error) => {
                tracing::warn!("changed files for the access to the cluster are not used: {}", chain(&error));
                // As they were before: one that was mended meanwhile is another change.
                made.files = changed;
            }
        }
        made.client.clone()
    }

    /// The files as they are now, if they have changed since they were used; looked at from time to
    /// time.
    fn changed(&self) -> Option<FileStamps> {
        let mut made = self.made();
        if made.looked.elapsed() < LOOK_AT_FILES {
            return None;
        }
        made.looked = Instant::now();
        made.files.have_changed().then(|| {
            let mut files = made.files.clone();
            files.accept();
            files
        })
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[tokio::test(start_paused = true)]
    async fn a_kubeconfig_that_is_mended_while_its_plugin_hangs_is_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |user: serde_json::Value| {
            let text = serde_json::json!({
                "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": "https://10.1.2.3:6443"}}],
                "users": [{"name": "u", "user": user}],
            });
            std::fs::write(file.path(), text.to_string()).unwrap();
        };
        write(serde_json::json!({"token": "t"}));
        let access = Access::Kubeconfig { path: Some(file.path().to_owned()), context: None };
        let renewing = Renewing::new(access).await.unwrap().0;

        tokio::time::advance(LOOK_AT_FILES).await;
        // Ends with the test, and some time after one that was killed.
        let script = format!("for _ in $(seq 100); do [ -e {} ] || exit 1; sleep 0.1; done", file.path().display());
        write(serde_json::json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
            "command": "sh", "args": ["-c", script],
        }}));
        let begun = Instant::now();
        tokio::join!(renewing.client(), async { write(serde_json::json!({"token": "mended"})) });
        assert!(begun.elapsed() >= limits::PLUGIN);

        tokio::time::advance(LOOK_AT_FILES).await;
        assert!(renewing.changed().is_some());
    }
}
