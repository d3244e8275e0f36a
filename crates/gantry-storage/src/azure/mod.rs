//! Azure Blob Storage: shared access signatures for one blob, with the account's key or with one
//! that is delegated to this process.

mod sas;
mod token;

use gantry_core::Secret;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use crate::encode::uri_path;
use crate::error::StoreError;
use crate::object::{Access, Link, ObjectRequest, Parts};
use crate::world::World;

use sas::{Sas, Signer};
use token::Delegated;

/// The usual `StorageDomain`.
const DOMAIN: &str = "blob.core.windows.net";

/// Largest blob of one request, in bytes (Azure: 5000 MiB).
const SINGLE_PUT: u64 = 5000 * 1024 * 1024;

/// Clocks differ: a signature is valid from a while ago (GitLab Runner 19.4).
const EARLIER: SignedDuration = SignedDuration::from_hours(1);

/// Where a container is and who may use it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AzureSettings {
    /// `AccountName`.
    pub account: String,
    /// `AccountKey`; without it this process's own identity is used.
    pub key: Option<Secret>,
    /// `ContainerName`.
    pub container: String,
    /// `StorageDomain`.
    pub domain: Option<String>,
}

/// A container.
pub(crate) struct Container {
    settings: AzureSettings,
    world: World,
    delegated: Mutex<Option<Delegated>>,
}

impl Container {
    pub(crate) fn new(settings: AzureSettings, world: World) -> Self {
        Self { settings, world, delegated: Mutex::default() }
    }

    pub(crate) fn describe(&self) -> String {
        format!("the Azure container {:?} of {}", self.settings.container, self.settings.account)
    }

    pub(crate) fn host(&self) -> String {
        format!("{}.{}", self.settings.account, self.settings.domain.as_deref().unwrap_or(DOMAIN))
    }

    pub(crate) async fn sign(&self, request: &ObjectRequest, now: Timestamp) -> Result<Link, StoreError> {
        let AzureSettings { account, key, container, .. } = &self.settings;
        for (value, name) in [(account, "AccountName"), (container, "ContainerName")] {
            if value.is_empty() {
                return Err(StoreError::Settings(format!("set {name} in [runners.cache.azure]")));
            }
        }
        let host = self.host();
        let life = SignedDuration::try_from(request.valid_for).unwrap_or(SignedDuration::from_hours(24 * 7));
        let sas = Sas {
            account,
            container,
            blob: &request.name,
            permissions: if request.access == Access::Read { "r" } else { "w" },
            start: now - EARLIER,
            end: now + life.clamp(SignedDuration::from_mins(1), SignedDuration::from_hours(24 * 7)),
        };
        let query = if let Some(key) = key {
            sas.query(&Signer::Account(key))?
        } else {
            let mut delegated = self.delegated.lock().await;
            let key = Delegated::get(&mut delegated, &self.world, &host, (sas.start, sas.end)).await?;
            sas.query(&Signer::Delegated(key))?
        };
        let url = format!("https://{host}/{container}/{}?{query}", uri_path(&request.name));
        let url = Secret::new(url);
        Ok(match request.access {
            Access::Read => Link { url, ..Link::default() },
            Access::Write => {
                let headers = vec![("x-ms-blob-type".to_owned(), "BlockBlob".to_owned())];
                Link { url, headers, most: Some(SINGLE_PUT), parts: Some(Parts::Azure), ends: None }
            }
        })
    }
}

#[cfg(test)]
mod tests;
