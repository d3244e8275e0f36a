//! Keys that do nothing because of other keys of their entry: one warning each, which names the
//! other.

use gantry_core::feature_flags::{self, FLAGS, FeatureFlag, parse_bool};
use gantry_core::{Secret, go_duration};

use super::RunnerSettings;
use super::cache::{AzureCache, CacheKind, GcsCache, S3Authentication, S3Cache, StoreProblem};
use super::kubernetes::{Autoscaler, KubernetesSettings};
use super::runner::BootVerify;
use crate::names::has_variable;
use crate::nearest::nearest;
use crate::problem::Severity;
use crate::section::Section;

/// Checks an entry.
pub(super) fn check(section: &Section<'_>, settings: &RunnerSettings) {
    check_caches(section, settings);
    check_environment(section, settings);
    let times = &settings.boot_verify;
    let without_times = BootVerify { enabled: times.enabled, ..BootVerify::default() };
    if !times.enabled && *times != without_times {
        warn(&section.table("experimental"), "boot_verify", "enabled is not true");
    }
    if settings.git_mirror.is_none() && settings.git_mirror_limit.is_some() {
        warn(&section.table("gantry"), "git_mirror_limit", "git_mirror is not set");
    }
    let start = settings.kubernetes.timing.poll_timeout;
    if settings.prepare_timeout.is_some_and(|limit| limit >= start) {
        let message =
            format!("poll_timeout of [runners.kubernetes] is {}, and ends it first", go_duration::format(start));
        warn(section, "prepare_timeout", &message);
    }
    let kubernetes = &settings.kubernetes;
    let table = section.table("kubernetes");
    check_access(&table, kubernetes);
    check_images(&table, kubernetes);
    check_capabilities(&table, kubernetes);
    let pause = &kubernetes.autoscaler;
    if pause.policies.is_empty() && *pause != Autoscaler::default() {
        warn(&table, "autoscaler", "it has no policy, and without one there are no pause pods");
    }
}

fn warn(section: &Section<'_>, key: &str, because: &str) {
    section.problem(Severity::Warning, key, format!("has no effect: {because}"));
}

fn check_caches(section: &Section<'_>, settings: &RunnerSettings) {
    let cache = &settings.cache;
    let table = section.table("cache");
    for StoreProblem { table: store, key, message } in cache.problems() {
        table.table(store).problem(Severity::Warning, key, format!("{message}: no cache is kept"));
    }
    if cache.kind == Some(CacheKind::S3) {
        check_s3(&table.table("s3"), &cache.s3);
    }
    for (key, kind, is_set) in [
        ("s3", CacheKind::S3, cache.s3 != S3Cache::default()),
        ("gcs", CacheKind::Gcs, cache.gcs != GcsCache::default()),
        ("azure", CacheKind::Azure, cache.azure != AzureCache::default()),
    ] {
        if is_set && cache.kind != Some(kind) {
            warn(&table, key, &format!("Type in [runners.cache] is not {key:?}"));
        }
    }
}

fn check_s3(table: &Section<'_>, s3: &S3Cache) {
    let is_set = |secret: &Option<Secret>| secret.as_ref().is_some_and(|secret| !secret.is_empty());
    let address = s3.server_address.as_deref().unwrap_or_default();
    let scheme = address.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    match (scheme.as_deref(), s3.insecure) {
        (Some("http"), false) => {
            let message = "http:// in it has no effect, and the store is asked over TLS: set Insecure = true instead";
            table.problem(Severity::Warning, "ServerAddress", message);
        }
        (Some("https"), true) => {
            let message = "https:// in it has no effect, and the store is asked without TLS: leave Insecure out";
            table.problem(Severity::Warning, "ServerAddress", message);
        }
        _ => {}
    }
    let (access, secret) = (is_set(&s3.access_key), is_set(&s3.secret_key));
    let (key, because) = match (s3.authentication, access, secret) {
        (Some(S3Authentication::Iam), true, _) => ("AccessKey", "AuthenticationType is iam"),
        // That this needs both is said of the store.
        (Some(S3Authentication::AccessKey), ..) => return,
        (_, true, false) => ("AccessKey", "SecretKey is not set"),
        (_, false, true) => ("SecretKey", "AccessKey is not set"),
        (None, true, true) if address.is_empty() => {
            ("AccessKey", "neither ServerAddress nor AuthenticationType = \"access-key\" is set")
        }
        _ => return,
    };
    warn(table, key, because);
}

