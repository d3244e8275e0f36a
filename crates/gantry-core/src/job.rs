//! The job as GitLab hands it out: the body of the 201 to `POST jobs/request` (GitLab Runner 19.4,
//! `common/spec/spec.go`).
//!
//! Decoding is strict about types and lenient about absence: a key may be missing or `null`, a
//! wrong type is an error that names its place. What the values mean is decided by `gantry-plan`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::lenient::or_default;
use crate::secret::Secret;
use crate::variables::Variable;

macro_rules! payload {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        pub struct $name {
            $($(#[$field_meta])* #[serde(default, deserialize_with = "or_default")] pub $field: $type,)*
        }
    )*};
}

mod inputs;
mod options;
mod secrets;

pub use inputs::{Input, InputContent, InputValue};
pub use options::{DockerOpts, ExecutorOpts, KubernetesOpts, UserOpt};
pub use secrets::{
    AwsSecret, AzureSecret, GcpSecret, GitlabSecret, Plain, SecretSpec, VaultAuth, VaultEngine, VaultSecret,
    VaultServer,
};

payload! {
    /// One job.
    pub struct JobSpec {
        /// The job's id, unique in its GitLab.
        id: i64,
        /// The job token, for the API, git and registries.
        token: Secret,
        /// Whether `fetch` is the default of `GIT_STRATEGY`; else `clone`.
        allow_git_fetch: bool,
        /// Names and ids.
        job_info: JobInfo,
        /// What to check out.
        git_info: GitInfo,
        /// The time-out.
        runner_info: RunnerInfo,
        /// In order; the last duplicate wins.
        variables: Vec<Variable>,
        /// The user's scripts, in order, `after_script` among them.
        steps: Vec<Step>,
        /// The build image; an empty name means the runner's default.
        image: Image,
        /// Containers beside the build container.
        services: Vec<Image>,
        /// What to upload.
        artifacts: Vec<Artifact>,
        /// Caches to restore and save.
        cache: Vec<Cache>,
        /// Registry credentials.
        credentials: Vec<Credentials>,
        /// Earlier jobs whose artifacts are wanted.
        dependencies: Vec<Dependency>,
        /// What this GitLab can do.
        features: Features,
        /// Hooks of the job's definition.
        hooks: Vec<Hook>,
        /// Native steps (`run:` of the job's definition): JSON inside a text, not parsed here.
        /// Absent, `[]` and `null` mean none.
        run: Option<String>,
        /// Variables whose values the runner is to fetch from a secret store.
        secrets: BTreeMap<String, SecretSpec>,
        /// Inputs of the job's definition.
        inputs: Vec<Input>,
        /// The policy that the job is of, if it is of one.
        policy_options: PolicyOptions,
    }

    /// Names and ids of a job (payload key `job_info`).
    pub struct JobInfo {
        /// The job's name.
        name: String,
        /// The pipeline stage it belongs to.
        stage: String,
        /// The pipeline's id.
        pipeline_id: i64,
        /// The project's id.
        project_id: i64,
        /// The project's name, without its group.
        project_name: String,
        /// The project's path with its groups.
        project_full_path: String,
        /// The id of the project's group.
        namespace_id: i64,
        /// The id of the outermost group.
        root_namespace_id: i64,
        /// The id of the organization.
        organization_id: i64,
        /// Who started the job.
        user_id: i64,
        /// Seconds the job waited for a runner.
        time_in_queue_seconds: f64,
        /// How many jobs of the project run on instance runners: a metric label such as `5` or
        /// `50+`.
        project_jobs_running_on_instance_runners_count: String,
        /// Length of the queue the job came from.
        queue_size: i64,
        /// Place of the job in that queue.
        queue_depth: i64,
    }

    /// What to check out (payload key `git_info`).
    pub struct GitInfo {
        /// Contains the job token as password: never shown as it is.
        repo_url: Secret,
        /// Hash algorithm of the repository; empty means `sha1`.
        repo_object_format: String,
        /// Branch or tag.
        #[serde(rename = "ref")]
        git_ref: String,
        /// The commit.
        sha: String,
        /// The commit before the push; all zeros for a new branch.
        before_sha: String,
        /// `branch` or `tag`.
        ref_type: String,
        /// What to fetch, used as it is.
        refspecs: Vec<String>,
        /// Commits of history to fetch; 0 is all.
        depth: i64,
    }

    /// The time-out (payload key `runner_info`).
    pub struct RunnerInfo {
        /// Seconds; 0 or less means the default of two hours.
        timeout: i64,
    }

    /// One user script.
    pub struct Step {
        /// `script`, `after_script`, or others such as `release`.
        name: String,
        /// One shell command block each.
        script: Vec<String>,
    }

    /// An image of a build or service container.
    pub struct Image {
        /// The image reference, expanded with job variables.
        name: String,
        /// Host names of a service, separated by blanks or commas.
        #[serde(rename = "alias")]
        aliases: String,
        /// Replaces the image's entrypoint.
        entrypoint: Vec<String>,
        /// Replaces the image's command (services).
        command: Vec<String>,
        /// Ports offered to the service proxy.
        ports: Vec<Port>,
        /// Variables of this service only.
        variables: Vec<Variable>,
        /// `always`, `if-not-present`, `never`, in order of preference.
        pull_policy: Vec<String>,
        /// Options for one executor each.
        executor_opts: ExecutorOpts,
    }

    /// One port of an image.
    pub struct Port {
        /// The TCP port.
        number: i64,
        /// `http` or `https`.
        protocol: String,
        /// A name to address it by.
        name: String,
    }

    /// An artifact to upload.
    pub struct Artifact {
        /// Base name of the archive; empty means `artifacts`.
        name: String,
        /// Also files that git does not track.
        untracked: bool,
        /// Globs, relative to the project.
        paths: Vec<String>,
        /// Globs to leave out.
        exclude: Vec<String>,
        /// `on_success` (also empty), `on_failure` or `always`.
        when: String,
        /// `archive` or the type of a report.
        artifact_type: String,
        /// `zip` (also empty), `gzip` or `raw`.
        artifact_format: String,
        /// Passed on to GitLab.
        expire_in: String,
    }

    /// A cache to restore and save.
    pub struct Cache {
        /// Its key; empty means job and ref.
        key: String,
        /// Also files that git does not track.
        untracked: bool,
        /// `pull-push` (also empty), `pull` or `push`.
        policy: String,
        /// Globs, relative to the project.
        paths: Vec<String>,
        /// When to save it: `on_success` (also empty), `on_failure` or `always`.
        when: String,
        /// Tried in order when the key has no cache.
        fallback_keys: Vec<String>,
    }

    /// Credentials of a registry.
    pub struct Credentials {
        /// `registry` for image pulls.
        #[serde(rename = "type")]
        kind: String,
        /// Host of the registry.
        url: String,
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    }

    /// An earlier job whose artifacts are wanted.
    pub struct Dependency {
        /// Its id.
        id: i64,
        /// Its token, which opens its artifacts.
        token: Secret,
        /// Its name.
        name: String,
        /// The archive; an empty file name means it has none.
        artifacts_file: ArtifactsFile,
    }

    /// The archive of an earlier job.
    pub struct ArtifactsFile {
        /// Its name.
        filename: String,
        /// Its size in bytes.
        size: i64,
    }

    /// The security policy that a job comes from (payload key `policy_options`).
    pub struct PolicyOptions {
        /// Whether it comes from one.
        #[serde(rename = "execution_policy_job")]
        is_of_policy: bool,
        /// The policy's name.
        #[serde(rename = "policy_name")]
        name: String,
        /// Whether variables of users may override those of the policy; those of the policy come
        /// first where it does not say.
        #[serde(rename = "policy_variables_override_allowed")]
        may_override: Option<bool>,
        /// The variables for which the opposite is true.
        #[serde(rename = "policy_variables_override_exceptions")]
        exceptions: Vec<String>,
    }

    /// What this GitLab can do (payload key `features`).
    pub struct Features {
        /// The log viewer understands section markers.
        trace_sections: bool,
        /// Prefixes of tokens to mask, beside the well-known ones.
        token_mask_prefixes: Vec<String>,
        /// Failure reasons this GitLab knows.
        failure_reasons: Vec<String>,
        /// Where a trace of the job is wanted, if anywhere.
        tracing: Option<Tracing>,
    }

    /// A trace that is wanted (OpenTelemetry).
    pub struct Tracing {
        /// Its id: 32 hexadecimal digits.
        trace_id: String,
        /// The span that the job belongs to: 16 hexadecimal digits.
        span_parent_id: String,
        /// Who collects it.
        otel_endpoints: Vec<OtelEndpoint>,
    }

    /// A collector of traces.
    pub struct OtelEndpoint {
        /// Its URL; the scheme says whether it speaks HTTP or gRPC.
        url: String,
        /// How it wants to be convinced, if it does.
        auth: Option<TracingAuth>,
    }

    /// How a collector wants to be convinced.
    pub struct TracingAuth {
        /// `http_bearer_gcp_oidc`.
        #[serde(rename = "type")]
        kind: String,
        /// For the kind of this name.
        http_bearer_gcp_oidc: Option<GcpAudience>,
    }

    /// For whom the identity of a machine in Google's cloud is.
    pub struct GcpAudience {
        /// The collector, as that knows itself.
        audience: String,
    }

    /// A hook of the job's definition.
    pub struct Hook {
        /// `pre_get_sources_script` or `post_get_sources_script`.
        name: String,
        /// One shell command block each.
        script: Vec<String>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_null_are_defaults() {
        let job: JobSpec = serde_json::from_str(
            r#"{"id": 7, "token": "t", "steps": null, "image": null, "git_info": {"ref": null}, "unknown": [1],
                "services": [{"name": "db", "alias": null, "executor_opts": {"kubernetes": {"user": 1000},
                "docker": {"platform": "linux/arm64", "user": 5, "x": []}}}]}"#,
        )
        .unwrap();
        assert_eq!((job.id, job.steps.len(), job.image.name.as_str()), (7, 0, ""));
        let options = &job.services[0].executor_opts;
        assert_eq!(options.kubernetes.user, Some(UserOpt("1000".into())));
        assert_eq!(
            (options.docker.platform.as_str(), &options.docker.user),
            ("linux/arm64", &Some(UserOpt("5".into())))
        );
        assert_eq!((options.docker.unknown.as_slice(), options.unknown.len()), (&["x".to_owned()][..], 0));
        let options: ExecutorOpts = serde_json::from_str(r#"{"kubernetes": null, "podman": {}}"#).unwrap();
        assert_eq!((options.kubernetes, options.unknown), (KubernetesOpts::default(), vec!["podman".to_owned()]));
    }

    #[test]
    fn parts_that_are_not_carried_out_are_seen() {
        let job: JobSpec = serde_json::from_str(
            r#"{"run": "[{}]", "secrets": {"A": {"vault": {"path": "p"}}, "B": {}}, "inputs": [{"key": "age", "value": {"content": 1}}]}"#,
        )
        .unwrap();
        assert_eq!((job.run.as_deref(), job.inputs[0].key.as_str()), (Some("[{}]"), "age"));
        assert_eq!(job.secrets.keys().map(String::as_str).collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(job.secrets["A"].vault.as_ref().map(|vault| vault.path.as_str()), Some("p"));
        let job: JobSpec = serde_json::from_str(r#"{"run": null, "secrets": null, "inputs": null}"#).unwrap();
        assert_eq!((job.run, job.secrets.len(), job.inputs.len()), (None, 0, 0));
    }

    #[test]
    fn wrong_types_are_errors() {
        for bad in [
            r#"{"id": "x"}"#,
            r#"{"steps": {}}"#,
            r#"{"image": {"executor_opts": {"kubernetes": {"user": []}}}}"#,
            r#"{"run": []}"#,
            r#"{"secrets": []}"#,
        ] {
            assert!(serde_json::from_str::<JobSpec>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_output_hides_tokens() {
        let job: JobSpec =
            serde_json::from_str(r#"{"token": "tok3n", "variables": [{"key": "A", "value": "hunter2"}]}"#).unwrap();
        let text = format!("{job:?}");
        assert!(!text.contains("tok3n") && !text.contains("hunter2"), "{text}");
    }
}
