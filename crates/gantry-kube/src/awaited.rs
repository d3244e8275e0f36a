//! Objects that a pod needs and that others make, perhaps at the same time: looked for before the
//! pod is made.

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use tokio::time::sleep;

use crate::{
    Cluster,
    error::{ApiError, Fault},
    limits, retry,
};

/// What a pod needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The service account, if the pod names one.
    pub service_account: Option<String>,
    /// Secrets with logins for registries.
    pub pull_secrets: Vec<String>,
    /// Looks at each, beyond the first.
    pub attempts: u32,
}

/// What is not known to be there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    /// It is not there after all looks.
    #[error(
        "Timed out while waiting for {what} to be present in the cluster (resource_availability_check_max_attempts)"
    )]
    Missing {
        /// Its kind and name.
        what: String,
    },
    /// Nobody may tell: nothing is looked for then.
    #[error("whether {what} is there cannot be checked: {error}")]
    Unknown {
        /// Its kind and name.
        what: String,
        /// The API server's words.
        error: ApiError,
    },
}

impl Cluster {
    /// Waits until everything is there, with a pause of [`limits::AWAIT_PAUSE`] between looks.
    /// Needs `get` on `serviceaccounts` and `secrets`.
    ///
    /// # Errors
    /// Something is not there after all looks, or it cannot be asked for.
    pub async fn await_objects(&self, awaited: &Awaited) -> Result<(), Absent> {
        let (client, namespace) = (self.client(), self.namespace());
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        if let Some(name) = &awaited.service_account {
            let look = || async { accounts.get_metadata_opt(name).await.map(|found| found.is_some()) };
            wait(&format!("ServiceAccount/{name}"), awaited.attempts, look).await?;
        }
        // Their metadata is enough: nobody needs to see what is in them.
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        for name in &awaited.pull_secrets {
            let look = || async { secrets.get_metadata_opt(name).await.map(|found| found.is_some()) };
            wait(&format!("ImagePullSecret/{name}"), awaited.attempts, look).await?;
        }
        Ok(())
    }
}

async fn wait<F: Future<Output = kube::Result<bool>>>(
    what: &str,
    attempts: u32,
    mut look: impl FnMut() -> F,
) -> Result<(), Absent> {
    for attempt in 0..=attempts {
        match retry::once(look()).await {
            Ok(true) => return Ok(()),
            Err(error) if error.fault == Fault::Forbidden => {
                return Err(Absent::Unknown { what: what.to_owned(), error });
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, what, "it cannot be looked for just now"),
        }
        if attempt < attempts {
            sleep(limits::AWAIT_PAUSE).await;
        }
    }
    Err(Absent::Missing { what: what.to_owned() })
}
