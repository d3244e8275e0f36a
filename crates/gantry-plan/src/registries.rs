//! What a job's pod shows to registries: the logins that it has for the images that it uses, and no
//! others, in a Secret of its own. They come from `DOCKER_AUTH_CONFIG`, from the Docker
//! configuration of the manager's user, and from GitLab, in this order (GitLab Runner 19.4).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_core::Secret;
use gantry_core::job::Credentials;
use k8s_openapi::api::core::v1::{Pod, PodSchedulingGate, PodSpec};
use serde_json::{Map, Value, json};

/// What to say first of something in the variable.
const VARIABLE: &str = "DOCKER_AUTH_CONFIG";

/// The scheduling gate of a pod that is held back until its Secret is there.
pub const GATE: &str = "gantry.dev/logins";

/// The Secret of one job with the logins of its images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullSecret {
    /// Its name, which is the pod's.
    pub name: String,
    /// Its labels, which are the pod's.
    pub labels: BTreeMap<String, String>,
    /// The registries that it is for.
    pub registries: Vec<String>,
    /// Content of its key `.dockerconfigjson`.
    pub config: Secret,
    /// The pod is made first and held back until the Secret is there, so that the Secret is never
    /// without a pod that it goes with.
    pub follows_pod: bool,
}

impl PullSecret {
    /// Holds the pod back, if it is to be.
    pub(crate) fn hold_back(&self, spec: &mut PodSpec) {
        if self.follows_pod {
            spec.scheduling_gates.get_or_insert_default().push(PodSchedulingGate { name: GATE.to_owned() });
        }
    }

    /// Lets a pod do without it.
    pub fn leave_out(&self, pod: &mut Pod) {
        if let Some(secrets) = pod.spec.as_mut().and_then(|spec| spec.image_pull_secrets.as_mut()) {
            secrets.retain(|reference| reference.name != self.name);
        }
    }
}

/// Where logins come from.
pub(crate) struct Sources<'a> {
    /// `DOCKER_AUTH_CONFIG`, of the job or of the runner's `environment`.
    pub(crate) variable: Option<&'a str>,
    /// The Docker configuration of the manager's user: its path and its text.
    pub(crate) file: Option<(&'a str, &'a str)>,
    /// What came with the job.
    pub(crate) credentials: &'a [Credentials],
}

/// Logins, and what has to be said about those that are none.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    /// By registry as it was written; entries of a Docker configuration.
    entries: Vec<(String, Value)>,
    pub(crate) warnings: Vec<String>,
}

impl Logins {
    /// Reads all sources; the first one that has a registry wins.
    pub(crate) fn read(sources: &Sources<'_>, images: &[&str]) -> Self {
        let mut logins = Self::default();
        let variable = sources.variable.filter(|text| !text.trim().is_empty()).map(|text| (VARIABLE, text));
        for (place, text) in variable.into_iter().chain(sources.file) {
            logins.take_config(place, text, images);
        }
        for credentials in sources.credentials.iter().filter(|one| one.kind == "registry") {
            let auth = STANDARD.encode(format!("{}:{}", credentials.username, credentials.password.expose()));
            logins.take(&credentials.url, json!({ "auth": auth }), images);
        }
        logins
    }

    /// The Secret, if there is anything for it.
    pub(crate) fn secret(self, name: &str) -> Option<PullSecret> {
        if self.entries.is_empty() {
            return None;
        }
        let registries = self.entries.iter().map(|(server, _)| server.clone()).collect();
        let auths: BTreeMap<String, Value> = self.entries.into_iter().collect();
        let config = Secret::new(json!({ "auths": auths }).to_string());
        Some(PullSecret { name: name.to_owned(), labels: BTreeMap::new(), registries, config, follows_pod: false })
    }

    /// Takes one login, unless there is one for that registry already or no image is there.
    fn take(&mut self, server: &str, entry: Value, images: &[&str]) {
        let is_known = self
            .entries
            .iter()
            .any(|(known, _)| host_of(known) == host_of(server) && path_of(known) == path_of(server));
        if !is_known && images.iter().any(|image| fits(server, image)) {
            self.entries.push((server.to_owned(), entry));
        }
    }

    /// Takes the logins of a Docker configuration, of the new form or the old.
    fn take_config(&mut self, place: &str, text: &str, images: &[&str]) {
        let config: Map<String, Value> = match serde_json::from_str(text) {
            Ok(config) => config,
            // Its text can be a password.
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                return self.warnings.push(format!(
                    "{place} has no effect: it is not the content of a Docker config.json (line {line}, column {column})"
                ));
            }
        };
        let is_new = ["auths", "credsStore", "credHelpers"].iter().any(|key| config.contains_key(*key));
        let auths = if is_new { config.get("auths").and_then(Value::as_object).cloned() } else { Some(config.clone()) };
        for (server, entry) in auths.unwrap_or_default() {
            if is_login(&entry) {
                self.take(&server, entry, images);
            }
        }
        self.refuse_helpers(place, &config, images);
    }

    /// Says that no credential helper is run, where one would be asked for an image.
    fn refuse_helpers(&mut self, place: &str, config: &Map<String, Value>, images: &[&str]) {
        let text =
            |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let helpers = config.get("credHelpers").and_then(Value::as_object);
        let asked = helpers.into_iter().flatten().filter(|(server, _)| images.iter().any(|image| fits(server, image)));
        let mut named: Vec<String> =
            asked.filter_map(|(server, helper)| Some(format!("{:?} for {server}", text(Some(helper))?))).collect();
        if let Some(store) = text(config.get("credsStore"))
            && place == VARIABLE
        {
            named.push(format!("{store:?} for all registries"));
        }
        if !named.is_empty() {
            self.warnings.push(format!(
                "{place} names the credential helper {}, and this runner runs none: write user and password under \"auths\", name a Secret in \
                 image_pull_secrets, or let the nodes have a credential provider of their kubelet",
                named.join(", ")
            ));
        }
    }
}

