//! `[runners.cache]` as the settings of a store. Pure.

use gantry_config::settings::cache::{
    AzureCache, CacheKind, CacheSettings, GcsCache, S3Authentication, S3Cache, S3Encryption,
};
use gantry_core::Secret;
use gantry_storage::{
    AzureSettings, Credentials, Encryption, GcsKey, GcsSettings, RoleSettings, S3Access, S3Settings, Settings,
};

/// Roles assumed at once where nothing is set (GitLab Runner 19.4).
const ROLES_AT_ONCE: usize = 5;

/// The store, if one is chosen; or why it cannot be one.
pub(super) fn of(cache: &CacheSettings) -> Option<Result<Settings, String>> {
    let kind = cache.kind?;
    if let Some(problem) = cache.problems().first() {
        return Some(Err(problem.to_string()));
    }
    Some(Ok(match kind {
        CacheKind::S3 => Settings::S3(Box::new(s3(&cache.s3))),
        CacheKind::Gcs => Settings::Gcs(gcs(&cache.gcs)),
        CacheKind::Azure => Settings::Azure(azure(&cache.azure)),
    }))
}

/// What nobody may show.
pub(super) fn secrets(cache: &CacheSettings) -> impl Iterator<Item = &Secret> {
    let S3Cache { secret_key, session_token, .. } = &cache.s3;
    [secret_key, session_token, &cache.gcs.private_key, &cache.azure.account_key].into_iter().flatten()
}

fn s3(s3: &S3Cache) -> S3Settings {
    let encryption = s3.server_side_encryption.as_deref().and_then(S3Encryption::of).map(|way| match way {
        S3Encryption::S3 => Encryption::S3,
        S3Encryption::Kms => Encryption::Kms,
        S3Encryption::DsseKms => Encryption::DsseKms,
    });
    S3Settings {
        server_address: filled(s3.server_address.as_ref()),
        bucket: s3.bucket_name.clone(),
        region: filled(s3.bucket_location.as_ref()),
        insecure: s3.insecure,
        path_style: s3.path_style,
        dual_stack: s3.dual_stack.unwrap_or(true),
        accelerate: s3.accelerate,
        access: s3_access(s3),
        encryption,
        encryption_key: filled(s3.server_side_encryption_key_id.as_ref()),
        role: filled(s3.role_arn.as_ref()).map(|arn| RoleSettings {
            arn,
            concurrency: match s3.assume_role_max_concurrency {
                0 => Some(ROLES_AT_ONCE),
                bound => usize::try_from(bound).ok(),
            },
            keeps: !s3.disable_assume_role_credentials_caching,
        }),
    }
}

/// Keys count where they are asked for, or where an address stands beside them (GitLab Runner
/// 19.4).
fn s3_access(s3: &S3Cache) -> S3Access {
    let keys = || {
        let access_key = s3.access_key.as_ref().map(|key| key.expose().to_owned()).filter(|key| !key.is_empty())?;
        let secret_key = s3.secret_key.clone().filter(|key| !key.is_empty())?;
        let session_token = s3.session_token.clone().filter(|token| !token.is_empty());
        Some(Credentials { access_key, secret_key, session_token })
    };
    match s3.authentication {
        Some(S3Authentication::Iam) => S3Access::Surroundings,
        Some(S3Authentication::AccessKey) => keys().map_or(S3Access::Surroundings, S3Access::Keys),
        None if filled(s3.server_address.as_ref()).is_some() => keys().map_or(S3Access::Surroundings, S3Access::Keys),
        None => {
            if keys().is_some() {
                tracing::warn!(
                    "AccessKey and SecretKey of [runners.cache.s3] are not used: set AuthenticationType = \"access-key\", or ServerAddress"
                );
            }
            S3Access::Surroundings
        }
    }
}

fn gcs(gcs: &GcsCache) -> GcsSettings {
    let access_id = filled(gcs.access_id.as_ref());
    let private_key = gcs.private_key.clone().filter(|key| !key.is_empty());
    let key = match (&gcs.credentials_file, access_id, private_key) {
        (Some(file), _, _) => GcsKey::File(file.display().to_string()),
        (None, Some(access_id), Some(private_key)) => GcsKey::Pair { access_id, private_key },
        (None, _, _) => GcsKey::Surroundings,
    };
    GcsSettings { bucket: gcs.bucket_name.clone(), universe_domain: filled(gcs.universe_domain.as_ref()), key }
}

fn azure(azure: &AzureCache) -> AzureSettings {
    AzureSettings {
        account: azure.account_name.clone().unwrap_or_default(),
        key: azure.account_key.clone().filter(|key| !key.is_empty()),
        container: azure.container_name.clone(),
        domain: filled(azure.storage_domain.as_ref()),
    }
}

fn filled(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> S3Cache {
        S3Cache { access_key: Some("A".into()), secret_key: Some("S".into()), ..S3Cache::default() }
    }

    #[test]
    fn keys_count_where_the_reference_takes_them() {
        let address = Some("minio:9000".to_owned());
        let is_keys = |s3: &S3Cache| matches!(s3_access(s3), S3Access::Keys(_));
        assert!(!is_keys(&keys()));
        assert!(is_keys(&S3Cache { server_address: address.clone(), ..keys() }));
        assert!(is_keys(&S3Cache { authentication: Some(S3Authentication::AccessKey), ..keys() }));
        let iam = S3Cache { authentication: Some(S3Authentication::Iam), server_address: address, ..keys() };
        assert!(!is_keys(&iam));
    }

    #[test]
    fn what_contradicts_itself_is_told() {
        let bucket_name = "b".to_owned();
        let half = CacheSettings {
            kind: Some(CacheKind::Gcs),
            gcs: GcsCache { bucket_name: bucket_name.clone(), access_id: Some("a".into()), ..GcsCache::default() },
            ..CacheSettings::default()
        };
        let why = of(&half).unwrap().unwrap_err();
        assert_eq!(why, "PrivateKey in [runners.cache.gcs] is missing beside AccessID: set both, or neither");
        let odd = S3Cache { bucket_name, server_side_encryption: Some("rot13".into()), ..S3Cache::default() };
        let odd = CacheSettings { kind: Some(CacheKind::S3), s3: odd, ..CacheSettings::default() };
        assert!(of(&odd).unwrap().unwrap_err().contains("rot13"));
        assert!(of(&CacheSettings::default()).is_none());
    }
}
