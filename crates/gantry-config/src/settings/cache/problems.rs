//! Why nothing can be kept in a store, as far as its settings say so: whoever uses them refuses
//! them for the same reasons as whoever looks at the file.

use std::fmt;

use gantry_core::Secret;

use super::{AzureCache, CacheKind, CacheSettings, GcsCache, S3Authentication, S3Cache, S3Encryption};

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreProblem {
    /// The table below `[runners.cache]`.
    pub table: &'static str,
    /// The key in it.
    pub key: &'static str,
    /// What is wrong: a fragment that fits after the key.
    pub message: String,
}

impl fmt::Display for StoreProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, key, message } = self;
        write!(f, "{key} in [runners.cache.{table}] {message}")
    }
}

impl CacheSettings {
    /// Why its store can keep nothing; empty where it can, or none is chosen.
    pub fn problems(&self) -> Vec<StoreProblem> {
        let (table, found) = match self.kind {
            Some(CacheKind::S3) => ("s3", of_s3(&self.s3)),
            Some(CacheKind::Gcs) => ("gcs", of_gcs(&self.gcs)),
            Some(CacheKind::Azure) => ("azure", of_azure(&self.azure)),
            None => return Vec::new(),
        };
        let problem = |(key, message)| Some(StoreProblem { table, key, message: message? });
        found.into_iter().filter_map(problem).collect()
    }
}

/// Keys of a table, and what is wrong with them.
type Found = Vec<(&'static str, Option<String>)>;

fn of_s3(s3: &S3Cache) -> Found {
    let word = s3.server_side_encryption.as_deref().unwrap_or_default();
    let encryption = (!word.is_empty() && S3Encryption::of(word).is_none())
        .then(|| format!("is {word:?}, and not S3, KMS or DSSE-KMS"));
    let has_keys = is_set(s3.access_key.as_ref()) && is_set(s3.secret_key.as_ref());
    let keys = (s3.authentication == Some(S3Authentication::AccessKey) && !has_keys)
        .then(|| "is access-key, which needs both AccessKey and SecretKey".to_owned());
    vec![("BucketName", name(&s3.bucket_name)), ("ServerSideEncryption", encryption), ("AuthenticationType", keys)]
}

fn of_gcs(gcs: &GcsCache) -> Found {
    let (has_id, has_key) = (gcs.access_id.is_some(), is_set(gcs.private_key.as_ref()));
    let alone = |other: &str| Some(format!("is missing beside {other}: set both, or neither"));
    let pair = match (has_id, has_key) {
        _ if gcs.credentials_file.is_some() => None,
        (true, false) => Some(("PrivateKey", alone("AccessID"))),
        (false, true) => Some(("AccessID", alone("PrivateKey"))),
        _ => None,
    };
    [("BucketName", name(&gcs.bucket_name))].into_iter().chain(pair).collect()
}

fn of_azure(azure: &AzureCache) -> Found {
    let account = azure.account_name.as_deref().unwrap_or_default();
    let domain = azure.storage_domain.as_deref().unwrap_or_default();
    vec![
        ("AccountName", name(account)),
        ("ContainerName", name(&azure.container_name)),
        ("StorageDomain", address(domain, "the domain")),
    ]
}

/// What is wrong with the name of a bucket, or of what is like it.
fn name(name: &str) -> Option<String> {
    if name.is_empty() { Some("is missing".to_owned()) } else { address(name, "the name") }
}

fn address(text: &str, wanted: &str) -> Option<String> {
    text.contains("://").then(|| format!("is {text:?}, an address: write {wanted} alone"))
}

fn is_set(secret: Option<&Secret>) -> bool {
    secret.is_some_and(|secret| !secret.is_empty())
}