fn is_login(entry: &Value) -> bool {
    ["auth", "username", "identitytoken", "registrytoken"]
        .iter()
        .any(|key| entry.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty()))
}

/// The host in an entry's key, which may be a URL.
fn host_of(server: &str) -> &str {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    if ["index.docker.io", "registry-1.docker.io"].contains(&host) { "docker.io" } else { host }
}

/// The path in an entry's key, without the version of the API that old ones have.
fn path_of(server: &str) -> &str {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let path = rest.split_once('/').map_or("", |(_, path)| path).trim_matches('/');
    if ["v1", "v2"].contains(&path) { "" } else { path }
}

/// Whether kubelets show the entry of `server` for an image: the host is the same, `*` standing for
/// parts of one of its labels, and the path is the beginning of the image's (Kubernetes,
/// "Interpretation of config.json").
fn fits(server: &str, image: &str) -> bool {
    let (host, path) = image_parts(image);
    let labels = |host: &str| host.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (wanted, has) = (labels(host_of(server)), labels(host));
    let is_host = wanted.len() == has.len() && wanted.iter().zip(&has).all(|(pattern, label)| is_like(pattern, label));
    let wanted = path_of(server);
    is_host
        && (path == wanted
            || wanted.is_empty()
            || path.strip_prefix(wanted).is_some_and(|rest| rest.starts_with(['/', ':', '@'])))
}

fn is_like(pattern: &str, label: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == label,
        Some((start, end)) => {
            label.len() >= start.len() + end.len() && label.starts_with(start) && label.ends_with(end)
        }
    }
}

/// Host and path of an image, with what everybody leaves out.
fn image_parts(image: &str) -> (&str, &str) {
    match image.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (host_of(first), rest),
        _ => ("docker.io", image),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGES: [&str; 3] = ["registry.example.com/team/app:1", "ruby:3", "eu.mirror.example.com:5000/x"];

    fn registries(sources: &Sources<'_>) -> (Vec<String>, Vec<String>) {
        let logins = Logins::read(sources, &IMAGES);
        let warnings = logins.warnings.clone();
        (logins.secret("p").map(|secret| secret.registries).unwrap_or_default(), warnings)
    }

    fn sources(variable: &str) -> Sources<'_> {
        Sources { variable: Some(variable), file: None, credentials: &[] }
    }

    #[test]
    fn only_what_an_image_needs_is_taken_and_the_first_wins() {
        let gitlab = Credentials {
            kind: "registry".into(),
            url: "registry.example.com".into(),
            username: "gitlab-ci-token".into(),
            password: "tok3n".into(),
        };
        let variable =
            r#"{"auths": {"registry.example.com": {"auth": "Zmlyc3Q6MQ=="}, "other.example.com": {"auth": "eA=="}}}"#;
        let file = r#"{"https://index.docker.io/v1/": {"auth": "aHViOjE="}, "registry.example.com": {"auth": "c2Vjb25kOjI="}}"#;
        let all = Sources {
            variable: Some(variable),
            file: Some(("~/.dockercfg", file)),
            credentials: std::slice::from_ref(&gitlab),
        };
        let secret = Logins::read(&all, &IMAGES).secret("p").unwrap();
        assert_eq!(secret.registries, ["registry.example.com", "https://index.docker.io/v1/"]);
        assert!(secret.config.expose().contains("Zmlyc3Q6MQ==") && !secret.config.expose().contains("c2Vjb25kOjI="));
        let own = Sources { variable: None, file: None, credentials: std::slice::from_ref(&gitlab) };
        let secret = Logins::read(&own, &IMAGES).secret("p").unwrap();
        // gitlab-ci-token:tok3n
        assert_eq!(
            secret.config.expose(),
            r#"{"auths":{"registry.example.com":{"auth":"Z2l0bGFiLWNpLXRva2VuOnRvazNu"}}}"#
        );
        assert_eq!(Logins::read(&own, &["ruby:3"]).secret("p"), None);
    }

    #[test]
    fn entries_fit_as_for_kubelets() {
        assert!(fits("*.mirror.example.com:5000", IMAGES[2]) && !fits("*.example.com:5000", IMAGES[2]));
        assert!(fits("registry.example.com/team", IMAGES[0]) && !fits("registry.example.com/tea", IMAGES[0]));
        assert!(fits("docker.io", "ruby") && fits("https://index.docker.io/v1/", "library/ruby:3"));
        assert!(!fits("registry.example.com", "ruby"));
    }

    #[test]
    fn what_cannot_be_used_is_said_without_its_text() {
        let (none, warnings) = registries(&sources("hunter2"));
        assert_eq!(none, [""; 0]);
        assert_eq!(
            warnings,
            ["DOCKER_AUTH_CONFIG has no effect: it is not the content of a Docker config.json (line 1, column 1)"]
        );
        let helpers =
            r#"{"credsStore": "pass", "credHelpers": {"registry.example.com": "ecr-login", "other.example.com": "x"}}"#;
        let (_, warnings) = registries(&sources(helpers));
        assert!(warnings[0].starts_with(
            r#"DOCKER_AUTH_CONFIG names the credential helper "ecr-login" for registry.example.com, "pass" for"#
        ));
        assert_eq!(registries(&sources("")), (Vec::new(), Vec::new()));
    }
}
