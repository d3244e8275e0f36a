//! `[runners.cache]`: where caches of jobs are kept. Keys of the file are capitalised.

use std::path::PathBuf;

use gantry_core::Secret;

use crate::declare::table;
use crate::key::Form;
use crate::kinds::{Meanings, custom, flag, path, positive, secret, switch, table, text, text_or, word_or_other};

mod problems;

pub use problems::StoreProblem;

table! {
    /// `[runners.cache]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct CacheSettings {
        /// Which object storage; without it caches stay local.
        kind: Option<CacheKind> =
            word_or_other("Type", KINDS, (": no object storage keeps caches", None)).flag_as("type");
        /// What names of objects begin with.
        path: String = text_or("Path", "").flag_as("path");
        /// Share caches between runners.
        shared: bool = flag("Shared").flag_as("shared");
        /// Largest cache in bytes; 0 is no limit. With more than 5 GiB here, caches go to S3 in
        /// parts, which are packed while they are sent: without that, an archive has at most 5 GiB.
        max_archive_size: Option<u64> = positive("MaxUploadedArchiveSize")
            .flag_as("max_uploaded_archive_size").variable("CACHE_MAXIMUM_UPLOADED_ARCHIVE_SIZE");
        /// S3 and what speaks like it.
        s3: S3Cache = table("s3").flag_as("s3");
        /// Google Cloud Storage.
        gcs: GcsCache = table("gcs").flag_as("gcs");
        /// Azure Blob Storage.
        azure: AzureCache = table("azure").flag_as("azure");
    }
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

const KINDS: Meanings<CacheKind> = &[("s3", CacheKind::S3), ("gcs", CacheKind::Gcs), ("azure", CacheKind::Azure)];

table! {
    /// `[runners.cache.s3]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct S3Cache {
        /// Host and port of the service, without a scheme; without it AWS.
        server_address: Option<String> = text("ServerAddress").flag_as("server-address");
        /// Name of the access key.
        access_key: Option<Secret> = secret("AccessKey").flag_as("access-key");
        /// The access key's secret.
        secret_key: Option<Secret> = secret("SecretKey").flag_as("secret-key");
        /// Token of a temporary access key.
        session_token: Option<Secret> = secret("SessionToken").flag_as("session-token");
        /// Bucket for caches.
        bucket_name: String = text_or("BucketName", "").flag_as("bucket-name");
        /// Region of the bucket.
        bucket_location: Option<String> = text("BucketLocation").flag_as("bucket-location");
        /// Use HTTP without TLS.
        insecure: bool = flag("Insecure").flag_as("insecure");
        /// How requests are authorised; without it by access key if address and both keys are
        /// given, else by IAM.
        authentication: Option<S3Authentication> =
            word_or_other("AuthenticationType", AUTHENTICATIONS, OTHER_AUTHENTICATION)
                .flag_as("authentication_type");
        /// Encryption by the service: `S3`, `KMS` or `DSSE-KMS`.
        server_side_encryption: Option<String> = text("ServerSideEncryption").flag_as("server-side-encryption");
        /// Key of that encryption.
        server_side_encryption_key_id: Option<String> =
            text("ServerSideEncryptionKeyID").flag_as("server-side-encryption-key-id");
        /// Use the addresses that have IPv6 too; without it yes.
        dual_stack: Option<bool> = switch("DualStack").flag_as("dual-stack");
        /// Name the bucket in the path and not in the host; without it the address decides.
        path_style: Option<bool> = switch("PathStyle").flag_as("path-style");
        /// Use transfer acceleration.
        accelerate: bool = flag("Accelerate").flag_as("accelerate");
        /// Role for reading and writing caches; `UploadRoleARN` is its older name.
        role_arn: Option<String> = custom("RoleARN", Form::Text, "", |section, key| {
            section.text(key).or_else(|| section.text("UploadRoleARN"))
        }).flag_as("role-arn");
        /// Simultaneous requests for a role's credentials: 0 means 5, -1 no bound.
        assume_role_max_concurrency: i64 =
            custom("AssumeRoleMaxConcurrency", Form::Signed, "0", |section, key| section.int(key).unwrap_or(0))
                .flag_as("assume-role-max-concurrency");
        /// Ask for a role's credentials anew for each job.
        disable_assume_role_credentials_caching: bool =
            flag("DisableAssumeRoleCredentialsCaching").flag_as("disable-assume-role-credentials-caching");
    }
    unread {
        /// Older name of `RoleARN`.
        text("UploadRoleARN").flag_as("upload-role-arn");
    }
}

/// `AuthenticationType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Authentication {
    /// `access-key`.
    AccessKey,
    /// `iam`.
    Iam,
}

const AUTHENTICATIONS: Meanings<S3Authentication> =
    &[("access-key", S3Authentication::AccessKey), ("iam", S3Authentication::Iam)];

/// `ServerSideEncryption`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Encryption {
    /// With keys of the store.
    S3,
    /// With a key of the key management service.
    Kms,
    /// The same, twice.
    DsseKms,
}

impl S3Encryption {
    /// What a word means, in any case (GitLab Runner 19.4).
    pub fn of(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "s3" | "aes256" => Self::S3,
            "kms" | "aws:kms" => Self::Kms,
            "dsse-kms" | "aws:kms:dsse" => Self::DsseKms,
            _ => return None,
        })
    }
}

/// What Amazon's kit does without keys of the file (GitLab Runner 19.4).
const OTHER_AUTHENTICATION: (&str, Option<S3Authentication>) = (", and is taken as iam", Some(S3Authentication::Iam));

table! {
    /// `[runners.cache.gcs]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct GcsCache {
        /// A file with account and key; beats these.
        credentials_file: Option<PathBuf> =
            path("CredentialsFile").flag_as("credentials-file").variable("GOOGLE_APPLICATION_CREDENTIALS");
        /// Account for the bucket.
        access_id: Option<String> = text("AccessID").flag_as("access-id");
        /// Key of the account.
        private_key: Option<Secret> = secret("PrivateKey").flag_as("private-key");
        /// Bucket for caches.
        bucket_name: String = text_or("BucketName", "").flag_as("bucket-name");
        /// Domain of the service; without it that of Google's public cloud.
        universe_domain: Option<String> = text("UniverseDomain").flag_as("universe-domain");
    }
}

table! {
    /// `[runners.cache.azure]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AzureCache {
        /// Storage account.
        account_name: Option<String> = text("AccountName").flag_as("account-name");
        /// Key of the account.
        account_key: Option<Secret> = secret("AccountKey").flag_as("account-key");
        /// Container for caches.
        container_name: String = text_or("ContainerName", "").flag_as("container-name");
        /// Domain of the service; without it `blob.core.windows.net`.
        storage_domain: Option<String> = text("StorageDomain").flag_as("storage-domain");
    }
}
