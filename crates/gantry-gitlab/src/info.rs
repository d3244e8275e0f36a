//! The `info` object: who we are and what we can do (GitLab Runner 19.4, `common/network.go`).
//! GitLab drops jobs that need a feature whose flag is false, so a flag here must be true exactly
//! when the feature works.

use std::collections::BTreeMap;

use serde::Serialize;

/// The release of GitLab Runner whose protocol we speak. GitLab compares `info.version` with its
/// own to show "outdated" badges and to choose protocol variants, so it must not be our own
/// version; that one is in `info.revision`.
pub const PROTOCOL_VERSION: &str = "19.4.0";

/// Our own version, and the commit when the build knew it.
const REVISION: &str = match option_env!("GANTRY_COMMIT") {
    Some(commit) => commit,
    None => env!("CARGO_PKG_VERSION"),
};

/// Who asks, and what it can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunnerInfo {
    name: &'static str,
    version: &'static str,
    revision: String,
    platform: &'static str,
    architecture: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    executor: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    shell: String,
    features: Features,
    config: Config,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

/// The reference sends this object always, and fills it for other executors only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Config {
    gpus: &'static str,
}

macro_rules! features {
    ($($name:ident: $kubernetes:literal, $network:literal;)*) => {
        /// Feature flags, in the reference's wire order. Every one is always sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[expect(missing_docs, reason = "the names are the protocol's own words")]
        pub struct Features { $(pub $name: bool,)* }

        impl Features {
            /// What the Kubernetes executor can do.
            pub const KUBERNETES: Self = Self { $($name: $kubernetes,)* };
            /// What any runner can do that speaks this protocol: sent when no executor is chosen
            /// yet.
            pub const NETWORK: Self = Self { $($name: $network,)* };
        }
    };
}

// False where the reference says true: native_steps_integration is not there yet. `shared` and
// `service_executor_opts` are false in the reference too.
features! {
    variables: true, false;
    image: true, false;
    services: true, false;
    artifacts: true, false;
    cache: true, false;
    fallback_cache_keys: true, false;
    shared: false, false;
    upload_multiple_artifacts: true, false;
    upload_raw_artifacts: true, false;
    session: true, false;
    terminal: true, false;
    refspecs: true, false;
    masking: true, false;
    proxy: true, false;
    raw_variables: true, false;
    artifacts_exclude: true, false;
    multi_build_steps: true, false;
    trace_reset: true, true;
    trace_checksum: true, true;
    trace_size: true, true;
    vault_secrets: true, false;
    cancelable: true, true;
    return_exit_code: true, false;
    service_variables: true, false;
    service_multiple_aliases: true, false;
    image_executor_opts: true, false;
    service_executor_opts: false, false;
    cancel_gracefully: true, true;
    native_steps_integration: false, false;
    two_phase_job_commit: true, true;
    job_inputs: true, true;
}

impl RunnerInfo {
    /// For everything but registration. `shell` is the configured one, empty for the default
    /// (`bash`); `labels` are already checked.
    pub fn kubernetes(shell: &str, labels: BTreeMap<String, String>) -> Self {
        let shell = if shell.is_empty() { "bash" } else { shell }.to_owned();
        Self { executor: "kubernetes", shell, features: Features::KUBERNETES, labels, ..Self::for_registration() }
    }

    /// For `POST runners` with a registration token, where the reference says nothing about
    /// executor, shell and labels.
    pub(crate) fn for_registration() -> Self {
        Self {
            name: "gantry",
            version: PROTOCOL_VERSION,
            revision: REVISION.to_owned(),
            platform: platform(),
            architecture: architecture(),
            executor: "",
            shell: String::new(),
            features: Features::NETWORK,
            config: Config::default(),
            labels: BTreeMap::new(),
        }
    }

    /// What is advertised.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Version and commit of this program, as sent in `revision`.
    pub fn revision() -> &'static str {
        REVISION
    }
}

/// Name of the operating system, in Go's words.
pub fn platform() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

/// Name of the processor architecture, in Go's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// `User-Agent` in the reference's shape: name, version, and in brackets the protocol's version and
/// the platform.
pub(crate) fn user_agent() -> String {
    format!("gantry {} ({PROTOCOL_VERSION}; {}/{})", env!("CARGO_PKG_VERSION"), platform(), architecture())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_on_the_wire() {
        let mut info = RunnerInfo::kubernetes("", BTreeMap::from([("region".to_owned(), "eu-1".to_owned())]));
        info.architecture = "amd64";
        info.platform = "linux";
        info.revision = "0.0.0".to_owned();
        insta::assert_snapshot!(serde_json::to_string_pretty(&info).unwrap());
    }

    #[test]
    fn registration_says_only_what_the_network_layer_can_do() {
        let value = serde_json::to_value(RunnerInfo::for_registration()).unwrap();
        assert!(value.get("executor").is_none() && value.get("shell").is_none() && value.get("labels").is_none());
        let on: Vec<_> = value["features"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, on)| **on == true)
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(
            on,
            [
                "cancel_gracefully",
                "cancelable",
                "job_inputs",
                "trace_checksum",
                "trace_reset",
                "trace_size",
                "two_phase_job_commit"
            ]
        );
    }
}
