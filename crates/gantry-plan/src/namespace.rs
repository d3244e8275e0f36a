//! The namespace of job pods where the config names none: that of the service account whose token
//! the runner uses, because its Role is most likely there; else `default`, as in GitLab Runner
//! 19.4.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gantry_config::KubernetesSettings;
use serde_json::Value;

/// Where pods go when nothing says otherwise.
const DEFAULT: &str = "default";

/// A namespace and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Why this one, for the job log, where the config does not name it.
    pub assumed: Option<&'static str>,
}

/// The namespace of a job's pod.
pub(crate) fn of_job(settings: &KubernetesSettings, job: i64) -> Namespace {
    if settings.namespace_per_job { Namespace { name: per_job(job), assumed: None } } else { namespace(settings) }
}

/// The namespace that is made for a job (GitLab Runner 19.4).
fn per_job(job: i64) -> String {
    format!("{PER_JOB}{job}")
}

/// What the names of namespaces begin with that are made for a job each.
const PER_JOB: &str = "ci-job-";

/// The namespace of a runner's pods.
pub fn namespace(settings: &KubernetesSettings) -> Namespace {
    if let Some(name) = settings.namespace.clone().filter(|name| !name.is_empty()) {
        return Namespace { name, assumed: None };
    }
    // Without a host the token is not used (GitLab Runner 19.4).
    let token = settings.bearer_token.as_ref().filter(|_| settings.host.is_some());
    match token.and_then(|token| namespace_of(token.expose())) {
        Some(name) => Namespace { name, assumed: Some("the one of the bearer token's service account") },
        None => Namespace { name: DEFAULT.to_owned(), assumed: Some("the default") },
    }
}

/// The namespace in the claims of a service account's token: of a bound one, or of an old one out
/// of a Secret (Kubernetes API).
fn namespace_of(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let name = claims["kubernetes.io"]["namespace"]
        .as_str()
        .or_else(|| claims["kubernetes.io/serviceaccount/namespace"].as_str())?;
    gantry_config::names::is_dns_label(name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(claims: &str) -> KubernetesSettings {
        let token = format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
        let (host, bearer_token) = (Some("https://h".to_owned()), Some(token.as_str().into()));
        KubernetesSettings { host, bearer_token, ..KubernetesSettings::default() }
    }

    #[test]
    fn tokens_name_their_namespace() {
        let bound = settings(r#"{"kubernetes.io": {"namespace": "ci", "serviceaccount": {"name": "runner"}}}"#);
        assert_eq!(namespace(&bound).name, "ci");
        let from_secret = settings(r#"{"kubernetes.io/serviceaccount/namespace": "gitlab"}"#);
        assert_eq!(namespace(&from_secret).name, "gitlab");
    }

    #[test]
    fn the_config_wins_and_nonsense_is_default() {
        let named = KubernetesSettings { namespace: Some("own".into()), ..settings("{}") };
        assert_eq!(namespace(&named), Namespace { name: "own".into(), assumed: None });
        for claims in ["{}", "no json", r#"{"kubernetes.io": {"namespace": "../x"}}"#] {
            assert_eq!(namespace(&settings(claims)).name, DEFAULT, "{claims}");
        }
        let opaque = KubernetesSettings { bearer_token: Some("opaque".into()), ..settings("{}") };
        assert_eq!(namespace(&opaque).name, DEFAULT);
    }
}
