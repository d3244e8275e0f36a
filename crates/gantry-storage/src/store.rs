//! A store, whichever it is.

use jiff::Timestamp;

use crate::azure::{AzureSettings, Container};
use crate::error::StoreError;
use crate::gcs::{self, GcsSettings};
use crate::object::{Link, ObjectRequest};
use crate::s3::{self, S3Settings};
use crate::world::World;

/// Which store, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// S3 and what speaks like it.
    S3(Box<S3Settings>),
    /// Google Cloud Storage.
    Gcs(GcsSettings),
    /// Azure Blob Storage.
    Azure(AzureSettings),
}

/// A bucket or container of objects.
pub struct Store {
    kind: Kind,
}

enum Kind {
    S3(Box<s3::Bucket>),
    Gcs(gcs::Bucket),
    Azure(Container),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.describe()).finish()
    }
}

impl Store {
    /// Asks nobody yet.
    pub fn new(settings: Settings, world: World) -> Self {
        let kind = match settings {
            Settings::S3(settings) => Kind::S3(Box::new(s3::Bucket::new(*settings, world))),
            Settings::Gcs(settings) => Kind::Gcs(gcs::Bucket::new(settings, world)),
            Settings::Azure(settings) => Kind::Azure(Container::new(settings, world)),
        };
        Self { kind }
    }

    /// In words, such as `the S3 bucket "ci-cache" at minio:9000`.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::S3(bucket) => bucket.describe(),
            Kind::Gcs(bucket) => bucket.describe(),
            Kind::Azure(container) => container.describe(),
        }
    }

    /// The host that objects are fetched from, without its port.
    pub fn host(&self) -> String {
        let host = match &self.kind {
            Kind::S3(bucket) => bucket.host(),
            Kind::Gcs(bucket) => bucket.host(),
            Kind::Azure(container) => container.host(),
        };
        host.rsplit_once(':').map_or(host.clone(), |(name, _)| name.to_owned())
    }

    /// Signs one request.
    ///
    /// # Errors
    /// There are no credentials, or whoever gives them refuses. Messages hold no secret.
    pub async fn sign(&self, request: &ObjectRequest) -> Result<Link, StoreError> {
        self.sign_at(request, Timestamp::now()).await
    }

    /// The same at another time, for tests.
    pub async fn sign_at(&self, request: &ObjectRequest, now: Timestamp) -> Result<Link, StoreError> {
        match &self.kind {
            Kind::S3(bucket) => bucket.sign(request, now).await,
            Kind::Gcs(bucket) => bucket.sign(request, now).await,
            Kind::Azure(container) => container.sign(request, now).await,
        }
    }
}
