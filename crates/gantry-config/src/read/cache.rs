//! `[runners.cache]`.

use gantry_core::Secret;

use super::{runner, words};
use crate::section::Section;
use crate::settings::cache::{AzureCache, CacheKind, CacheSettings, GcsCache, S3Authentication, S3Cache};

pub(super) fn read(section: &Section<'_>) -> CacheSettings {
    let kinds = [("s3", CacheKind::S3), ("gcs", CacheKind::Gcs), ("azure", CacheKind::Azure)];
    CacheSettings {
        kind: words::optional(section, "Type", &kinds),
        path: section.text_or_empty("Path"),
        shared: section.flag("Shared"),
        max_archive_size: section.positive("MaxUploadedArchiveSize"),
        s3: section.section("s3", s3),
        gcs: section.section("gcs", gcs),
        azure: section.section("azure", azure),
    }
}

fn s3(section: &Section<'_>) -> S3Cache {
    let authentication = [("access-key", S3Authentication::AccessKey), ("iam", S3Authentication::Iam)];
    let role = section.text("RoleARN");
    let older_role = section.text("UploadRoleARN");
    S3Cache {
        server_address: section.text("ServerAddress"),
        access_key: secret(section, "AccessKey"),
        secret_key: secret(section, "SecretKey"),
        session_token: secret(section, "SessionToken"),
        bucket_name: section.text_or_empty("BucketName"),
        bucket_location: section.text("BucketLocation"),
        insecure: section.flag("Insecure"),
        authentication: words::optional(section, "AuthenticationType", &authentication),
        server_side_encryption: section.text("ServerSideEncryption"),
        server_side_encryption_key_id: section.text("ServerSideEncryptionKeyID"),
        dual_stack: section.bool("DualStack"),
        path_style: section.bool("PathStyle"),
        accelerate: section.flag("Accelerate"),
        role_arn: role.or(older_role),
        assume_role_max_concurrency: section.int("AssumeRoleMaxConcurrency").unwrap_or(0),
        disable_assume_role_credentials_caching: section.flag("DisableAssumeRoleCredentialsCaching"),
    }
}

fn gcs(section: &Section<'_>) -> GcsCache {
    GcsCache {
        credentials_file: runner::path(section, "CredentialsFile"),
        access_id: section.text("AccessID"),
        private_key: secret(section, "PrivateKey"),
        bucket_name: section.text_or_empty("BucketName"),
        universe_domain: section.text("UniverseDomain"),
    }
}

fn azure(section: &Section<'_>) -> AzureCache {
    AzureCache {
        account_name: section.text("AccountName"),
        account_key: secret(section, "AccountKey"),
        container_name: section.text_or_empty("ContainerName"),
        storage_domain: section.text("StorageDomain"),
    }
}

pub(super) fn secret(section: &Section<'_>, key: &'static str) -> Option<Secret> {
    section.text(key).map(Secret::new)
}
