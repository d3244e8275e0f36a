//! Namespaces that are made for one job each, and go with it. A namespace is removed only if it
//! carries the label of our own.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, PartialObjectMeta, PostParams, Preconditions},
    core::Request,
};
use tokio::time::Instant;

use crate::{
    Cluster,
    error::{ApiError, Fault},
    pages, retry,
};

/// Why there is no namespace for a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    /// The right is missing.
    #[error(
        "namespace_per_job is set, and the runner may not create the namespace {name}: grant create, get, list and delete on namespaces by a \
         ClusterRole, and what it needs on pods in all namespaces, or remove namespace_per_job from [runners.kubernetes]: {error}"
    )]
    Forbidden {
        /// Its name.
        name: String,
        /// The API server's words.
        error: ApiError,
    },
    /// It is there, and is another's.
    #[error("the namespace {name} exists, and was not made for this job: delete it, and retry the job")]
    Taken {
        /// Its name.
        name: String,
    },
    /// Anything else.
    #[error("the namespace {name} could not be created: {error}")]
    Failed {
        /// Its name.
        name: String,
        /// How the last try failed.
        error: ApiError,
    },
}

/// A namespace with a label that was asked for.
#[derive(Clone, Debug)]
pub struct LabeledNamespace {
    /// The namespace.
    pub name: String,
    /// Of the label.
    pub value: String,
}

impl Cluster {
    /// Makes the namespace; one with the same labels is there from an earlier try. Failures that
    /// may pass are tried again until `deadline`.
    ///
    /// # Errors
    /// It is refused, is another's, or was not possible in that time.
    pub async fn create_namespace(&self, namespace: &Namespace, deadline: Instant) -> Result<(), NamespaceError> {
        let (api, params) = (self.namespaces(), PostParams::default());
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let create = || retry::once(api.create(&params, namespace));
        let made = retry::until((self.persistence(), deadline), |_| {}, create).await;
        let Err(error) = made else { return Ok(()) };
        if !error.is_already_exists() {
            return Err(match error.fault {
                Fault::Forbidden => NamespaceError::Forbidden { name, error },
                _ => NamespaceError::Failed { name, error },
            });
        }
        match retry::once(api.get_opt(&name)).await {
            Ok(Some(found)) if is_same(namespace, &found) => Ok(()),
            Ok(_) => Err(NamespaceError::Taken { name }),
            Err(error) => Err(NamespaceError::Failed { name, error }),
        }
    }

    /// Removes the namespace with everything in it, if it has the same labels; that it is gone is
    /// success. Failures that may pass are tried again for [`crate::Persistence::removal`].
    ///
    /// # Errors
    /// It is refused, or was not possible in that time.
    pub async fn delete_namespace(&self, namespace: &Namespace) -> Result<(), ApiError> {
        let api = self.namespaces();
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        let deadline = Instant::now() + self.persistence().removal;
        let look = || retry::once(api.get_opt(name));
        let found = retry::until((self.persistence(), deadline), |_| {}, look).await?;
        let Some(found) = found.filter(|found| is_same(namespace, found)) else { return Ok(()) };
        let preconditions = Preconditions { uid: found.metadata.uid, resource_version: None };
        let params = DeleteParams::background().preconditions(preconditions);
        let delete = || retry::once(api.delete(name, &params));
        match retry::until((self.persistence(), deadline), |_| {}, delete).await {
            Err(error) if error.fault == Fault::Gone => Ok(()),
            // It is being deleted already.
            Err(error) if error.fault == Fault::Conflict => Ok(()),
            gone => gone.map(drop),
        }
    }

    /// The namespaces of a label selector that nobody is deleting, each with the value of `label`.
    /// Tried once.
    ///
    /// # Errors
    /// It is refused or fails.
    pub async fn list_namespaces(&self, selector: &str, label: &str) -> Result<Vec<LabeledNamespace>, ApiError> {
        let all = self.namespaces();
        let from = ("namespaces", all.resource_url());
        let list = pages::all::<PartialObjectMeta<Namespace>>(self.client(), from, Request::list_metadata, selector);
        let (found, _) = list.await?;
        let is_there = found.into_iter().filter(|namespace| namespace.metadata.deletion_timestamp.is_none());
        let named = is_there.filter_map(|namespace| {
            let value = namespace.metadata.labels.as_ref()?.get(label)?.clone();
            Some(LabeledNamespace { name: namespace.metadata.name?, value })
        });
        Ok(named.collect())
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client().clone())
    }
}

/// Whether an earlier try has made it: it has all the labels, and nobody deletes it.
fn is_same(wanted: &Namespace, found: &Namespace) -> bool {
    let labels = found.metadata.labels.as_ref();
    let has = |(key, value): (&String, &String)| labels.and_then(|labels| labels.get(key)) == Some(value);
    found.metadata.deletion_timestamp.is_none() && wanted.metadata.labels.iter().flatten().all(has)
}
