//! `[runners.cache]`: where caches of jobs are kept.

use std::path::PathBuf;

use gantry_core::Secret;

/// `[runners.cache]`. Keys of the file are capitalised (`ServerAddress`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheSettings {
    /// `Type`; `None` means that caches stay local.
    pub kind: Option<CacheKind>,
    /// `Path`: prefix of object names.
    pub path: String,
    /// `Shared`: between runners.
    pub shared: bool,
    /// `MaxUploadedArchiveSize` in bytes; `None` is no limit.
    pub max_archive_size: Option<u64>,
    /// `[s3]`.
    pub s3: S3Cache,
    /// `[gcs]`.
    pub gcs: GcsCache,
    /// `[azure]`.
    pub azure: AzureCache,
}

/// Which object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// S3 and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// `[runners.cache.s3]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Cache {
    /// `ServerAddress`: host and port without a scheme; `None` is AWS.
    pub server_address: Option<String>,
    /// `AccessKey`.
    pub access_key: Option<Secret>,
    /// `SecretKey`.
    pub secret_key: Option<Secret>,
    /// `SessionToken`.
    pub session_token: Option<Secret>,
    /// `BucketName`.
    pub bucket_name: String,
    /// `BucketLocation`.
    pub bucket_location: Option<String>,
    /// `Insecure`: plain HTTP.
    pub insecure: bool,
    /// `AuthenticationType`; `None` means access keys if address and both keys are given, else IAM.
    pub authentication: Option<S3Authentication>,
    /// `ServerSideEncryption`, as written.
    pub server_side_encryption: Option<String>,
    /// `ServerSideEncryptionKeyID`.
    pub server_side_encryption_key_id: Option<String>,
    /// `DualStack`; `None` means yes.
    pub dual_stack: Option<bool>,
    /// `PathStyle`; `None` decides by the address.
    pub path_style: Option<bool>,
    /// `Accelerate`.
    pub accelerate: bool,
    /// `RoleARN`, or the older `UploadRoleARN`.
    pub role_arn: Option<String>,
    /// `AssumeRoleMaxConcurrency`: 0 means 5, -1 no bound.
    pub assume_role_max_concurrency: i64,
    /// `DisableAssumeRoleCredentialsCaching`.
    pub disable_assume_role_credentials_caching: bool,
}

/// `AuthenticationType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Authentication {
    /// `access-key`.
    AccessKey,
    /// `iam`.
    Iam,
}

/// `[runners.cache.gcs]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcsCache {
    /// `CredentialsFile`; wins over the two keys.
    pub credentials_file: Option<PathBuf>,
    /// `AccessID`.
    pub access_id: Option<String>,
    /// `PrivateKey`.
    pub private_key: Option<Secret>,
    /// `BucketName`.
    pub bucket_name: String,
    /// `UniverseDomain`.
    pub universe_domain: Option<String>,
}

/// `[runners.cache.azure]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AzureCache {
    /// `AccountName`.
    pub account_name: Option<String>,
    /// `AccountKey`.
    pub account_key: Option<Secret>,
    /// `ContainerName`.
    pub container_name: String,
    /// `StorageDomain`; `None` means `blob.core.windows.net`.
    pub storage_domain: Option<String>,
}
