//! The Secret of one job with its logins for registries: made for the pod that names it, so that it
//! goes with it. Where a pod cannot be held back until then the Secret is made before it, given to
//! it, and otherwise removed after it.

use std::collections::BTreeMap;

use gantry_core::Secret;
use k8s_openapi::{ByteString, api::core::v1::Secret as Object, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use tokio::time::Instant;

use crate::{
    Cluster,
    error::{ApiError, Fault},
    pods::PodRef,
    retry,
};

/// A Secret of logins to make.
#[derive(Clone, Debug)]
pub struct NewPullSecret {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// A Docker configuration with the logins.
    pub config: Secret,
}

impl NewPullSecret {
    fn object(&self, owner: Option<&PodRef>) -> Object {
        let owner = owner.map(PodRef::as_owner);
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            labels: Some(self.labels.clone()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        let content = ByteString(self.config.expose().as_bytes().to_vec());
        Object {
            metadata,
            type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
            data: Some(BTreeMap::from([(".dockerconfigjson".to_owned(), content)])),
            ..Object::default()
        }
    }
}

impl Cluster {
    /// Makes the Secret; with an `owner` it goes with that pod. One that is there already is of an
    /// earlier try, or goes with an earlier pod: for an owner it is made anew. Failures that may
    /// pass are tried again until `deadline`. Needs `create` on `secrets`.
    ///
    /// # Errors
    /// It is refused, or was not possible in that time.
    pub async fn create_pull_secret(
        &self,
        secret: &NewPullSecret,
        owner: Option<&PodRef>,
        deadline: Instant,
    ) -> Result<(), ApiError> {
        let object = secret.object(owner);
        let (api, params) = (self.secrets(), PostParams::default());
        let make = || retry::once(api.create(&params, &object));
        match retry::until((self.persistence(), deadline), |_| {}, make).await {
            Err(error) if error.is_already_exists() && owner.is_none() => Ok(()),
            Err(error) if error.is_already_exists() => {
                self.delete_pull_secret(&secret.name).await?;
                retry::until((self.persistence(), deadline), |_| {}, make).await.map(drop)
            }
            made => made.map(drop),
        }
    }

    /// Lets the Secret go with the pod. Needs `update` on `secrets`. Tried once: whoever cannot do
    /// it removes the Secret after the pod.
    ///
    /// # Errors
    /// It is refused or fails.
    pub async fn give_pull_secret(&self, secret: &NewPullSecret, pod: &PodRef) -> Result<(), ApiError> {
        let object = secret.object(Some(pod));
        retry::once(self.secrets().replace(&secret.name, &PostParams::default(), &object)).await.map(drop)
    }

    /// Removes a Secret that no pod takes with it; that it is gone is success. Needs `delete` on
    /// `secrets`.
    ///
    /// # Errors
    /// It is refused, or was not possible in [`crate::Persistence::removal`].
    pub async fn delete_pull_secret(&self, name: &str) -> Result<(), ApiError> {
        let (api, params) = (self.secrets(), DeleteParams::default());
        let deadline = Instant::now() + self.persistence().removal;
        let gone =
            retry::until((self.persistence(), deadline), |_| {}, || retry::once(api.delete(name, &params))).await;
        match gone {
            Err(error) if error.fault == Fault::Gone => Ok(()),
            gone => gone.map(drop),
        }
    }

    fn secrets(&self) -> Api<Object> {
        Api::namespaced(self.client().clone(), self.namespace())
    }
}
