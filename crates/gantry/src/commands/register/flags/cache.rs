//! Flags that are keys of `[runners.cache]`, which are capitalised.

use super::Kind::{self, Bool, Int, OptionalBool, Secret, Text};
use super::{Flag, Row, from_row, upper};

const HEADING: &str = "Cache";

const ROWS: [Row; 13] = [
    ("cache-type", "CACHE_TYPE", "cache.Type", Text, "Where caches are kept: s3, gcs or azure"),
    ("cache-path", "CACHE_PATH", "cache.Path", Text, "Prefix of their names"),
    ("cache-shared", "CACHE_SHARED", "cache.Shared", Bool, "Share caches between runners"),
    (
        "cache-max_uploaded_archive_size",
        "CACHE_MAXIMUM_UPLOADED_ARCHIVE_SIZE",
        "cache.MaxUploadedArchiveSize",
        Int,
        "Largest cache in bytes",
    ),
    ("cache-gcs-access-id", "CACHE_GCS_ACCESS_ID", "cache.gcs.AccessID", Text, "Account for the bucket"),
    ("cache-gcs-private-key", "CACHE_GCS_PRIVATE_KEY", "cache.gcs.PrivateKey", Secret, "Its key"),
    (
        "cache-gcs-credentials-file",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "cache.gcs.CredentialsFile",
        Text,
        "A file with account and key",
    ),
    ("cache-gcs-bucket-name", "CACHE_GCS_BUCKET_NAME", "cache.gcs.BucketName", Text, "Bucket for caches"),
    (
        "cache-gcs-universe-domain",
        "CACHE_GCS_UNIVERSE_DOMAIN",
        "cache.gcs.UniverseDomain",
        Text,
        "Domain of the service",
    ),
    ("cache-azure-account-name", "CACHE_AZURE_ACCOUNT_NAME", "cache.azure.AccountName", Text, "Storage account"),
    ("cache-azure-account-key", "CACHE_AZURE_ACCOUNT_KEY", "cache.azure.AccountKey", Secret, "Its key"),
    (
        "cache-azure-container-name",
        "CACHE_AZURE_CONTAINER_NAME",
        "cache.azure.ContainerName",
        Text,
        "Container for caches",
    ),
    (
        "cache-azure-storage-domain",
        "CACHE_AZURE_STORAGE_DOMAIN",
        "cache.azure.StorageDomain",
        Text,
        "Domain of the service",
    ),
];

/// `--cache-s3-<word>`, `CACHE_S3_<WORD>`, the key below `[runners.cache.s3]`, kind, help.
const S3: [(&str, &str, Kind, &str); 17] = [
    ("server-address", "ServerAddress", Text, "Host and port of the service"),
    ("access-key", "AccessKey", Text, "Name of the access key"),
    ("secret-key", "SecretKey", Secret, "The access key's secret"),
    ("session-token", "SessionToken", Secret, "Token of a temporary access key"),
    ("bucket-name", "BucketName", Text, "Bucket for caches"),
    ("bucket-location", "BucketLocation", Text, "Its region"),
    ("insecure", "Insecure", Bool, "Use HTTP without TLS"),
    ("authentication_type", "AuthenticationType", Text, "access-key or iam"),
    ("server-side-encryption", "ServerSideEncryption", Text, "S3, KMS or DSSE-KMS"),
    ("server-side-encryption-key-id", "ServerSideEncryptionKeyID", Text, "Key of the encryption"),
    ("dual-stack", "DualStack", OptionalBool, "Use the addresses that have IPv6 too"),
    ("path-style", "PathStyle", OptionalBool, "Name the bucket in the path and not in the host"),
    ("accelerate", "Accelerate", Bool, "Use transfer acceleration"),
    ("role-arn", "RoleARN", Text, "Role for reading and writing caches"),
    ("upload-role-arn", "UploadRoleARN", Text, "Role for writing large caches"),
    ("assume-role-max-concurrency", "AssumeRoleMaxConcurrency", Int, "Simultaneous requests for a role's credentials"),
    (
        "disable-assume-role-credentials-caching",
        "DisableAssumeRoleCredentialsCaching",
        Bool,
        "Ask for a role's credentials anew for each job",
    ),
];

pub(super) fn flags() -> Vec<Flag> {
    let s3 = S3.iter().map(|(word, key, kind, help)| {
        let long = format!("cache-s3-{word}");
        let path = ["cache", "s3", key].map(str::to_owned).to_vec();
        let env = Some(upper(&long));
        let alias = super::hyphenated(&long);
        Flag { long, short: None, alias, env, path, kind: *kind, help: (*help).to_owned(), heading: HEADING }
    });
    let (general, others) = ROWS.split_at(4);
    let rows = |rows: &'static [Row]| rows.iter().map(|row| from_row(HEADING, row));
    rows(general).chain(s3).chain(rows(others)).collect()
}
