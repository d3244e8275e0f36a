//! What a pod has to show to a registry: the entries of its pull secrets, matched to an image as
//! kubelet does it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::env;
use crate::{
    cluster::Cluster,
    config::Login,
    kubelet_state::images,
    resources,
    store::{
        Key,
        object::{self, items, text},
    },
};

/// What is known for an image.
#[derive(Debug, Default)]
pub(crate) struct PullSecrets {
    /// What the registry is shown, in this order.
    pub(crate) logins: Vec<Login>,
    /// Secrets that the pod names and that are not there.
    pub(crate) missing: Vec<String>,
}

/// Looks for what fits to `image`.
pub(crate) fn find(cluster: &Cluster, pod: &Value, image: &str) -> PullSecrets {
    let mut found = PullSecrets::default();
    for reference in items(pod, &["spec", "imagePullSecrets"]) {
        let name = text(reference, &["name"]);
        let Some(secret) = cluster.store.get(&Key::new(resources::core("secrets"), object::namespace(pod), name))
        else {
            found.missing.push(name.to_owned());
            continue;
        };
        for (key, content) in env::data("secrets", &secret) {
            let content: Value = serde_json::from_slice(&content).unwrap_or_default();
            let registries = match key.as_str() {
                ".dockerconfigjson" => &content["auths"],
                ".dockercfg" => &content,
                _ => continue,
            };
            let fitting = registries.as_object().into_iter().flatten().filter(|(server, _)| fits(server, image));
            found.logins.extend(fitting.filter_map(|(_, entry)| login(entry)));
        }
    }
    found
}

fn login(entry: &Value) -> Option<Login> {
    if let Some(auth) = entry["auth"].as_str().filter(|auth| !auth.is_empty()) {
        let decoded = String::from_utf8(BASE64_STANDARD.decode(auth).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        return Some(Login { user: user.to_owned(), password: password.to_owned() });
    }
    Some(Login { user: entry["username"].as_str()?.to_owned(), password: entry["password"].as_str()?.to_owned() })
}

/// Whether an entry is for an image: the same host, and a path that the image's begins with.
fn fits(server: &str, image: &str) -> bool {
    let server = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let (host, path) = server.split_once('/').unwrap_or((server, ""));
    let path = path.trim_start_matches("v1").trim_start_matches("v2").trim_start_matches('/');
    let full = images::full_name(image);
    let (image_host, image_path) = full.split_once('/').unwrap_or(("", full.as_str()));
    let is_hub = |host: &str| ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host);
    (host == image_host || (is_hub(host) && is_hub(image_host))) && image_path.starts_with(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_fit_by_host_and_path() {
        assert!(
            fits("https://index.docker.io/v1/", "ruby:3") && fits("r.example.com:5000", "r.example.com:5000/a/b:1")
        );
        assert!(
            fits("r.example.com/team", "r.example.com/team/app")
                && !fits("r.example.com/other", "r.example.com/team/app")
        );
        assert!(!fits("r.example.com", "ruby:3"));
    }
}
