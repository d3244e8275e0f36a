//! Files as people have them (`tests/data/collection`), and what is said about each.

use std::fmt::Write as _;
use std::path::Path;

use super::{env, lines};
use crate::load;

macro_rules! files {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../tests/data/collection/", $name)))),*]
    };
}

const FILES: [(&str, &str); 26] = files! {
    "affinity.toml"
    "azure-cache.toml"
    "certificates-and-proxies.toml"
    "docker-in-docker-with-tls.toml"
    "docker-socket-of-the-node.toml"
    "gcs-cache-and-gke.toml"
    "gpu.toml"
    "lists-for-tables.toml"
    "minimal.toml"
    "monitored.toml"
    "pause-pods.toml"
    "persistent-builds.toml"
    "podman.toml"
    "resources-and-overwrites.toml"
    "rootless-buildah.toml"
    "s3-cache-by-role.toml"
    "s3-cache-on-minio.toml"
    "saved-by-register.toml"
    "two-executors.toml"
    "values-karpenter-arm.yaml"
    "values-least-privilege.yaml"
    "values-minimal.yaml"
    "values-openshift.yaml"
    "values-services-and-lifecycle.yaml"
    "windows-nodes.toml"
    "yaml-in-toml.toml"
};

/// The file that a pod of GitLab's chart has in the end: the template of its values, with what
/// `register` adds.
fn of_chart(values: &str) -> String {
    let values: serde_json::Value = serde_saphyr::from_str(values).expect("YAML");
    let template = values.pointer("/runners/config").and_then(serde_json::Value::as_str).expect("a template");
    let url = values["gitlabUrl"].as_str().expect("an address");
    let mut text = String::new();
    for line in template.replace("{{.Release.Namespace}}", "ci").replace("{{ .Release.Namespace }}", "ci").lines() {
        text = text + line + "\n";
        if line.trim() == "[[runners]]" {
            let executor = if template.contains("executor =") { "" } else { "  executor = \"kubernetes\"\n" };
            let _ = write!(text, "  url = \"{url}\"\n  token = \"glrt-example\"\n{executor}");
        }
    }
    text
}

/// Read the difference as the owner of the file would: is it true, and does it say what to do?
#[test]
fn what_is_said_about_files_of_others() {
    let mut said = String::new();
    for (name, text) in FILES {
        let is_of_chart = Path::new(name).extension().is_some_and(|extension| extension == "yaml");
        let text = if is_of_chart { of_chart(text) } else { text.to_owned() };
        let _ = writeln!(said, "--- {name}");
        match load(&text, &env) {
            Ok(loaded) => {
                let errors = loaded.unusable.iter().map(|entry| lines(&entry.errors));
                let (usable, all) = (loaded.settings.runners.len(), text.matches("[[runners]]").count());
                let _ = writeln!(said, "{usable} of {all} usable");
                said += &errors.collect::<String>();
                said += &lines(&loaded.warnings);
            }
            Err(problems) => {
                let _ = write!(said, "cannot be used\n{}", lines(&problems.list));
            }
        }
    }
    insta::assert_snapshot!(said);
}
