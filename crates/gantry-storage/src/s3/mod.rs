//! S3, and stores that speak like it.

mod address;
mod credentials;
mod parts;
mod presign;
mod role;

use gantry_core::Secret;
use jiff::Timestamp;
use tokio::sync::{Mutex, OnceCell};

use crate::error::StoreError;
use crate::object::{Access, Link, ObjectRequest, Parts};
use crate::world::World;

use address::Address;
use credentials::Chain;
use presign::{Signed, presign};
use role::Roles;

/// Longest life of a signed request (Amazon: seven days).
const LONGEST: i64 = 7 * 24 * 3600;

/// Largest object of one request, in bytes (Amazon: 5 GiB).
pub const SINGLE_PUT: u64 = 5 * 1024 * 1024 * 1024;

/// Where a bucket is and who may use it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Settings {
    /// `ServerAddress`; nothing for Amazon.
    pub server_address: Option<String>,
    /// `BucketName`.
    pub bucket: String,
    /// `BucketLocation`; found out where it is not set.
    pub region: Option<String>,
    /// `Insecure`: plain HTTP.
    pub insecure: bool,
    /// `PathStyle`; nothing decides by the address.
    pub path_style: Option<bool>,
    /// `DualStack`.
    pub dual_stack: bool,
    /// `Accelerate`.
    pub accelerate: bool,
    /// Who asks.
    pub access: S3Access,
    /// `ServerSideEncryption`.
    pub encryption: Option<Encryption>,
    /// `ServerSideEncryptionKeyID`.
    pub encryption_key: Option<String>,
    /// `RoleARN`.
    pub role: Option<RoleSettings>,
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum S3Access {
    /// These keys.
    Keys(Credentials),
    /// Whoever this process is: its environment, files, pod or machine say so.
    #[default]
    Surroundings,
}

/// Keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Which key.
    pub access_key: String,
    /// The key.
    pub secret_key: Secret,
    /// What goes with keys that are valid for a while only.
    pub session_token: Option<Secret>,
}

/// How objects are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// With keys of the store.
    S3,
    /// With a key of the key management service.
    Kms,
    /// The same, twice.
    DsseKms,
}

impl Encryption {
    /// That of a header, in any case.
    pub fn of_header(word: &str) -> Option<Self> {
        [Self::S3, Self::Kms, Self::DsseKms].into_iter().find(|way| way.header().eq_ignore_ascii_case(word))
    }

    fn header(self) -> &'static str {
        match self {
            Self::S3 => "AES256",
            Self::Kms => "aws:kms",
            Self::DsseKms => "aws:kms:dsse",
        }
    }
}

/// A role that is assumed for each object, and may do nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSettings {
    /// `RoleARN`.
    pub arn: String,
    /// Roles assumed at once; nothing is no bound.
    pub concurrency: Option<usize>,
    /// Whether what a role has brought is used again.
    pub keeps: bool,
}

/// A bucket.
pub(crate) struct Bucket {
    settings: S3Settings,
    world: World,
    chain: Mutex<Chain>,
    region: OnceCell<String>,
    roles: Option<Roles>,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(roles) = &mut self.roles {
            roles.forget(&self.world);
        }
    }
}

impl Bucket {
    pub(crate) fn new(settings: S3Settings, world: World) -> Self {
        let chain = Mutex::new(Chain::new(settings.access.clone()));
        let roles = settings.role.clone().map(Roles::new);
        Self { settings, world, chain, region: OnceCell::new(), roles }
    }

    pub(crate) fn describe(&self) -> String {
        let place = match &self.settings.server_address {
            Some(address) => format!(" at {address}"),
            None => " of Amazon".to_owned(),
        };
        format!("the S3 bucket {:?}{place}", self.settings.bucket)
    }

    /// The host whose certificate is verified.
    pub(crate) fn host(&self) -> String {
        let region = self.settings.region.as_deref().unwrap_or("us-east-1");
        Address::of(&self.settings, region).host
    }

    pub(crate) async fn sign(&self, request: &ObjectRequest, now: Timestamp) -> Result<Link, StoreError> {
        if self.settings.bucket.is_empty() {
            return Err(StoreError::Settings("set BucketName in [runners.cache.s3]".to_owned()));
        }
        let (own, own_end) = self.chain.lock().await.credentials(&self.world, now, request.valid_for).await?;
        let region = self.region(&own, now).await;
        let (credentials, ends) = match &self.roles {
            Some(roles) => {
                let wanted = role::RoleRequest {
                    settings: &self.settings,
                    own: &own,
                    region,
                    object: &request.name,
                    access: request.access,
                    valid_for: request.valid_for,
                };
                roles.assume(&wanted, &self.world, now).await?
            }
            None => (own, own_end),
        };
        let address = Address::of(&self.settings, region);
        let seconds = i64::try_from(request.valid_for.as_secs()).unwrap_or(LONGEST).clamp(60, LONGEST);
        let signed = Signed { method: method(request.access), credentials: &credentials, region, now, seconds };
        let headers = self.headers(request);
        let path = address.path(&request.name);
        let place = address.place(&path);
        let url = Secret::new(presign(&signed, &place, &headers));
        if request.access == Access::Read {
            return Ok(Link { url, headers, ends, ..Link::default() });
        }
        // An upload in parts has to be begun by whoever can sign, and costs a request: only where
        // such archives are asked for.
        let parts = if request.most.is_some_and(|most| most > SINGLE_PUT) {
            parts::begin(&signed, &place, &headers, &self.world).await
        } else {
            None
        };
        Ok(Link { url, headers, most: Some(SINGLE_PUT), parts: parts.map(Parts::S3), ends })
    }

    /// Headers that are part of the signature: those that say how an object is kept.
    fn headers(&self, request: &ObjectRequest) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        if request.access == Access::Read {
            return headers;
        }
        // Signatures over other characters are not the same everywhere.
        if crate::object::is_plain(&request.key) {
            headers.push(("x-amz-meta-cachekey".to_owned(), request.key.clone()));
        }
        if let Some(encryption) = self.settings.encryption {
            headers.push(("x-amz-server-side-encryption".to_owned(), encryption.header().to_owned()));
            let key = self.settings.encryption_key.as_ref().filter(|_| encryption != Encryption::S3);
            if let Some(key) = key {
                headers.push(("x-amz-server-side-encryption-aws-kms-key-id".to_owned(), key.clone()));
            }
        }
        headers
    }

    /// The region of the bucket: as set, else as the store says, once it has said something.
    async fn region(&self, credentials: &Credentials, now: Timestamp) -> &str {
        if let Some(region) = &self.settings.region {
            return region;
        }
        let found = || async {
            address::find_region(&self.settings, credentials, &self.world, now).await.ok_or(address::USUAL_REGION)
        };
        self.region.get_or_try_init(found).await.map_or_else(|usual| usual, String::as_str)
    }
}

fn method(access: Access) -> &'static str {
    match access {
        Access::Read => "GET",
        Access::Write => "PUT",
    }
}