fn check_access(table: &Section<'_>, settings: &KubernetesSettings) {
    if settings.host.is_some() && settings.context.is_some() {
        warn(table, "context", "host is set, and no kubeconfig is read");
    }
    for (key, is_set) in [
        ("cert_file", settings.cert_file.is_some()),
        ("key_file", settings.key_file.is_some()),
        ("ca_file", settings.ca_file.is_some()),
    ] {
        if is_set && settings.host.is_none() {
            warn(
                table,
                key,
                "host is not set, and the cluster that the runner is in, or the kubeconfig, brings its own",
            );
        }
    }
}

fn check_images(table: &Section<'_>, settings: &KubernetesSettings) {
    // A variable of a job may leave nothing of it.
    let helper = settings.helper_image.as_ref().filter(|image| !has_variable(image));
    if helper.is_some() && settings.helper_image_flavor.is_some() {
        warn(table, "helper_image_flavor", "helper_image is set");
    }
    if settings.helper_image_autoset_arch_and_os {
        let selects = settings.node_selector.contains_key("kubernetes.io/arch");
        let because =
            helper.map(|_| "helper_image is set").or(selects.then_some("node_selector says the architecture"));
        if let Some(because) = because {
            warn(table, "helper_image_autoset_arch_and_os", because);
        }
    }
    if settings.use_service_account_image_pull_secrets && !settings.image_pull_secrets.is_empty() {
        warn(table, "image_pull_secrets", "use_service_account_image_pull_secrets is set");
    }
}

fn check_capabilities(table: &Section<'_>, settings: &KubernetesSettings) {
    for found in table.items("cap_add", "a list of strings") {
        if found.text().is_some_and(|name| settings.cap_drop.contains(&name)) {
            found.problem(Severity::Warning, "has no effect: cap_drop drops it");
        }
    }
}

/// Flags and variables of `environment` that something else in the entry overrules or does not let
/// through. Those that never act are said where the list is read.
fn check_environment(section: &Section<'_>, settings: &RunnerSettings) {
    for found in section.items("environment", "a list of \"KEY=value\"") {
        let Some(text) = found.text() else { continue };
        let Some((name, value)) = text.split_once('=').filter(|(_, value)| !value.is_empty()) else { continue };
        let configured = settings.feature_flags.get(name).filter(|flag| parse_bool(value) != Some(**flag));
        let message = if let Some(configured) = configured {
            format!("{name} has no effect: [runners.feature_flags] says {configured}")
        } else if feature_flags::find(name).is_some_and(FeatureFlag::is_of_runner) {
            format!("{name} has no effect in a job: set it in [runners.feature_flags]")
        } else if name.starts_with("FF_") && feature_flags::find(name).is_none() {
            match nearest(name, FLAGS.iter().map(|flag| flag.name)) {
                Some(near) => format!("{name} is no feature flag and has no effect: did you mean {near}?"),
                // Scripts may have flags of their own.
                None => format!("{name} is no feature flag: nothing but scripts of jobs sees it"),
            }
        } else if feature_flags::find(name).is_some() && parse_bool(value).is_none() {
            format!("{name} is neither true nor false, and has no effect: write true or false")
        } else if let Some(gate) = settings.kubernetes.closed_gate(name) {
            format!("{name} has no effect: {gate} is not set in [runners.kubernetes]")
        } else {
            continue;
        };
        found.problem(Severity::Warning, message);
    }
}
